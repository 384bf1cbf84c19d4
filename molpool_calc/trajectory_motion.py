"""How the atoms of trajectories in files move: velocities, freedom, temperature."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra import Estimator, internal_velocities
from molpool_calc.spectra.estimator import spectral_density
from molpool_calc.spectra.vibrational_dos import (
    Rotations,
    lost_by_differences,
    rotations_of,
)
from molpool_calc.trajectory_file import TrajectoryFile, unwrapped
from molpool_calc.units import BOLTZMANN, FEMTOSECOND


def has_velocities(file: TrajectoryFile) -> bool:
    """Return whether a file has velocities that are not all zero."""
    return file.velocities is not None and bool(file.velocities.any())


def velocities_of(
    files: Sequence[TrajectoryFile], timestep_fs: float
) -> list[Float[np.ndarray, "frames atoms 3"]]:
    """Return the velocities of each file in Å/fs, with its rigid motion.

    If one file has none, they are central differences of positions in all (one-sided
    at the ends), so that one response of differences holds for all.
    """
    if all(has_velocities(file) for file in files):
        return [file.velocities for file in files if file.velocities is not None]
    return [np.gradient(unwrapped(file), timestep_fs, axis=0) for file in files]


def internal_motion(
    files: Sequence[TrajectoryFile], timestep_fs: float, n_frames: int
) -> tuple[Float[np.ndarray, "files frames atoms 3"], bool]:
    """Return velocities in Å/fs without rigid motion, and whether of differences."""
    differenced = not all(has_velocities(file) for file in files)
    positions = np.stack([unwrapped(file)[:n_frames] for file in files])
    if differenced:
        if n_frames < 3:  # noqa: PLR2004 (a central difference)
            raise ValueError(
                f"{names_of(files)} has {n_frames} frames and no velocities; give a "
                "longer trajectory"
            )
        steps = positions[:, 2:] - positions[:, :-2]
        velocities = steps / (2.0 * timestep_fs)
        positions = positions[:, 1:-1]
    else:
        velocities = np.stack(
            [
                file.velocities[:n_frames]
                for file in files
                if file.velocities is not None
            ]
        )
    first = files[0].first
    internal = internal_velocities(
        velocities, positions, first.get_masses(), rotations=_rotations(files[0])
    )
    return internal, differenced


def _rotations(file: TrajectoryFile) -> Rotations:
    if file.periodic:
        return 0
    return rotations_of(file.positions[0], file.first.get_masses())


def degrees_of_freedom(file: TrajectoryFile) -> int:
    """Return the number of internal motions."""
    return 3 * len(file.first) - 3 - _rotations(file)


def motion_temperature(
    files: Sequence[TrajectoryFile],
    timestep_fs: float,
    n_frames: int,
    estimator: Estimator,
) -> float:
    """Return the temperature of the internal motion in K.

    ``Σm⟨v²⟩ = 2c∫F[C_v](ν̃)dν̃``, in which the response of central differences can be
    divided out.
    """
    velocities, differenced = internal_motion(files, timestep_fs, n_frames)
    masses = files[0].first.get_masses()
    weighted = np.sqrt(masses)[:, None] * velocities
    twice_kinetic = float((weighted**2).sum(axis=(2, 3)).mean())
    if differenced:
        density = spectral_density(
            weighted.reshape(*weighted.shape[:2], -1),
            timestep_fs=timestep_fs,
            estimator=estimator,
            differentiate=False,
        )
        twice_kinetic *= lost_by_differences(density, timestep_fs)
    freedom = max(degrees_of_freedom(files[0]), 1)
    return twice_kinetic / FEMTOSECOND**2 / (freedom * BOLTZMANN)


def names_of(files: Sequence[TrajectoryFile]) -> str:
    """Return the paths of files, for sentences."""
    return ", ".join(str(file.path) for file in files)
