"""Which internal motions a normal mode consists of."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from molpool_calc.assignment.coordinates import InternalCoordinate
from molpool_calc.assignment.primitives import gradient
from molpool_calc.spectra import MotionShare

OTHER = "other"
"""What no internal coordinate describes, as the motion of molecules in a cluster."""

_LEAST_SINGULAR = 1e-6
# Two motions make the label of a mode in which none has the half.
_MAIN = 0.5
# A motion that is not named has less than this.
_WORTH_NAMING = 0.2


def b_matrix(
    coordinates: Sequence[InternalCoordinate],
    positions: Float[np.ndarray, "atoms 3"],
) -> Float[np.ndarray, "coordinates components"]:
    """Return Wilson's B matrix, with columns for the components of every atom."""
    rows = np.zeros((len(coordinates), *positions.shape))
    for row, coordinate in zip(rows, coordinates, strict=True):
        for weight, primitive in coordinate.terms:
            members = list(primitive.atoms)
            row[members] += weight * gradient(primitive, positions)
    return rows.reshape(len(coordinates), -1)


def motion_shares(
    coordinates: Sequence[InternalCoordinate],
    positions: Float[np.ndarray, "atoms 3"],
    masses: Float[np.ndarray, " atoms"],
    modes: Float[np.ndarray, "vibrations atoms 3"],
) -> Mapping[str, Float[np.ndarray, " vibrations"]]:
    """Return the share of every kind of motion in every mode, summing to one.

    In mass-weighted coordinates an internal coordinate points along the row
    ``t = M^(-1/2)∇s``, made a unit vector. The rows are orthonormalised symmetrically
    (Löwdin 1950, J. Chem. Phys. 18, 365; of redundant rows, the tight frame nearest to
    them, Frank, Paulsen & Tiballi 2002, Trans. Am. Math. Soc. 354, 777), and the share
    of a row ``t̃`` in a mode ``L`` is ``(t̃·L)²``. It is never negative, depends on no
    unit and no force constant, and is the share of the kinetic energy of the mode, as
    in the kinetic part of the total energy distribution of Pulay & Török 1966, Acta
    Chim. Hung. 47, 273, with orthonormal in place of reciprocal rows.

    Args:
        coordinates: Of the molecule.
        positions: Relaxed, Å.
        masses: amu.
        modes: Orthonormal in mass-weighted coordinates.
    """
    if not coordinates:
        return {OTHER: np.ones(len(modes))}
    weighted = b_matrix(coordinates, positions) / np.sqrt(np.repeat(masses, 3))
    unit = weighted / np.linalg.norm(weighted, axis=1, keepdims=True)
    left, sizes, right = np.linalg.svd(unit, full_matrices=False)
    kept = sizes > _LEAST_SINGULAR * sizes.max(initial=1.0)
    frame = left[:, kept] @ right[kept]
    shares = (frame @ modes.reshape(len(modes), -1).T) ** 2
    motions: dict[str, Float[np.ndarray, " vibrations"]] = {}
    for coordinate, share in zip(coordinates, shares, strict=True):
        motions[coordinate.motion] = motions.get(coordinate.motion, 0.0) + share
    rest = 1.0 - np.sum(list(motions.values()), axis=0)
    if rest.max(initial=0.0) > 1e-6:  # noqa: PLR2004 - rounding
        motions[OTHER] = np.maximum(rest, 0.0)
    return motions


def ranked(
    motions: Mapping[str, Float[np.ndarray, " vibrations"]],
    weights: Float[np.ndarray, " vibrations"],
) -> tuple[MotionShare, ...]:
    """Return the motions of weighted modes, the largest share first.

    Args:
        motions: Shares in every mode.
        weights: Of the modes, summing to one.
    """
    totals = {name: float(weights @ shares) for name, shares in motions.items()}
    order = sorted(totals, key=lambda name: -totals[name])
    return tuple(MotionShare(motion=name, share=totals[name]) for name in order)


def motions_of_modes(
    motions: Mapping[str, Float[np.ndarray, " vibrations"]],
) -> list[tuple[MotionShare, ...]]:
    """Return the ranked motions of every mode by itself."""
    n_modes = len(next(iter(motions.values())))
    return [ranked(motions, row) for row in np.eye(n_modes)]


def label_of(motions: Sequence[MotionShare]) -> str:
    """Return the name of the main motion, or of the two that share the lead.

    Example:
        >>> bend = MotionShare(motion="COH bend", share=0.4)
        >>> wag = MotionShare(motion="CH2 wag", share=0.3)
        >>> label_of([bend, wag])
        'COH bend + CH2 wag'
    """
    if not motions:
        return ""
    names = [motions[0].motion]
    if motions[0].share < _MAIN and len(motions) > 1:
        names += [motions[1].motion] if motions[1].share > _WORTH_NAMING else []
    return " + ".join(names)
