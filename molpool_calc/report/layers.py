"""Spectra as charts: lines, bands, sticks and measurements in layers, for JSON.

A chart has a title, axis labels and layers; a layer has a ``key`` (its style), a
``name`` (in the legend), a ``kind`` (``line``, ``area``, ``sticks`` or ``labels``)
and its values. ``axis: "right"`` gives it the second scale, ``panel: "mirror"`` hangs
it from the common axis, in the panel of the measurements.
"""

from typing import Any

import numpy as np

from molpool_calc.harmonic_file import HarmonicResult
from molpool_calc.molecules import Experiment
from molpool_calc.report.band_tables import BandTable
from molpool_calc.report.content import RunContent
from molpool_calc.report.numbers import exact, resolved
from molpool_calc.run_spectrum import peak_list
from molpool_calc.spectra import Spectrum

Layer = dict[str, Any]

TITLES = {"ir": "Infrared", "raman": "Raman", "vdos": "Density of states"}
_QUANTITIES = {"ir": "absorption", "raman": "scattering", "vdos": "density of states"}
_STRENGTHS = {
    "ir": "harmonic band strength / km mol⁻¹",
    "raman": "harmonic activity / Å⁴ amu⁻¹",
    "vdos": "",
}
_UNITS_OF_STRENGTHS = {"ir": "km mol⁻¹", "raman": "Å⁴ amu⁻¹"}
_LONGEST_LABEL = 26
_STYLES_OF_SHARES = 8
_MARGIN = 60.0
"""cm⁻¹ shown beyond the highest band."""


def spectrum_charts(content: RunContent) -> list[dict[str, Any]]:
    """Return one chart for each spectrum of a run."""
    return [
        _chart(kind, spectrum, content) for kind, spectrum in content.spectra.items()
    ]


def pretty_unit(unit: str) -> str:
    """Return a unit as it is printed.

    Example:
        >>> pretty_unit("km/mol per cm-1")
        'km mol⁻¹ per cm⁻¹'
    """
    for plain, printed in (
        ("km/mol", "km mol⁻¹"),
        ("cm-1", "cm⁻¹"),
        ("^4", "⁴"),
        ("^2", "²"),
        ("^-30", "⁻³⁰"),
    ):
        unit = unit.replace(plain, printed)
    return unit


def _chart(kind: str, spectrum: Spectrum, content: RunContent) -> dict[str, Any]:
    layers = _lines(spectrum)
    if kind == "vdos":
        layers += _shares(spectrum)
    if content.harmonic is not None:
        layers += _sticks(kind, content.harmonic)
    if kind == "ir" and content.quantum is not None:
        layers.append(_quantum(content.quantum))
    assigned = content.tables.get("assignment") if kind == "ir" else None
    layers.append(_labels(spectrum, assigned))
    if kind == "ir":
        layers += _measured(content)
    return {
        "key": kind,
        "title": TITLES[kind],
        "x": {"label": "wavenumber / cm⁻¹", "unit": "cm⁻¹", "reversed": True},
        "y": {
            "label": f"{_QUANTITIES[kind]} / {pretty_unit(spectrum.unit)}",
            "unit": pretty_unit(spectrum.unit),
        },
        "y2": {"label": _STRENGTHS[kind]},
        "range": [0.0, _upper_end(spectrum, layers)],
        "layers": layers,
    }


def _lines(spectrum: Spectrum) -> list[Layer]:
    x = exact(spectrum.wavenumbers)
    line: Layer = {"key": "line", "name": "dynamics", "kind": "line", "x": x}
    line["y"] = exact(spectrum.intensity)
    if spectrum.lower is None or spectrum.upper is None:
        return [line]
    area: Layer = {"key": "band", "name": "95 % band", "kind": "area", "x": x}
    area |= {"low": exact(spectrum.lower), "high": exact(spectrum.upper)}
    return [area, line]


def _shares(spectrum: Spectrum) -> list[Layer]:
    """Return the shares of elements or atoms, which have the unit of the whole."""
    x = exact(spectrum.wavenumbers)
    return [
        {
            "key": str(k % _STYLES_OF_SHARES),
            "name": name,
            "kind": "line",
            "x": x,
            "y": resolved(values),
        }
        for k, (name, values) in enumerate(spectrum.components.items())
    ]


