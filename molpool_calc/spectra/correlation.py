"""Correlation functions and their transforms: what every spectrum is made of.

Everything here works on one series of equally spaced samples and knows no physics
but the speed of light. Wavenumbers are in cm⁻¹, times in fs.
"""

from math import pi
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy.fft import irfft, next_fast_len, rfft
from scipy.optimize import brentq

from molpool_calc.units import SPEED_OF_LIGHT

CM_PER_FS = SPEED_OF_LIGHT * 100.0 * 1e-15
"""Speed of light in cm/fs: ``ω = 2π·CM_PER_FS·wavenumber`` is in rad/fs."""

Window = Literal["hann", "cosine-squared", "blackman-harris", "gaussian", "exponential"]

# Coefficients of cos(kπs). Blackman-Harris: Harris 1978, Table 1 (four terms, 92 dB).
# From its middle outwards the Hann window is cos²(πs/2): two names, one window.
_COSINE_SUMS = {
    "hann": (0.5, 0.5),
    "cosine-squared": (0.5, 0.5),
    "blackman-harris": (0.35875, 0.48829, 0.14128, 0.01168),
}
# ln w(1) of the windows that never reach zero: -ln(1e4) and -ln(1e3), so that cutting
# them off leaves ripples below 1e-4 of a line's height beside the line.
_LOG_AT_END = {"gaussian": -9.2103, "exponential": -6.9078}


def window_values(
    window: Window, fraction: Float[np.ndarray, " lags"]
) -> Float[np.ndarray, " lags"]:
    """Return the lag window at the given fractions of its length, 1 at zero.

    Args:
        window: Name of the window; ``hann`` and ``cosine-squared`` are the same.
        fraction: Lag divided by the lag length; the window is zero beyond 1.

    Raises:
        ValueError: There is no such window.
    """
    if window in _COSINE_SUMS:
        terms = enumerate(_COSINE_SUMS[window])
        values = sum(a * np.cos(k * pi * fraction) for k, a in terms)
    elif window == "gaussian":
        values = np.exp(_LOG_AT_END[window] * fraction**2)
    elif window == "exponential":
        values = np.exp(_LOG_AT_END[window] * fraction)
    else:
        raise ValueError(
            f"there is no window {window}; take one of {', '.join(get_args(Window))}"
        )
    return np.where(fraction <= 1.0, values, 0.0)


def half_width(window: Window, *, taper: float = 0.0) -> float:
    """Return where the transform of a window has fallen to half its height.

    The number is the dimensionless ``y`` with ``W(y) = W(0)/2`` for
    ``W(y) = ∫₀¹ w(s)·(1 - taper·s)·cos(ys) ds``. A window of length ``L`` then draws
    a sharp line with the full width at half maximum ``y/(πcL)`` in cm⁻¹.

    Args:
        window: Name of the window.
        taper: Lag length over length of the run. A biased autocorrelation falls by
            this fraction over the window, which widens the line.
    """
    fraction = (np.arange(1000) + 0.5) / 1000.0  # midpoint rule, good to 1e-6
    tapered = window_values(window, fraction) * (1.0 - taper * fraction)

    def above_half(y: float) -> float:
        return float(tapered @ (np.cos(y * fraction) - 0.5))

    return float(brentq(above_half, 0.1, 10.0, xtol=1e-10))


def shortest_length_fs(window: Window, resolution: float, *, biased: bool) -> float:
    """Return the shortest run that can give a resolution (cm⁻¹), in fs."""
    return half_width(window, taper=float(biased)) / (pi * CM_PER_FS * resolution)


def lag_length_fs(
    window: Window, resolution: float, length_fs: float, *, biased: bool = True
) -> float:
    """Return the lag length with which a sharp line gets the asked width, in fs.

    Solves ``y(L/length)/(πcL) = resolution`` for ``L``, with ``y`` of `half_width`.
    The taper of the biased autocorrelation is thus part of the resolution.

    Args:
        window: Name of the lag window.
        resolution: Full width at half maximum of a sharp line, cm⁻¹.
        length_fs: Length of the series.
        biased: Whether the autocorrelation will be biased.

    Raises:
        ValueError: The series is too short for the resolution.
    """
    shortest = shortest_length_fs(window, resolution, biased=biased)
    if length_fs < shortest:
        raise ValueError(
            f"a run of {length_fs:g} fs is too short for a resolution of "
            f"{resolution:g} cm-1 with the {window} window, which needs "
            f"{shortest:.0f} fs; ask for {resolution * shortest / length_fs:.3g} cm-1 "
            "or more, or run longer"
        )
    target = pi * CM_PER_FS * resolution * length_fs
    start = half_width(window) / target
    if not biased:
        return start * length_fs

    def excess(ratio: float) -> float:
        return half_width(window, taper=ratio) / ratio - target

    return float(brentq(excess, start, 1.0 + 1e-9)) * length_fs


