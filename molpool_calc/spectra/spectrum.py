"""The record of a spectrum, and what is read from one: bands and peaks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy.integrate import trapezoid
from scipy.signal import find_peaks

from molpool_calc.spectra.confidence import FEWEST_UNITS, confidence_band
from molpool_calc.spectra.estimator import Fact

INFRARED_UNIT = "km/mol per cm-1"
BULK_UNIT = "cm-1"
MOLAR_ABSORPTION_UNIT = "L/mol/cm"
# 1 km/mol = 100 L mol⁻¹ cm⁻², and decadic = napierian / ln 10.
_MOLAR_ABSORPTION = 100.0 / log(10.0)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Spectrum:
    """Intensities at ascending positive wavenumbers (cm⁻¹) with a 95 % band.

    ``intensity`` is the mean of ``units_intensity``, the spectra of independent units
    (replicas or blocks). ``lower`` and ``upper`` are ``None`` where no band can be
    given; ``metadata["band"]`` says why, or what the band rests on. ``components``
    are further quantities at the same wavenumbers, such as the shares of elements.
    """

    wavenumbers: Float[np.ndarray, " bins"]
    intensity: Float[np.ndarray, " bins"]
    lower: Float[np.ndarray, " bins"] | None
    upper: Float[np.ndarray, " bins"] | None
    units_intensity: Float[np.ndarray, "units bins"]
    unit: str
    metadata: Mapping[str, Fact]
    components: Mapping[str, Float[np.ndarray, " bins"]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class BandIntegral:
    """An integral over wavenumbers with its 95 % limits, ``None`` if unknown."""

    value: float
    lower: float | None
    upper: float | None


def spectrum_from_units(
    wavenumbers: Float[np.ndarray, " bins"],
    units: Float[np.ndarray, "units bins"],
    *,
    unit: str,
    facts: Mapping[str, Fact],
    components: Mapping[str, Float[np.ndarray, " bins"]] | None = None,
) -> Spectrum:
    """Return the mean over units as a spectrum, with its band if there can be one.

    Its metadata state the integral over all wavenumbers and the 95 % limits of it,
    which cannot be had from the band.
    """
    band = confidence_band(units)
    spectrum = Spectrum(
        wavenumbers=wavenumbers,
        intensity=units.mean(axis=0),
        lower=None if band is None else band[0],
        upper=None if band is None else band[1],
        units_intensity=units,
        unit=unit,
        metadata=MappingProxyType({**facts, "band": _describe_band(units, facts)}),
        components=dict(components or {}),
    )
    total = total_integral(spectrum)
    stated: dict[str, Fact] = {
        "integral": total.value,
        "integral_lower": total.lower,
        "integral_upper": total.upper,
    }
    return replace(spectrum, metadata=MappingProxyType({**spectrum.metadata, **stated}))


def _describe_band(
    units: Float[np.ndarray, "units bins"], facts: Mapping[str, Fact]
) -> str:
    n_units = units.shape[0]
    if n_units < FEWEST_UNITS:
        return (
            f"none: {n_units} independent units do not show their spread; "
            f"run {FEWEST_UNITS} replicas or longer"
        )
    if facts.get("n_blocks") == 1:
        return f"95 % from the spread of {n_units} replicas"
    return (
        f"95 % from the spread of {n_units} blocks; what changes more slowly than a "
        "block, such as the energies of modes in an NVE run, is not in it"
    )


def band_integral(spectrum: Spectrum, low: float, high: float) -> BandIntegral:
    """Return the integral from ``low`` to ``high`` (cm⁻¹) with a 95 % interval.

    The interval comes from the integrals of the units, since the values of
    neighbouring bins are not independent. Outside its range a spectrum counts as zero.

    Raises:
        ValueError: The limits are not in ascending order.
    """
    integrals = band_integrals(spectrum, low, high)
    band = None if spectrum.lower is None else confidence_band(integrals[:, None])
    return BandIntegral(
        value=float(integrals.mean()),
        lower=None if band is None else float(band[0][0]),
        upper=None if band is None else float(band[1][0]),
    )


def band_integrals(
    spectrum: Spectrum, low: float, high: float
) -> Float[np.ndarray, " units"]:
    """Return the integral from ``low`` to ``high`` (cm⁻¹) of each independent unit.

    Raises:
        ValueError: The limits are not in ascending order.
    """
    if not low < high:
        raise ValueError(
            f"the band runs from {low:g} to {high:g} cm-1; give the lower limit first"
        )
    x = spectrum.wavenumbers
    ends = np.clip([low, high], x[0], x[-1])
    inner = (x > ends[0]) & (x < ends[1])
    grid = np.concatenate([ends[:1], x[inner], ends[1:]])
    return np.array(
        [trapezoid(np.interp(grid, x, y), grid) for y in spectrum.units_intensity]
    )


def total_integral(spectrum: Spectrum) -> BandIntegral:
    """Return the integral over all reported wavenumbers with a 95 % interval."""
    return band_integral(spectrum, 0.0, float(spectrum.wavenumbers[-1]))


def peaks(
    spectrum: Spectrum, *, threshold: float = 0.03, prominence: float = 0.02
) -> list[tuple[float, float]]:
    """Return position (cm⁻¹) and intensity of the peaks, by ascending wavenumber.

    Positions are the tops of parabolas through three bins. Of peaks closer to each
    other than the resolution, only the highest counts.

    Args:
        spectrum: Where to look.
        threshold: Least height, relative to the highest value of the spectrum.
        prominence: Least rise above the higher of the two adjacent valleys, relative
            to the highest value of the spectrum.
    """
    x, y = spectrum.wavenumbers, spectrum.intensity
    top = float(y.max())
    if top <= 0.0:
        return []
    resolution = spectrum.metadata.get("resolution_cm1")
    apart = float(resolution) / float(x[1] - x[0]) if resolution else 1.0
    found, _ = find_peaks(
        y, height=threshold * top, prominence=prominence * top, distance=max(apart, 1.0)
    )
    return [_vertex(x[i - 1 : i + 2], y[i - 1 : i + 2]) for i in found]


def _vertex(
    x: Float[np.ndarray, " 3"], y: Float[np.ndarray, " 3"]
) -> tuple[float, float]:
    curvature, slope, _ = np.polyfit(x - x[1], y - y[1], 2)
    if curvature >= 0.0:  # a flat top
        return float(x[1]), float(y[1])
    offset = -slope / (2.0 * curvature)
    return float(x[1] + offset), float(y[1] + slope * offset / 2.0)


def molar_absorption(spectrum: Spectrum) -> Spectrum:
    """Return the decadic molar absorption coefficient in L mol⁻¹ cm⁻¹.

    ``ε(ν̃) = A(ν̃)/ln 10`` with 1 km/mol = 100 L mol⁻¹ cm⁻².

    Raises:
        ValueError: The spectrum is not in km/mol per cm⁻¹.
    """
    if spectrum.unit != INFRARED_UNIT:
        raise ValueError(
            f"a spectrum in {spectrum.unit} has no molar absorption coefficient; "
            f"give an infrared spectrum in {INFRARED_UNIT}"
        )
    lower, upper = spectrum.lower, spectrum.upper
    stated = {
        name: fact * _MOLAR_ABSORPTION
        for name, fact in spectrum.metadata.items()
        if name.startswith("integral") and isinstance(fact, float)
    }
    return replace(
        spectrum,
        metadata=MappingProxyType({**spectrum.metadata, **stated}),
        intensity=spectrum.intensity * _MOLAR_ABSORPTION,
        lower=None if lower is None else lower * _MOLAR_ABSORPTION,
        upper=None if upper is None else upper * _MOLAR_ABSORPTION,
        units_intensity=spectrum.units_intensity * _MOLAR_ABSORPTION,
        unit=MOLAR_ABSORPTION_UNIT,
    )
