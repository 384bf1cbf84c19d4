"""By how much bands shift between two spectra of one molecule."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.integrate import cumulative_trapezoid
from scipy.special import stdtrit

from molpool_calc.spectra.spectrum import Spectrum

# Harmonic modes further apart than this (cm⁻¹) belong to different bands.
_GAP = 150.0
# A band of moving nuclei lies at most this far (cm⁻¹) outside its harmonic modes.
_REACH = 300.0
# Bands with less than this fraction of the whole intensity are left out.
_FAINT = 0.003
# Probability above the upper 95 % limit.
_TAIL = 0.025


@dataclass(frozen=True, kw_only=True, slots=True)
class BandShift:
    """Where one band lies in two spectra; all in cm⁻¹.

    ``first`` and ``second`` are the wavenumbers that halve the integral from ``low`` to
    ``high``, which several modes may share; ``error`` is half the 95 % interval of
    their difference, from the spread of the units of both; ``None`` with one unit.
    """

    low: float
    high: float
    modes: tuple[float, ...]
    first: float
    second: float
    error: float | None

    @property
    def shift(self) -> float:
        """From the first to the second; negative is red."""
        return self.second - self.first


def band_shifts(
    first: Spectrum, second: Spectrum, modes: Sequence[float]
) -> list[BandShift]:
    """Return the shifts of all bands that are in both spectra.

    Args:
        first: for instance with classical nuclei.
        second: for instance with quantum nuclei.
        modes: harmonic wavenumbers of the molecule, cm⁻¹; those closer to each other
            than 150 cm⁻¹ make one band.
    """
    return [
        _shift(first, second, low, high, group)
        for low, high, group in _windows(modes)
        if min(_fraction(first, low, high), _fraction(second, low, high)) > _FAINT
    ]


def _windows(modes: Sequence[float]) -> list[tuple[float, float, tuple[float, ...]]]:
    ordered = sorted(mode for mode in modes if mode > 0.0)
    groups: list[list[float]] = []
    for mode in ordered:
        if groups and mode - groups[-1][-1] < _GAP:
            groups[-1].append(mode)
        else:
            groups.append([mode])
    windows = []
    for k, group in enumerate(groups):
        low, high = max(group[0] - _REACH, 0.0), group[-1] + _REACH
        if k > 0:
            low = max(low, (groups[k - 1][-1] + group[0]) / 2.0)
        if k + 1 < len(groups):
            high = min(high, (group[-1] + groups[k + 1][0]) / 2.0)
        windows.append((low, high, tuple(group)))
    return windows


def _shift(
    first: Spectrum,
    second: Spectrum,
    low: float,
    high: float,
    modes: tuple[float, ...],
) -> BandShift:
    middles = [_middles(spectrum, low, high) for spectrum in (first, second)]
    errors = [_error(units) for units in middles]
    known = np.array([error for error in errors if error is not None])
    return BandShift(
        low=low,
        high=high,
        modes=modes,
        first=_middle(first.wavenumbers, first.intensity, low, high),
        second=_middle(second.wavenumbers, second.intensity, low, high),
        error=float(np.linalg.norm(known)) if len(known) == len(errors) else None,
    )


def _middles(
    spectrum: Spectrum, low: float, high: float
) -> Float[np.ndarray, " units"]:
    return np.array(
        [
            _middle(spectrum.wavenumbers, unit, low, high)
            for unit in spectrum.units_intensity
        ]
    )


def _middle(
    x: Float[np.ndarray, " bins"],
    y: Float[np.ndarray, " bins"],
    low: float,
    high: float,
) -> float:
    """Return the wavenumber that halves the integral of a band."""
    inside = (x >= low) & (x <= high)
    below = cumulative_trapezoid(np.maximum(y[inside], 0.0), x[inside], initial=0.0)
    return float(np.interp(0.5 * below[-1], below, x[inside]))


def _error(units: Float[np.ndarray, " units"]) -> float | None:
    n = len(units)
    if n < 2:  # noqa: PLR2004 - a spread
        return None
    quantile = -float(stdtrit(n - 1, _TAIL))
    return quantile * float(units.std(ddof=1)) / float(np.sqrt(n))


def _fraction(spectrum: Spectrum, low: float, high: float) -> float:
    x, y = spectrum.wavenumbers, spectrum.intensity
    inside = (x >= low) & (x <= high)
    return float(y[inside].sum() / max(float(y.sum()), 1e-300))