def autocorrelation(
    series: Float[np.ndarray, "steps components"], n_lags: int, *, biased: bool = True
) -> Float[np.ndarray, " lags"]:
    """Return the autocorrelation ``C_k = Σ_c ⟨x_c(0)·x_c(k)⟩``, summed over components.

    The mean of every component is removed. No component is normalised on its own:
    that would change the ratios of bands of different polarisation.

    Args:
        series: Samples of a vector (a single number is one component).
        n_lags: Number of lags, the first of which is zero.
        biased: Divide by the number of samples (positive semi-definite) instead of
            by the number of products at each lag.

    Raises:
        ValueError: There are not as many samples as lags.
    """
    n_steps = series.shape[0]
    if not 1 <= n_lags <= n_steps:
        raise ValueError(
            f"{n_lags} lags were asked of a series of {n_steps} samples; "
            f"ask for 1 to {n_steps}"
        )
    centred = np.asarray(series, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    n_padded = next_fast_len(n_steps + n_lags - 1, real=True)
    transform = rfft(centred, n_padded, axis=0)
    power = (transform.real**2 + transform.imag**2).sum(axis=1)
    sums = irfft(power, n_padded)[:n_lags]
    products = n_steps if biased else n_steps - np.arange(n_lags)
    return np.asarray(sums / products)


def even_transform(
    correlation: Float[np.ndarray, " lags"], timestep_fs: float, n_points: int
) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """Return wavenumbers (cm⁻¹) and ``∫ C(t)·exp(-2πicν̃t) dt`` over all times.

    The correlation is mirrored at zero lag, so that the transform is real, and padded
    with zeros to ``n_points``. Its unit is that of the correlation times fs.

    Raises:
        ValueError: ``n_points`` cannot hold the mirrored correlation.
    """
    n_lags = correlation.shape[0]
    if n_points < 2 * n_lags - 1:
        raise ValueError(
            f"{n_points} points cannot hold {n_lags} lags and their mirror image; "
            f"ask for {2 * n_lags - 1} or more"
        )
    mirrored = np.zeros(n_points)
    mirrored[:n_lags] = correlation
    mirrored[n_points - n_lags + 1 :] = correlation[:0:-1]
    wavenumbers = np.arange(n_points // 2 + 1) / (n_points * timestep_fs * CM_PER_FS)
    return wavenumbers, rfft(mirrored).real * timestep_fs


def central_difference(
    series: Float[np.ndarray, "*batch steps components"], timestep_fs: float
) -> Float[np.ndarray, "*batch inner components"]:
    """Return the time derivative at all samples but the first and the last, per fs."""
    change = series[..., 2:, :] - series[..., :-2, :]
    return np.asarray(change / (2.0 * timestep_fs))


def central_difference_response(
    wavenumbers: Float[np.ndarray, " bins"], timestep_fs: float
) -> Float[np.ndarray, " bins"]:
    """Return ``(sin ωΔt/ωΔt)²``, by which central differences scale a spectrum.

    It has fallen to 0.85 at 3700 cm⁻¹ with samples every 1 fs, and to 0.50 with 2 fs.
    """
    # np.sinc(x) is sin(πx)/(πx), and ωΔt = 2πc·wavenumber·Δt.
    return np.sinc(2.0 * CM_PER_FS * wavenumbers * timestep_fs) ** 2


def nyquist_wavenumber(timestep_fs: float) -> float:
    """Return the highest wavenumber (cm⁻¹) that samples this far apart can hold."""
    return 1.0 / (2.0 * CM_PER_FS * timestep_fs)


def require_resolved(highest_wavenumber: float, timestep_fs: float) -> None:
    """Refuse samples that would fold the highest wavenumber onto a lower one.

    Raises:
        ValueError: The wavenumber is not below the Nyquist wavenumber.
    """
    nyquist = nyquist_wavenumber(timestep_fs)
    if highest_wavenumber >= nyquist:
        longest = timestep_fs * nyquist / highest_wavenumber
        raise ValueError(
            f"samples every {timestep_fs:g} fs resolve up to {nyquist:.0f} cm-1 and "
            f"would fold {highest_wavenumber:g} cm-1 onto a false band; sample at "
            f"least every {np.floor(longest * 100) / 100:g} fs, or state a lower "
            "highest wavenumber and maximum if nothing moves as fast"
        )
