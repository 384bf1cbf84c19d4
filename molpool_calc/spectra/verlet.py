"""How velocity Verlet shifts the frequencies of a spectrum, and undoing it."""

from math import pi

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.spectra.estimator import Fact


def integration_step(step_fs: float | None, interval_fs: float) -> float:
    """Return the time step of the integration, by default the sampling interval.

    Raises:
        ValueError: It is not positive, or longer than the interval between samples.
    """
    if step_fs is None:
        return interval_fs
    if not 0.0 < step_fs <= interval_fs:
        raise ValueError(
            f"the integration time step is {step_fs:g} fs, the interval between "
            f"samples {interval_fs:g} fs; give a positive step not longer than it"
        )
    return step_fs


def true_wavenumbers(
    wavenumbers: Float[np.ndarray, " bins"], step_fs: float
) -> Float[np.ndarray, " bins"]:
    """Return the wavenumbers of motions that velocity Verlet shows at given ones.

    A harmonic mode of angular frequency ``ω`` oscillates at ``Ω`` with
    ``sin(ΩΔt/2) = ωΔt/2``, which is ``ω(1 + ω²Δt²/24)`` for short time steps.

    Args:
        wavenumbers: Observed ones, cm⁻¹.
        step_fs: Time step of the integration.
    """
    # np.sinc(x) is sin(πx)/(πx), and ΩΔt/2 = πc·wavenumber·Δt.
    return wavenumbers * np.sinc(CM_PER_FS * step_fs * wavenumbers)


def shift_slope(
    wavenumbers: Float[np.ndarray, " bins"], step_fs: float
) -> Float[np.ndarray, " bins"]:
    """Return ``dν̃_true/dν̃ = cos(ΩΔt/2)`` at observed wavenumbers.

    A density divided by it keeps its integrals when it moves to the true ones.
    """
    return np.cos(pi * CM_PER_FS * step_fs * wavenumbers)


def shift_facts(step_fs: float, *, is_corrected: bool) -> dict[str, Fact]:
    """Return what the metadata of a spectrum say about the shift."""
    return {
        "verlet_timestep_fs": step_fs,
        "verlet_shift_at_3000_cm1": _shift(3000.0, step_fs),
        "verlet_shift_corrected": is_corrected,
    }


def _shift(wavenumber: float, step_fs: float) -> float | None:
    """Return by how many cm⁻¹ velocity Verlet shifts a harmonic mode upwards.

    ``None`` if it cannot integrate the mode at all.
    """
    half_angle = pi * CM_PER_FS * step_fs * wavenumber
    if half_angle >= 1.0:
        return None
    return float(np.arcsin(half_angle) / half_angle - 1.0) * wavenumber
