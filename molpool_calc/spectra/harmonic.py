"""Harmonic infrared and Raman spectra from derivatives at one relaxed structure."""

from dataclasses import dataclass
from math import pi

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.units import (
    ATOMIC_MASS,
    AVOGADRO,
    COULOMB,
    ELEMENTARY_CHARGE,
    FEMTOSECOND,
    INVERSE_CM,
    SPEED_OF_LIGHT,
    VACUUM_PERMITTIVITY,
)

# sqrt(eV/Å²/amu) in cm⁻¹: the internal unit of time is 1/FEMTOSECOND fs.
_INTERNAL_FREQUENCY = FEMTOSECOND / (2.0 * pi * CM_PER_FS)
# Band strength in km/mol of a mode with |∂µ/∂Q|² = 1 e²/amu.
_KM_PER_MOL = (
    AVOGADRO
    / (12.0 * VACUUM_PERMITTIVITY * SPEED_OF_LIGHT**2)
    * (ELEMENTARY_CHARGE**2 / ATOMIC_MASS)
    * 1e-3
)
# A molecule counts as linear if turning it about its axis moves the atoms by less than
# this fraction of what turning it end over end does: a bend of 1° or less, which is
# how far a relaxation may stop from a linear minimum.
_LINEAR = 0.01


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class HarmonicSpectrum:
    """Vibrations in ascending order, imaginary wavenumbers as negative numbers.

    ``modes`` are orthonormal in mass-weighted coordinates, and ``dipole_slopes`` are
    ``∂µ/∂Q`` along them in e/sqrt(amu). ``raman_a4_amu`` are the Placzek activities
    ``45a'² + 7γ'²``, ``depolarization`` the ratios ``3γ'²/(45a'² + 4γ'²)`` of
    perpendicular to parallel scattering, NaN where a mode scatters nothing.
    ``zpe_ev`` counts real wavenumbers only.
    """

    wavenumbers_cm1: Float[np.ndarray, " vibrations"]
    ir_km_mol: Float[np.ndarray, " vibrations"]
    raman_a4_amu: Float[np.ndarray, " vibrations"] | None
    depolarization: Float[np.ndarray, " vibrations"] | None
    dipole_slopes: Float[np.ndarray, "vibrations 3"]
    modes: Float[np.ndarray, "vibrations atoms 3"]
    zpe_ev: float


def harmonic_analysis(
    positions: Float[np.ndarray, "atoms 3"],
    masses: Float[np.ndarray, " atoms"],
    hessian: Float[np.ndarray, "coordinates coordinates"],
    dipole_derivatives: Float[np.ndarray, "coordinates 3"],
    polarizability_derivatives: Float[np.ndarray, "coordinates 3 3"] | None = None,
) -> HarmonicSpectrum:
    """Return wavenumbers and intensities of the 3N-6 (linear: 3N-5) vibrations.

    The mass-weighted Hessian is diagonalised in the space orthogonal to translations
    and rotations. A band strength is ``N_A/(12ε₀c²)·|∂µ/∂Q|²``, 42.2561 km/mol per
    (D/Å)²/amu (Wilson, Decius & Cross 1955, ch. 7). Raman activities
    follow Long 2002, The Raman Effect, ch. 5.

    Args:
        positions: Relaxed structure, Å.
        masses: In amu.
        hessian: Second derivatives of the energy, eV/Å²; coordinates run over the
            components of the first atom, then of the second.
        dipole_derivatives: ``∂µ_k/∂r`` in e.
        polarizability_derivatives: ``∂α_kl/∂r`` in e²Å/eV, if Raman is wanted.

    Raises:
        ValueError: Shapes do not belong together, or a mass is not positive.
    """
    _require_consistent(positions, masses, hessian, dipole_derivatives)
    weight = 1.0 / np.sqrt(np.repeat(masses, 3))
    internal = _vibrational_space(positions, masses)
    symmetric = (hessian + hessian.T) / 2.0
    weighted = symmetric * weight[:, None] * weight[None, :]
    squares, vectors = np.linalg.eigh(internal.T @ weighted @ internal)
    wavenumbers = np.sign(squares) * np.sqrt(np.abs(squares)) * _INTERNAL_FREQUENCY
    modes = (internal @ vectors).T
    displacements = modes * weight
    dipole_slopes = displacements @ dipole_derivatives
    raman = depolarization = None
    if polarizability_derivatives is not None:
        slopes = np.tensordot(displacements, polarizability_derivatives, axes=1)
        raman, depolarization = _placzek(slopes * COULOMB)
    return HarmonicSpectrum(
        wavenumbers_cm1=wavenumbers,
        ir_km_mol=_KM_PER_MOL * (dipole_slopes**2).sum(axis=1),
        raman_a4_amu=raman,
        depolarization=depolarization,
        dipole_slopes=dipole_slopes,
        modes=modes.reshape(-1, *positions.shape),
        zpe_ev=float(wavenumbers[wavenumbers > 0.0].sum() * INVERSE_CM / 2.0),
    )


