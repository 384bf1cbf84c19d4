"""Velocities along normal modes, also of molecules whose groups turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from molpool_calc.assignment.coordinates import InternalCoordinate
from molpool_calc.assignment.eckart import to_eckart_frame
from molpool_calc.assignment.motions import b_matrix
from molpool_calc.assignment.primitives import Primitive, gradient

Projection = Literal["curvilinear", "rectilinear"]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Reference:
    """A relaxed structure (Å, amu) with its modes and internal coordinates.

    ``modes`` are orthonormal in mass-weighted coordinates.
    """

    positions: Float[np.ndarray, "atoms 3"]
    masses: Float[np.ndarray, " atoms"]
    modes: Float[np.ndarray, "vibrations atoms 3"]
    coordinates: Sequence[InternalCoordinate]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class ModeVelocities:
    """Velocities of the normal coordinates, in sqrt(amu) times the unit of velocities.

    ``kinetic_ratio`` is their kinetic energy over that of the internal motion of the
    atoms, 1 as long as the structure stays near its reference.
    """

    values: Float[np.ndarray, "replicas frames vibrations"]
    projection: Projection
    kinetic_ratio: float


def mode_velocities(
    positions: Float[np.ndarray, "replicas frames atoms 3"],
    velocities: Float[np.ndarray, "replicas frames atoms 3"],
    reference: Reference,
) -> ModeVelocities:
    """Return the velocities of the normal modes along a trajectory.

    Curvilinear normal coordinates are linear in the internal ones, ``s - s⁰ = D·Q``
    with ``D = B⁰M^(-1/2)L`` (Wilson, Decius & Cross 1955, Eq. 4-7-6), hence
    ``Q̇ = D⁺ṡ`` and ``ṡ = B(r)v`` at the positions of each frame. Stretches stay
    stretches when a methyl or hydroxyl group has turned, which no projection on fixed
    Cartesian modes achieves. Where the internal coordinates do not span all modes (as
    between the molecules of a cluster), ``Q̇ = L·M^(1/2)v`` in the Eckart frame.

    Args:
        positions: Å.
        velocities: In any unit.
        reference: Structure, modes and internal coordinates.
    """
    shape = positions.shape[:2]
    masses = reference.masses
    arms, motion = to_eckart_frame(
        positions.reshape(-1, *positions.shape[2:]),
        velocities.reshape(-1, *velocities.shape[2:]).astype(np.float64),
        reference.positions,
        masses,
    )
    root = np.sqrt(np.repeat(masses, 3))
    modes = reference.modes.reshape(len(reference.modes), -1)
    rows = b_matrix(reference.coordinates, reference.positions) / root
    # Å and rad are made comparable: every row counts as a unit vector.
    sizes = np.linalg.norm(rows, axis=1)
    design = (rows / sizes[:, None]) @ modes.T
    projection: Projection = "rectilinear"
    values = motion.reshape(len(motion), -1) * root @ modes.T
    if np.linalg.matrix_rank(design, tol=1e-6) == len(modes):
        projection = "curvilinear"
        rates = _rates(reference.coordinates, arms, motion) / sizes
        values = rates @ np.linalg.pinv(design).T
    kinetic = float(np.einsum("a,fax->", masses, motion**2))
    return ModeVelocities(
        values=values.reshape(*shape, len(modes)),
        projection=projection,
        kinetic_ratio=float((values**2).sum()) / max(kinetic, 1e-300),
    )


def _rates(
    coordinates: Sequence[InternalCoordinate],
    positions: Float[np.ndarray, "frames atoms 3"],
    velocities: Float[np.ndarray, "frames atoms 3"],
) -> Float[np.ndarray, "frames coordinates"]:
    """Return the time derivatives of the internal coordinates."""
    # most primitives are part of several coordinates
    parts: dict[Primitive, list[tuple[int, float]]] = {}
    for row, coordinate in enumerate(coordinates):
        for weight, primitive in coordinate.terms:
            parts.setdefault(primitive, []).append((row, weight))
    rates = np.zeros((len(coordinates), len(positions)))
    for primitive, uses in parts.items():
        members = velocities[:, list(primitive.atoms)]
        slopes = gradient(primitive, positions)
        rate = np.einsum("fmx,fmx->f", slopes, members)
        for row, weight in uses:
            rates[row] += weight * rate
    return rates.T
