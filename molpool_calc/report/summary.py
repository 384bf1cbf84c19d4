"""The words and numbers at the top of a report, and the tables below its charts."""

from typing import Any, NamedTuple

import numpy as np

from molpool_calc.report.content import RunContent
from molpool_calc.report.html import Content, Fragment, element, joined, table
from molpool_calc.report.layers import pretty_unit
from molpool_calc.run_spectrum import peak_list
from molpool_calc.spectra import Spectrum

_NAMES = {"ir": "infrared", "raman": "Raman", "vdos": "density of states"}
_ENSEMBLES = {"nve": "at constant energy", "nvt": "at constant temperature"}
_TABLES = {
    "assignment": "What moves in the bands",
    "experiment": "Computed beside measured bands",
}
_FOREMOST = 3
"""Peaks named at the top."""


class KeyNumber(NamedTuple):
    """A number at the top: what it is, its value, and what to know of it."""

    name: str
    value: str
    remark: str = ""


def title_of(content: RunContent) -> str:
    """Return the heading: what the run is of."""
    kind = "Infrared spectrum" if "ir" in content.spectra else "Molecular dynamics"
    return f"{kind} of {content.system}"


def sentence_of(content: RunContent) -> str:
    """Return in one sentence what was done."""
    dynamics, inputs = content.manifest["dynamics"], content.manifest["inputs"]
    n_replicas, timestep = dynamics["n_replicas"], dynamics["timestep_fs"]
    length = content.manifest["steps_done"] * timestep / 1e3
    replicas = "One replica" if n_replicas == 1 else f"{n_replicas} replicas"
    each = "" if n_replicas == 1 else " each"
    ensemble = str(dynamics["ensemble"])
    temperature = dynamics.get("temperature") or inputs.get("temperature")
    hot = "" if temperature is None else f" at {temperature:g} K"
    if ensemble == "nve" and temperature is not None:
        hot = f" from {temperature:g} K"
    potential = inputs.get("potential", "a force field of the caller")
    if isinstance(potential, list):
        potential = f"the committee of {', '.join(potential)}"
    level = (content.potential or {}).get("level_of_theory")
    return (
        f"{replicas} of {content.formula} moved for {length:g} ps{each} "
        f"{_ENSEMBLES.get(ensemble, ensemble)}{hot}, in steps of {timestep:g} fs, with "
        f"{potential}{f' ({level})' if level else ''}."
    )


def status_of(content: RunContent) -> str:
    """Return how far the run came, and what stopped it if anything did."""
    manifest = content.manifest
    status, done, asked = (manifest[k] for k in ("status", "steps_done", "n_steps"))
    if status == "finished":
        return "finished"
    if status == "running":
        recorded = 0 if content.run is None else len(content.run.times_fs) - 1
        return f"running or killed, {recorded} of {asked} steps recorded"
    reason = f": {manifest['reason']}" if manifest.get("reason") else ""
    return f"{status} after {done} of {asked} steps{reason}"


def key_numbers(content: RunContent) -> Fragment:
    """Return the numbers that matter, as cards."""
    found = [
        *(_integral(kind, s) for kind, s in content.spectra.items()),
        *([] if content.quantum is None else [_quantum(content.quantum)]),
        *(_strongest(s) for kind, s in content.spectra.items() if kind == "ir"),
        *_of_dynamics(content),
    ]
    cards = [
        element(
            "div",
            element("dt", number.name),
            element(
                "dd", element("strong", number.value), element("span", number.remark)
            ),
        )
        for number in found
    ]
    return element("dl", *cards, cls="cards")


def _integral(kind: str, spectrum: Spectrum) -> KeyNumber:
    facts = spectrum.metadata
    density = " per cm-1"
    whole = spectrum.unit.removesuffix(density)
    unit = pretty_unit(whole if whole != spectrum.unit else f"{whole} cm-1")
    value = facts.get("integral")
    if value is None:  # a file of an older version
        value = float(np.trapezoid(spectrum.intensity, spectrum.wavenumbers))
    low, high = facts.get("integral_lower"), facts.get("integral_upper")
    remark = "no interval" if low is None else f"95 %: {low:.4g} to {high:.4g}"
    return KeyNumber(f"{_NAMES[kind]}, total", f"{value:.4g} {unit}", remark)


def _quantum(spectrum: Spectrum) -> KeyNumber:
    number = _integral("ir", spectrum)
    return number._replace(name="with quantum nuclei, total")


