"""Bands of an infrared spectrum as normal modes and internal motions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.integrate import trapezoid

from molpool_calc.assignment.motions import label_of, ranked
from molpool_calc.assignment.projection import ModeVelocities
from molpool_calc.spectra import (
    Band,
    BandAssignment,
    Estimator,
    ModeShare,
    Spectrum,
    band_integral,
)
from molpool_calc.spectra.estimator import spectral_density

LEAST_SHARE = 0.02
"""Modes and motions with less are not listed."""

# A mode vibrates in a band if its harmonic wavenumber is within 8 % and 40 cm⁻¹ of it:
# twice the usual anharmonic shift of a stretch.
_NEAR = (40.0, 0.08)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class ModePower:
    """Power spectra of the velocities of all modes; wavenumbers in cm⁻¹."""

    wavenumbers: Float[np.ndarray, " bins"]
    power: Float[np.ndarray, "vibrations bins"]


def mode_power(
    velocities: ModeVelocities, *, interval_fs: float, estimator: Estimator
) -> ModePower:
    """Return the power spectrum of every mode, averaged over replicas and blocks.

    Args:
        velocities: Of the modes.
        interval_fs: Between two frames.
        estimator: Resolution and range.

    Raises:
        ValueError: Frames are too few or too far apart.
    """
    densities = [
        spectral_density(
            velocities.values[:, :, [mode]],
            timestep_fs=interval_fs,
            estimator=estimator,
            differentiate=False,
        )
        for mode in range(velocities.values.shape[2])
    ]
    return ModePower(
        wavenumbers=densities[0].wavenumbers,
        power=np.stack([density.units.mean(axis=0) for density in densities]),
    )


def assign_bands(
    spectrum: Spectrum,
    bands: Sequence[Band],
    power: ModePower,
    *,
    wavenumbers: Float[np.ndarray, " vibrations"],
    strengths: Float[np.ndarray, " vibrations"],
    motions: Mapping[str, Float[np.ndarray, " vibrations"]],
) -> tuple[BandAssignment, ...]:
    """Return what moves in each band.

    A mode absorbs ``|∂µ/∂Q|²·⟨Q̇²⟩``: its share of a band is its strength times its
    power within the limits of the band, over the sum of all modes. The dipole is linear
    in the modes, and their interference is left out.

    Args:
        spectrum: Infrared.
        bands: Of the spectrum.
        power: Of the modes.
        wavenumbers: Harmonic, cm⁻¹.
        strengths: Harmonic infrared strengths, in any unit.
        motions: Shares of the kinds of motion in every mode.
    """
    found = []
    for band in bands:
        inside = (power.wavenumbers >= band.low) & (power.wavenumbers <= band.high)
        x = power.wavenumbers[inside]
        kinetic = trapezoid(power.power[:, inside], x, axis=1)
        absorbed = strengths * kinetic
        if not absorbed.sum() > 0.0:
            continue
        shares = absorbed / absorbed.sum()
        moving = ranked(motions, shares)
        reach = _NEAR[0] + _NEAR[1] * wavenumbers
        near = (wavenumbers > band.low - reach) & (wavenumbers < band.high + reach)
        found.append(
            BandAssignment(
                position_cm1=band.position,
                low_cm1=band.low,
                high_cm1=band.high,
                area_km_mol=band_integral(spectrum, band.low, band.high).value,
                label=label_of(moving),
                modes=_modes(shares, wavenumbers),
                motions=tuple(m for m in moving if m.share >= LEAST_SHARE),
                reliability=float(kinetic[near].sum() / kinetic.sum()),
            )
        )
    return tuple(found)


def _modes(
    shares: Float[np.ndarray, " vibrations"],
    wavenumbers: Float[np.ndarray, " vibrations"],
) -> tuple[ModeShare, ...]:
    order = np.argsort(-shares)
    return tuple(
        ModeShare(
            number=int(mode) + 1,
            wavenumber_cm1=float(wavenumbers[mode]),
            share=float(shares[mode]),
        )
        for mode in order
        if shares[mode] >= LEAST_SHARE
    )
