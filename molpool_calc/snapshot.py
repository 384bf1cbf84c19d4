"""What a result depends on, kept to see whether a structure has changed since.

ASE's own comparison and copy of a whole ``Atoms`` cost about 200 µs per step of
dynamics; a network reads six things of it, whose comparison costs a tenth of that.
"""

from dataclasses import dataclass
from math import isfinite

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int, Shaped


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Snapshot:
    """Copies of the inputs of one calculation; charge in e.

    ``finite``: no position is NaN or infinite.
    """

    numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, " 3"]
    charge: float
    num_unpaired: float
    finite: bool


def take_snapshot(atoms: Atoms, charge: float, num_unpaired: float) -> Snapshot:
    """Return copies of what a calculation reads."""
    return Snapshot(
        numbers=atoms.numbers.copy(),
        positions=atoms.positions.copy(),
        cell=atoms.cell.array.copy(),
        pbc=atoms.pbc.copy(),
        charge=charge,
        num_unpaired=num_unpaired,
        finite=isfinite(atoms.positions.sum()),
    )


def changes_since(
    seen: Snapshot | None,
    atoms: Atoms,
    charge: float,
    num_unpaired: float,
    tolerance: float,
) -> list[str]:
    """Return what differs, in ASE's words (``info`` for charge and spin).

    Args:
        seen: inputs of the last calculation; ``None`` makes everything a change.
        atoms: the structure of now.
        charge: its total charge, e.
        num_unpaired: its number of unpaired electrons.
        tolerance: largest difference of a coordinate that is none, Å.
    """
    if seen is None:
        return ["positions", "numbers", "cell", "pbc", "info"]
    changes = []
    if not _equal(seen.numbers, atoms.numbers):
        changes += ["positions", "numbers"]
    # a broken structure is never taken for unchanged
    elif not seen.finite or not _within(seen.positions, atoms.positions, tolerance):
        changes.append("positions")
    if not _within(seen.cell, atoms.cell.array, tolerance):
        changes.append("cell")
    if not _equal(seen.pbc, atoms.pbc):
        changes.append("pbc")
    if (seen.charge, seen.num_unpaired) != (charge, num_unpaired):
        changes.append("info")
    return changes


def same_system(
    seen: Snapshot | None, atoms: Atoms, charge: float, num_unpaired: float
) -> bool:
    """Return whether all that a batch holds but positions is as it was."""
    return (
        seen is not None
        and (seen.charge, seen.num_unpaired) == (charge, num_unpaired)
        and _equal(seen.numbers, atoms.numbers)
        and _equal(seen.pbc, atoms.pbc)
        and _equal(seen.cell, atoms.cell.array)
    )


def _equal(a: Shaped[np.ndarray, "..."], b: Shaped[np.ndarray, "..."]) -> bool:
    """Return whether two arrays of one type are the same bit by bit.

    Of the few numbers of a molecule, NumPy takes ten times as long to compare values.
    """
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _within(
    a: Float[np.ndarray, "rows 3"], b: Float[np.ndarray, "rows 3"], tolerance: float
) -> bool:
    return _equal(a, b) or bool((np.abs(a - b) <= tolerance).all())


def restore(seen: Snapshot) -> Atoms:
    """Return the structure of a snapshot."""
    return Atoms(
        numbers=seen.numbers,
        positions=seen.positions,
        cell=seen.cell.copy(),
        pbc=seen.pbc,
        info={"charge": seen.charge, "num_unpaired": seen.num_unpaired},
    )
