"""``report.html``: everything in one file, which fetches nothing."""

import json
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from molpool_calc._version import __version__
from molpool_calc.md.records import write_atomically
from molpool_calc.report.content import RunContent, read_content
from molpool_calc.report.html import Content, Fragment, element, joined, markup
from molpool_calc.report.layers import spectrum_charts
from molpool_calc.report.origin import origin_section
from molpool_calc.report.series import series_data
from molpool_calc.report.summary import (
    band_tables,
    key_numbers,
    peak_tables,
    replica_table,
    sentence_of,
    status_of,
    title_of,
)
from molpool_calc.report.viewer import evaluator_of, modes_data, viewer_data

REPORT = "report.html"

_SCRIPTS = ("drawing.js", "chart.js", "pointing.js", "viewer.js", "page.js")
_VIEWER = "3dmol/3Dmol-min.js"


def write_report(
    folder: Path, *, potential: str | None = None, device: str = "auto"
) -> Path:
    """Write ``report.html`` into the folder of a run, and return its path.

    Args:
        folder: of a run of ``molpool md`` or ``ir``, in any condition.
        potential: bundled name or folder, where the run does not name a bundled one;
            gives the colours of the atoms and the level of theory.
        device: on which the colours are computed.

    Raises:
        ValueError: the folder holds no run, or ``potential`` is not that of the run.
        OSError: the page cannot be written; what was there is left as it was.
    """
    page = render(read_content(folder, potential), device=device)
    write_atomically(folder / REPORT, page.encode())
    return folder / REPORT


def render(content: RunContent, *, device: str = "auto") -> str:
    """Return the page of a run."""
    data = _data(content, device)
    body: dict[str, Content] = {
        "title": title_of(content),
        "sentence": sentence_of(content),
        "status": status_of(content),
        "kind": str(content.manifest["status"]),
        "numbers": key_numbers(content),
        "peaks": peak_tables(content),
        "bands": band_tables(content),
        "replicas": replica_table(content),
        "remarks": _remarks(content),
        "origin": origin_section(content),
        "version": __version__,
    }
    filled = {name: markup(value) for name, value in body.items()}
    return Template(_asset("page.html")).substitute(
        filled,
        style=_asset("style.css"),
        data=_embedded(data),
        licence=_asset("3dmol/LICENSE"),
        viewer=_asset(_VIEWER) if data["trajectory"] or data["modes"] else "",
        scripts="\n".join(map(_asset, _SCRIPTS)),
    )


def _data(content: RunContent, device: str) -> dict[str, Any]:
    run, harmonic = content.run, content.harmonic
    trajectory = None
    if run is not None and len(run.frame_steps):
        trajectory = viewer_data(run, evaluator_of(content, device))
    return {
        "spectra": spectrum_charts(content),
        "series": None if run is None else series_data(run, content.manifest),
        "trajectory": trajectory,
        "modes": None if harmonic is None else modes_data(harmonic),
    }


def _remarks(content: RunContent) -> Fragment:
    """Return what is missing, in words."""
    found = list(content.remarks)
    if not content.spectra:
        found.append("There is no spectrum in this folder; molpool spectrum makes one.")
    return joined(element("p", text, cls="remark") for text in found)


def _embedded(data: dict[str, Any]) -> str:
    """Return JSON in which nothing can end the element that it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files("molpool_calc.report").joinpath("assets", name).read_text("utf-8")
