"""What moves in the bands of a spectrum; NumPy and SciPy only.

`skeleton_of` finds the bonds of a relaxed structure, `internal_coordinates` names its
motions, `motion_shares` says which of them a normal mode consists of, `mode_velocities`
projects a trajectory on the modes, and `assign_bands` puts them together.
"""

from molpool_calc.assignment.assign import ModePower, assign_bands, mode_power
from molpool_calc.assignment.coordinates import (
    InternalCoordinate,
    internal_coordinates,
)
from molpool_calc.assignment.motions import (
    label_of,
    motion_shares,
    motions_of_modes,
    ranked,
)
from molpool_calc.assignment.projection import (
    ModeVelocities,
    Reference,
    mode_velocities,
)
from molpool_calc.assignment.skeleton import Skeleton, skeleton_of

__all__ = [
    "InternalCoordinate",
    "ModePower",
    "ModeVelocities",
    "Reference",
    "Skeleton",
    "assign_bands",
    "internal_coordinates",
    "label_of",
    "mode_power",
    "mode_velocities",
    "motion_shares",
    "motions_of_modes",
    "ranked",
    "skeleton_of",
]