def _sticks(kind: str, harmonic: HarmonicResult) -> list[Layer]:
    """Return harmonic sticks, numbered as the modes are."""
    infrared = harmonic.spectrum.ir_km_mol if harmonic.has_dipole else None
    heights = {"ir": infrared, "raman": harmonic.spectrum.raman_a4_amu}.get(kind)
    if heights is None:
        return []
    wavenumbers = harmonic.spectrum.wavenumbers_cm1
    return [
        {
            "key": "sticks",
            "name": "harmonic",
            "kind": "sticks",
            "axis": "right",
            "x": exact(np.where(wavenumbers > 0.0, wavenumbers, np.nan)),
            "y": exact(heights),
            "unit": _UNITS_OF_STRENGTHS[kind],
        }
    ]


def _quantum(spectrum: Spectrum) -> Layer:
    """Return the spectrum of ring polymers, over that of the classical run."""
    return {
        "key": "quantum",
        "name": "quantum nuclei",
        "kind": "line",
        "x": exact(spectrum.wavenumbers),
        "y": exact(spectrum.intensity),
    }


def _labels(spectrum: Spectrum, assigned: BandTable | None) -> Layer:
    """Return upright labels: the motions of the bands, else the positions of peaks."""
    layer: Layer = {"key": "labels", "name": "labels", "kind": "labels"}
    if assigned is not None:
        positions = assigned.numbers("band_cm-1")
        names = zip(positions, assigned.texts("label"), strict=True)
        return layer | {
            "x": exact(positions),
            "y": exact(np.interp(positions, spectrum.wavenumbers, spectrum.intensity)),
            "text": [_label(position, name) for position, name in names],
        }
    found = peak_list(spectrum)
    return layer | {
        "x": exact([peak["wavenumber_cm1"] for peak in found]),
        "y": exact([peak["intensity"] for peak in found]),
        "text": [f"{peak['wavenumber_cm1']:.0f}" for peak in found],
    }


def _label(position: float, name: str) -> str:
    text = f"{position:.0f} {name}".strip()
    too_long = len(text) > _LONGEST_LABEL
    return f"{text[: _LONGEST_LABEL - 1].rstrip()}…" if too_long else text


def _measured(content: RunContent) -> list[Layer]:
    """Return the measured curve, else measured peaks or band strengths; top at 1."""
    layer: Layer = {"key": "measured", "panel": "mirror"}
    curve = content.tables.get("experiment_curve")
    if curve is not None and curve.rows:
        values = np.array(curve.numbers("intensity"))
        layer |= {"name": "experiment", "kind": "line"}
        positions = np.array(curve.numbers("wavenumber_cm-1"))
    else:
        name, found = _bundled(content.experiment)
        if not found:
            return []
        layer |= {"name": name, "kind": "sticks"}
        positions, values = np.array(found, np.float64).T
    order = np.argsort(positions)
    top = max(float(values.max()), 1e-300)
    layer |= {"x": exact(positions[order]), "y": resolved(values[order] / top)}
    return [layer]


def _bundled(experiment: Experiment | None) -> tuple[str, list[tuple[float, ...]]]:
    if experiment is None:
        return "", []
    if experiment.peaks:
        return "experiment, gas phase", list(experiment.peaks)
    pairs = zip(
        experiment.fundamentals_cm1, experiment.band_strengths_km_mol, strict=False
    )
    return "experiment, band strengths", list(pairs)


def _upper_end(spectrum: Spectrum, layers: list[Layer]) -> float:
    """Return the highest wavenumber worth showing, in full hundreds."""
    ends = [
        x
        for layer in layers
        if layer["kind"] in ("sticks", "labels")
        for x in layer["x"]
        if x is not None
    ]
    end = float(spectrum.wavenumbers[-1])
    if not ends:
        return end
    return float(min(100.0 * np.ceil((1.02 * max(ends) + _MARGIN) / 100.0), end))
