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
    layers.append(_labels(spectrum))
    if kind == "ir" and content.experiment is not None:
        layers += _measured(content.experiment)
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


def _labels(spectrum: Spectrum) -> Layer:
    found = peak_list(spectrum)
    return {
        "key": "labels",
        "name": "labels",
        "kind": "labels",
        "x": exact([peak["wavenumber_cm1"] for peak in found]),
        "y": exact([peak["intensity"] for peak in found]),
        "text": [f"{peak['wavenumber_cm1']:.0f}" for peak in found],
    }


def _measured(experiment: Experiment) -> list[Layer]:
    """Return measured peaks, else band strengths, the greatest as 1."""
    positions, heights = experiment.fundamentals_cm1, experiment.band_strengths_km_mol
    name = "experiment, band strengths"
    if experiment.peaks:
        positions, heights = zip(*experiment.peaks, strict=True)
        name = "experiment, gas phase"
    if not heights:
        return []
    return [
        {
            "key": "measured",
            "name": name,
            "kind": "sticks",
            "panel": "mirror",
            "x": exact(positions),
            "y": resolved(np.array(heights) / max(heights)),
        }
    ]


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