def _strongest(spectrum: Spectrum) -> KeyNumber:
    found = sorted(peak_list(spectrum), key=lambda peak: -peak["intensity"])
    named = ", ".join(f"{peak['wavenumber_cm1']:.0f}" for peak in found[:_FOREMOST])
    finest = spectrum.metadata.get("resolution_cm1")
    remark = "" if finest is None else f"resolution {finest:.3g} cm⁻¹"
    return KeyNumber("strongest peaks", f"{named or 'none'} cm⁻¹", remark)


def _of_dynamics(content: RunContent) -> list[KeyNumber]:
    manifest = content.manifest
    found = []
    means = manifest.get("mean_temperature")
    if means:
        asked = manifest["inputs"].get("temperature")
        remark = "" if asked is None else f"asked for {asked:g} K"
        found.append(KeyNumber("mean temperature", f"{np.mean(means):.0f} K", remark))
    drift = manifest.get("drift_mev_per_atom_per_ps")
    if drift:
        largest = max(drift, key=abs)
        remark = "meV/atom/ps, largest of the replicas"
        found.append(KeyNumber("drift of energy", f"{largest:+.2g}", remark))
    stopped = manifest.get("stopped") or []
    remark = f"{len(stopped)} stopped" if stopped else "none stopped"
    n_replicas = str(manifest["dynamics"]["n_replicas"])
    return [*found, KeyNumber("replicas", n_replicas, remark)]


def peak_tables(content: RunContent) -> Fragment:
    """Return one table of peaks for each spectrum."""
    return joined(
        _peak_table(kind, spectrum, content)
        for kind, spectrum in content.spectra.items()
    )


def band_tables(content: RunContent) -> Fragment:
    """Return the assignment of the bands and their comparison with experiment."""
    return joined(
        table(
            f"{caption} ({found.unit})",
            [_heading(column) for column in found.columns],
            [[field.replace(";", "; ") for field in row] for row in found.rows],
        )
        for name, caption in _TABLES.items()
        if (found := content.tables.get(name)) is not None
    )


def _heading(column: str) -> str:
    return (
        column.replace("_km_mol", ", km/mol")
        .replace("_cm-1", ", cm⁻¹")
        .replace("_", " ")
    )


def _peak_table(kind: str, spectrum: Spectrum, content: RunContent) -> Fragment:
    unit = pretty_unit(spectrum.unit)
    header = ["cm⁻¹", unit, "95 % band", "nearest harmonic, cm⁻¹"]
    rows: list[list[Content]] = [
        [
            f"{peak['wavenumber_cm1']:.1f}",
            f"{peak['intensity']:.4g}",
            _limits(spectrum, peak["wavenumber_cm1"]),
            _nearest(content, peak["wavenumber_cm1"]),
        ]
        for peak in peak_list(spectrum)
    ]
    name = _NAMES[kind]
    return table(f"{name[0].upper()}{name[1:]}: peaks", header, rows)


def _limits(spectrum: Spectrum, position: float) -> str:
    if spectrum.lower is None or spectrum.upper is None:
        return "–"
    limits = [
        float(np.interp(position, spectrum.wavenumbers, values))
        for values in (spectrum.lower, spectrum.upper)
    ]
    return " to ".join(f"{value:.4g}" for value in limits)


def _nearest(content: RunContent, position: float) -> str:
    if content.harmonic is None or not len(content.harmonic.spectrum.wavenumbers_cm1):
        return "–"
    wavenumbers = content.harmonic.spectrum.wavenumbers_cm1
    nearest = float(wavenumbers[np.argmin(np.abs(wavenumbers - position))])
    return f"{nearest:.1f} ({position - nearest:+.1f})"


def replica_table(content: RunContent) -> Fragment:
    """Return temperature, drift and end of each replica."""
    manifest = content.manifest
    n_replicas = manifest["dynamics"]["n_replicas"]
    means = manifest.get("mean_temperature") or [None] * n_replicas
    drift = manifest.get("drift_mev_per_atom_per_ps") or [None] * n_replicas
    reasons = _reasons(manifest)
    rows: list[list[Content]] = [
        [
            str(k),
            "–" if means[k] is None else f"{means[k]:.1f}",
            "–" if drift[k] is None else f"{drift[k]:+.3g}",
            reasons.get(k, "–"),
        ]
        for k in range(n_replicas)
    ]
    header = ["replica", "mean temperature, K", "drift, meV/atom/ps", "stopped by"]
    return table("Replicas", header, rows)


def _reasons(manifest: dict[str, Any]) -> dict[int, str]:
    return {
        int(entry["replica"]): str(entry.get("reason", "a guard"))
        for entry in manifest.get("stopped") or []
    }