def _require_consistent(
    positions: Float[np.ndarray, "..."],
    masses: Float[np.ndarray, "..."],
    hessian: Float[np.ndarray, "..."],
    dipole_derivatives: Float[np.ndarray, "..."],
) -> None:
    size = 3 * len(masses)
    given = (positions.size, hessian.shape, dipole_derivatives.shape)
    if given != (size, (size, size), (size, 3)):
        raise ValueError(
            f"{len(masses)} masses came with positions of shape {positions.shape}, a "
            f"hessian of shape {hessian.shape} and dipole derivatives of shape "
            f"{dipole_derivatives.shape}; give ({size // 3}, 3), ({size}, {size}) and "
            f"({size}, 3)"
        )
    if not (masses > 0.0).all():
        raise ValueError(
            f"atom {int(np.argmin(masses > 0.0))} has a mass that is not positive; "
            "give masses in amu"
        )


def _vibrational_space(
    positions: Float[np.ndarray, "atoms 3"], masses: Float[np.ndarray, " atoms"]
) -> Float[np.ndarray, "coordinates vibrations"]:
    """Return an orthonormal basis of all that is neither translation nor rotation."""
    root = np.sqrt(masses)[:, None]
    centred = positions - masses @ positions / masses.sum()
    shifts = [(root * axis).ravel() for axis in np.eye(3)]
    turns = [(root * np.cross(axis, centred)).ravel() for axis in np.eye(3)]
    # Turns about the centre of mass are orthogonal to shifts; their singular values
    # are the square roots of the principal moments of inertia.
    turn_basis, sizes, _ = np.linalg.svd(np.array(turns).T, full_matrices=False)
    real_turns = turn_basis[:, sizes > _LINEAR * max(sizes[0], 1e-6)]
    external = np.column_stack([*shifts, real_turns])
    basis, _, _ = np.linalg.svd(external, full_matrices=True)
    return basis[:, external.shape[1] :]


def _placzek(
    slopes: Float[np.ndarray, "vibrations 3 3"],
) -> tuple[Float[np.ndarray, " vibrations"], Float[np.ndarray, " vibrations"]]:
    """Return activities and depolarization ratios from ``∂α/∂Q`` in Å²/sqrt(amu)."""
    mean = np.trace(slopes, axis1=1, axis2=2) / 3.0
    deviator = slopes - mean[:, None, None] * np.eye(3)
    # γ'² = 3/2 of the squared norm of the traceless part (symmetric tensors).
    anisotropy = 1.5 * (deviator * deviator.transpose(0, 2, 1)).sum(axis=(1, 2))
    parallel = 45.0 * mean**2 + 4.0 * anisotropy
    ratio = np.full_like(parallel, np.nan)
    np.divide(3.0 * anisotropy, parallel, out=ratio, where=parallel > 0.0)
    return np.asarray(parallel + 3.0 * anisotropy), ratio
