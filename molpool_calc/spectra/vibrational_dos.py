"""Vibrational densities of states, in modes per cm⁻¹, from velocities along MD."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.integrate import trapezoid

from molpool_calc.spectra.correlation import CM_PER_FS, central_difference_response
from molpool_calc.spectra.estimator import (
    Estimator,
    Fact,
    SpectralDensity,
    spectral_density,
)
from molpool_calc.spectra.spectrum import Spectrum, spectrum_from_units
from molpool_calc.spectra.verlet import (
    integration_step,
    shift_facts,
    shift_slope,
    true_wavenumbers,
)

DOS_UNIT = "modes per cm-1"

Rotations = Literal[0, 2, 3]
"""Of an atom or a periodic system, of a linear molecule, of any other."""

# A structure counts as linear if its smallest moment of inertia is below this fraction
# of the largest: the threshold of harmonic analyses, squared.
_LINEAR = 1e-4


def rotations_of(
    positions: Float[np.ndarray, "atoms 3"], masses: Float[np.ndarray, " atoms"]
) -> Rotations:
    """Return the number of rotations of an isolated structure."""
    moments = np.linalg.eigvalsh(
        _inertia(positions - _centre(positions, masses), masses)
    )
    if moments[-1] <= 0.0:
        return 0
    return 2 if moments[0] < _LINEAR * moments[-1] else 3


def internal_velocities(
    velocities: Float[np.ndarray, "replicas frames atoms 3"],
    positions: Float[np.ndarray, "replicas frames atoms 3"],
    masses: Float[np.ndarray, " atoms"],
    *,
    rotations: Rotations,
) -> Float[np.ndarray, "replicas frames atoms 3"]:
    """Return velocities without total linear and angular momentum in every frame.

    ``v_i - V - ω × d_i`` with ``ω = I⁻¹L``, ``d_i`` from the centre of mass. A linear
    molecule keeps the turning about its own axis, which is a motion of its bends.

    Args:
        velocities: In any unit.
        positions: Of the same frames.
        masses: In amu.
        rotations: How many to remove, about the axes of the largest moments.
    """
    relative = velocities - _centre(velocities, masses)
    arms = positions - _centre(positions, masses)
    weighted = masses[:, None] * relative
    angular = np.cross(arms, weighted).sum(axis=-2)
    moments, axes = np.linalg.eigh(_inertia(arms, masses))
    moments, axes = moments[..., 3 - rotations :], axes[..., 3 - rotations :]
    along = np.einsum("...xk,...x->...k", axes, angular) / moments
    spin = np.einsum("...xk,...k->...x", axes, along)
    return np.asarray(relative - np.cross(spin[..., None, :], arms))


def vibrational_dos(
    velocities: Float[np.ndarray, "replicas frames atoms 3"],
    masses: Float[np.ndarray, " atoms"],
    *,
    degrees_of_freedom: int,
    timestep_fs: float,
    groups: Mapping[str, Int[np.ndarray, " members"]] | None = None,
    estimator: Estimator | None = None,
    verlet_timestep_fs: float | None = None,
    correct_verlet_shift: bool = False,
) -> Spectrum:
    """Return the density of vibrational states in modes per cm⁻¹.

    ``g(ν̃) = f · 2c ∫C(t) exp(-2πicν̃t) dt / C(0)``, ``C(t) = Σ_i m_i⟨v_i(0)·v_i(t)⟩``,
    averaged over the replicas, so that it integrates to the degrees of freedom ``f``
    (Dickey & Paskin 1969, Phys. Rev. 188, 1407). In equilibrium a harmonic mode
    integrates to 1.

    Args:
        velocities: In any unit, without the motion that is not to count; see
            `internal_velocities`.
        masses: In amu.
        degrees_of_freedom: ``3N-6`` for a molecule, ``3N-5`` if it is linear, ``3N-3``
            for a periodic system.
        timestep_fs: Interval between two frames.
        groups: Atoms that belong together, under a name; every atom once. Their shares
            of the total are the components of the spectrum.
        estimator: Resolution, window and range; ``Estimator()`` if not given.
        verlet_timestep_fs: Time step of the integration; ``timestep_fs`` if not given.
        correct_verlet_shift: Move the spectrum back by the frequency shift of velocity
            Verlet, and undo the factor ``cos²(ΩΔt/2)`` by which its velocities are
            too small in a mode whose positions are right.

    Raises:
        ValueError: Frames are too few, too far apart or not finite, nothing moves, or
            the groups do not hold every atom once.

    Example:
        >>> import numpy as np
        >>> time = 2.0 * np.arange(4_000)
        >>> velocities = np.zeros((1, 4_000, 2, 3))
        >>> velocities[0, :, 0, 2] = np.cos(2 * np.pi * 2.99792458e-5 * 1500 * time)
        >>> velocities[0, :, 1] = -velocities[0, :, 0]
        >>> dos = vibrational_dos(
        ...     velocities, np.ones(2), degrees_of_freedom=1, timestep_fs=2.0
        ... )
        >>> float(dos.wavenumbers[dos.intensity.argmax()].round())
        1500.0
    """
    estimator = estimator or Estimator()
    step_fs = integration_step(verlet_timestep_fs, timestep_fs)
    n_atoms = len(masses)
    parts = {"": np.arange(n_atoms)} if groups is None else groups
    _require_partition(parts, n_atoms)
    weighted = np.sqrt(masses)[:, None] * np.asarray(velocities, dtype=np.float64)
    densities = {
        name: _density(weighted[:, :, members], timestep_fs, estimator)
        for name, members in parts.items()
    }
    first = next(iter(densities.values()))
    total = np.sum([density.units for density in densities.values()], axis=0)
    observed = wavenumbers = first.wavenumbers
    scale = _scale(weighted, degrees_of_freedom) * np.ones_like(observed)
    if correct_verlet_shift:
        slope = shift_slope(observed, step_fs)
        wavenumbers = true_wavenumbers(observed, step_fs)
        mean = total.mean(axis=0)
        growth = trapezoid(mean / slope**2, observed) / trapezoid(mean, observed)
        scale = scale / slope**3 / growth
    facts: dict[str, Fact] = {
        "kind": "vdos",
        **first.facts,
        "degrees_of_freedom": degrees_of_freedom,
        **shift_facts(step_fs, is_corrected=correct_verlet_shift),
    }
    shares = {
        name: scale * density.units.mean(axis=0)
        for name, density in densities.items()
        if groups is not None
    }
    return spectrum_from_units(
        wavenumbers, total * scale, unit=DOS_UNIT, facts=facts, components=shares
    )


def lost_by_differences(density: SpectralDensity, interval_fs: float) -> float:
    """Return by what to multiply the mean square of differences to get the true one."""
    x, mean = density.wavenumbers, density.units.mean(axis=0)
    whole = mean / central_difference_response(x, interval_fs)
    return float(trapezoid(whole, x) / trapezoid(mean, x))


def correct_differences(spectrum: Spectrum, interval_fs: float) -> Spectrum:
    """Return a density of states of velocities that were central differences.

    Their response ``(sin ωΔt/ωΔt)²`` is divided out. The integral over the reported
    range stays that of the degrees of freedom.

    Args:
        spectrum: As `vibrational_dos` makes it of the differences.
        interval_fs: Between two positions.
    """
    factor = 1.0 / central_difference_response(spectrum.wavenumbers, interval_fs)
    x, y = spectrum.wavenumbers, spectrum.intensity
    factor = factor * (trapezoid(y, x) / trapezoid(factor * y, x))
    lower, upper = spectrum.lower, spectrum.upper
    return replace(
        spectrum,
        intensity=y * factor,
        lower=None if lower is None else lower * factor,
        upper=None if upper is None else upper * factor,
        units_intensity=spectrum.units_intensity * factor,
        components={name: row * factor for name, row in spectrum.components.items()},
    )


def _density(
    weighted: Float[np.ndarray, "replicas frames members 3"],
    timestep_fs: float,
    estimator: Estimator,
) -> SpectralDensity:
    return spectral_density(
        weighted.reshape(*weighted.shape[:2], -1),
        timestep_fs=timestep_fs,
        estimator=estimator,
        differentiate=False,
    )


def _scale(
    weighted: Float[np.ndarray, "replicas frames atoms 3"], degrees_of_freedom: int
) -> float:
    """Return what turns a transformed correlation into modes per cm⁻¹."""
    if degrees_of_freedom < 1:
        raise ValueError(
            f"{degrees_of_freedom} degrees of freedom do not vibrate; give a "
            "structure of two atoms or more"
        )
    twice_kinetic = float((weighted**2).sum(axis=(2, 3)).mean())
    if not twice_kinetic > 0.0:
        raise ValueError(
            "nothing moves in any frame, so there is no density of states; run at a "
            "temperature above 0 K"
        )
    return degrees_of_freedom * 2.0 * CM_PER_FS / twice_kinetic


def _require_partition(
    groups: Mapping[str, Int[np.ndarray, " members"]], n_atoms: int
) -> None:
    members = np.concatenate(list(groups.values()))
    if not np.array_equal(np.sort(members), np.arange(n_atoms)):
        raise ValueError(
            f"the groups hold the atoms {sorted(members.tolist())}; give every one of "
            f"the atoms 0 to {n_atoms - 1} once"
        )


def _centre(
    vectors: Float[np.ndarray, "*frames atoms 3"], masses: Float[np.ndarray, " atoms"]
) -> Float[np.ndarray, "*frames 1 3"]:
    mean = np.einsum("a,...ax->...x", masses / masses.sum(), vectors)
    return np.asarray(mean[..., None, :])


def _inertia(
    arms: Float[np.ndarray, "*frames atoms 3"], masses: Float[np.ndarray, " atoms"]
) -> Float[np.ndarray, "*frames 3 3"]:
    second = np.einsum("a,...ax,...ay->...xy", masses, arms, arms)
    trace = np.trace(second, axis1=-2, axis2=-1)
    return np.asarray(trace[..., None, None] * np.eye(3) - second)
