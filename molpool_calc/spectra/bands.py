"""Bands of a spectrum: maxima of it at the width that rotation gives to a band."""

from dataclasses import dataclass
from math import pi

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.units import BOLTZMANN, FEMTOSECOND

# Two equal lines merge under a Gaussian of 1.18 times their distance.
_MERGING = 1.2
_NARROWEST = 12.0
# A band ends where it has fallen to this fraction of its height, or at a valley.
_FOOT = 0.05
_THRESHOLD = 0.03
_PROMINENCE = 0.02
_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
_POINTS_PER_WIDTH = 8.0

Values = Float[np.ndarray, " bins"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """Position and limits of a band, cm⁻¹, and its height after smoothing."""

    position: float
    low: float
    high: float
    height: float


def band_width(
    positions: Float[np.ndarray, "atoms 3"],
    masses: Float[np.ndarray, " atoms"],
    temperature: float,
) -> float:
    """Return the smoothing (FWHM, cm⁻¹) under which a band is one maximum.

    Rotation splits a band into branches ``Δν̃ = √(k_BT/I)/(πc)`` apart, classically and
    in experiment (Gerhard & Dennison 1933, Phys. Rev. 43, 197, for a linear molecule;
    ``I`` is the mean of the two largest moments of inertia of any other). Smoothing by
    1.2 times that makes one maximum of them.

    Args:
        positions: Å.
        masses: amu.
        temperature: K.

    Example:
        >>> import numpy as np
        >>> positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1283]])
        >>> branches = band_width(positions, np.array([12.0, 15.995]), 300.0) / 1.2
        >>> round(branches)  # CO, B = 1.931 cm⁻¹: √(8·B·k_BT/hc)
        57
    """
    arms = positions - masses @ positions / masses.sum()
    second = np.einsum("a,ax,ay->xy", masses, arms, arms)
    moments = np.linalg.eigvalsh(np.trace(second) * np.eye(3) - second)
    inertia = float(moments[1:].mean())
    if inertia <= 0.0:
        return _NARROWEST
    # √(eV/(amu·Å²)) is one over the internal unit of time.
    per_fs = np.sqrt(BOLTZMANN * temperature / inertia) * FEMTOSECOND
    return max(_MERGING * float(per_fs) / (pi * CM_PER_FS), _NARROWEST)


def find_bands(wavenumbers: Values, intensity: Values, *, width: float) -> list[Band]:
    """Return the bands of a spectrum by ascending wavenumber.

    A band is a maximum of the spectrum convolved with a Gaussian. It reaches to where
    the convolved spectrum has fallen to 5 % of its height, or to the valley before the
    next band. Bands lower than 3 % of the highest are left out.

    Args:
        wavenumbers: Ascending, cm⁻¹.
        intensity: In any unit.
        width: Full width at half maximum of the Gaussian, cm⁻¹.
    """
    grid, smooth = smoothed(wavenumbers, intensity, width)
    top = float(smooth.max(initial=0.0))
    if top <= 0.0:
        return []
    tops, _ = find_peaks(smooth, height=_THRESHOLD * top, prominence=_PROMINENCE * top)
    bands = []
    for number, peak in enumerate(tops):
        left = tops[number - 1] if number else 0
        right = tops[number + 1] if number + 1 < len(tops) else len(grid) - 1
        first = left + int(np.argmin(smooth[left : peak + 1]))
        last = peak + int(np.argmin(smooth[peak : right + 1]))
        foot = _FOOT * smooth[peak]
        below = np.flatnonzero(smooth[first:peak] < foot)
        first = first + int(below[-1]) if len(below) else first
        below = np.flatnonzero(smooth[peak : last + 1] < foot)
        last = peak + int(below[0]) if len(below) else last
        bands.append(
            Band(
                position=float(grid[peak]),
                low=float(grid[first]),
                high=float(grid[last]),
                height=float(smooth[peak]),
            )
        )
    return bands


def smoothed(
    wavenumbers: Values, intensity: Values, width: float
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Return a spectrum convolved with a Gaussian, on an even grid.

    Args:
        wavenumbers: Ascending, cm⁻¹.
        intensity: In any unit.
        width: Full width at half maximum of the Gaussian, cm⁻¹.
    """
    spacing = min(float(np.median(np.diff(wavenumbers))), width / _POINTS_PER_WIDTH)
    n_points = int((wavenumbers[-1] - wavenumbers[0]) / spacing) + 1
    grid = np.linspace(wavenumbers[0], wavenumbers[-1], n_points)
    even = np.interp(grid, wavenumbers, intensity)
    step = float(grid[1] - grid[0])
    return grid, gaussian_filter1d(even, width / _FWHM / step, mode="nearest")
