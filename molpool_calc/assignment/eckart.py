"""The frame that turns with a molecule, and velocities in it."""

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra.vibrational_dos import rotations_of

Trajectory = Float[np.ndarray, "frames atoms 3"]

_SMALLEST_MOMENT = 1e-4


def to_eckart_frame(
    positions: Trajectory,
    velocities: Trajectory,
    reference: Float[np.ndarray, "atoms 3"],
    masses: Float[np.ndarray, " atoms"],
) -> tuple[Trajectory, Trajectory]:
    """Return positions and their time derivatives in the Eckart frame.

    The rotation with the least mass-weighted distance to the reference fulfils the
    conditions of Eckart 1935, Phys. Rev. 47, 552: ``Σ m r⁰ × r = 0`` (Kudin & Dymarsky
    2005, J. Chem. Phys. 122, 224105). Their time derivative gives the angular velocity
    ``ω`` of the frame, ``Σ m r⁰ × (v - ω × r) = 0``, so that what is returned are the
    exact derivatives, without translation and rotation.

    Args:
        positions: Any unit.
        velocities: Of the same frames.
        reference: Relaxed structure, in any place and orientation.
        masses: amu.
    """
    share = masses / masses.sum()
    fixed = reference - share @ reference
    arms = positions - np.einsum("a,fax->fx", share, positions)[:, None]
    motion = velocities - np.einsum("a,fax->fx", share, velocities)[:, None]
    is_linear = rotations_of(reference, masses) < 3  # noqa: PLR2004
    rotation = _axis_rotations if is_linear else _kabsch_rotations
    turn = rotation(np.einsum("a,fax,ay->fxy", masses, arms, fixed), fixed)
    arms = np.einsum("fxy,fay->fax", turn, arms)
    motion = np.einsum("fxy,fay->fax", turn, motion)
    # r⁰ × (ω × r) = ω (r⁰·r) - r (r⁰·ω)
    outer = np.einsum("a,fax,ay->fxy", masses, arms, fixed)
    trace = np.trace(outer, axis1=1, axis2=2)[:, None, None]
    moment = np.einsum("a,fax->fx", masses, np.cross(fixed, motion))
    inverse = np.linalg.pinv(trace * np.eye(3) - outer, rcond=_SMALLEST_MOMENT)
    spin = np.einsum("fxy,fy->fx", inverse, moment)
    return arms, motion - np.cross(spin[:, None], arms)


def _kabsch_rotations(
    covariance: Float[np.ndarray, "frames 3 3"], _fixed: Float[np.ndarray, "atoms 3"]
) -> Float[np.ndarray, "frames 3 3"]:
    """Return the rotations with the largest trace (Kabsch 1976, Acta Cryst. A 32, 922).

    Reflections are ruled out.
    """
    left, _, right = np.linalg.svd(covariance)
    transposed = np.swapaxes(right, 1, 2)
    sign = np.linalg.det(transposed @ np.swapaxes(left, 1, 2))
    transposed[:, :, 2] *= np.sign(sign)[:, None]
    return np.asarray(transposed @ np.swapaxes(left, 1, 2))


def _axis_rotations(
    covariance: Float[np.ndarray, "frames 3 3"], fixed: Float[np.ndarray, "atoms 3"]
) -> Float[np.ndarray, "frames 3 3"]:
    """Return the shortest rotations of the axis of a linear molecule.

    Its turning about the axis is undefined, and a motion of its bends.
    """
    _, _, axes = np.linalg.svd(fixed)
    axis = axes[0]
    along = covariance @ axis
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    # Rodrigues' formula of the rotation from `along` to `axis`
    normal, cosine = np.cross(along, axis), along @ axis
    cross = np.zeros((len(along), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2] = -normal[:, 2], normal[:, 1]
    cross[:, 1, 0], cross[:, 1, 2] = normal[:, 2], -normal[:, 0]
    cross[:, 2, 0], cross[:, 2, 1] = -normal[:, 1], normal[:, 0]
    factor = 1.0 / np.maximum(1.0 + cosine, 1e-12)[:, None, None]
    return np.asarray(np.eye(3) + cross + factor * (cross @ cross))
