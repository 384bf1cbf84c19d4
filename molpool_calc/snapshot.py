"""What a result depends on, kept to see whether a structure has changed since.

ASE's own comparison and copy of a whole ``Atoms`` cost about 200 µs per step of
dynamics; a network reads six things of it, whose comparison costs a tenth of that.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Snapshot:
    """Copies of the inputs of one calculation; charge in e."""

    numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, " 3"]
    charge: float
    num_unpaired: float


def take_snapshot(atoms: Atoms, charge: float, num_unpaired: float) -> Snapshot:
    """Return copies of what a calculation reads."""
    return Snapshot(
        numbers=atoms.numbers.copy(),
        positions=atoms.positions.copy(),
        cell=atoms.cell.array.copy(),
        pbc=atoms.pbc.copy(),
        charge=charge,
        num_unpaired=num_unpaired,
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
    if len(seen.numbers) != len(atoms) or (seen.numbers != atoms.numbers).any():
        changes += ["positions", "numbers"]
    # NaN differs from itself, so a broken structure is never taken for unchanged
    elif not (np.abs(seen.positions - atoms.positions) <= tolerance).all():
        changes.append("positions")
    if not (np.abs(seen.cell - atoms.cell.array) <= tolerance).all():
        changes.append("cell")
    if (seen.pbc != atoms.pbc).any():
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
        and len(seen.numbers) == len(atoms)
        and bool((seen.numbers == atoms.numbers).all())
        and bool((seen.pbc == atoms.pbc).all())
        and bool((seen.cell == atoms.cell.array).all())
    )


def restore(seen: Snapshot) -> Atoms:
    """Return the structure of a snapshot."""
    return Atoms(
        numbers=seen.numbers,
        positions=seen.positions,
        cell=seen.cell.copy(),
        pbc=seen.pbc,
        info={"charge": seen.charge, "num_unpaired": seen.num_unpaired},
    )
