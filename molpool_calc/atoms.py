"""``ase.Atoms`` to batches and back, and the checks at that border."""

from collections.abc import Sequence
from math import isfinite
from numbers import Real

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float, Int

from molpool_calc.elements import MAX_ATOMIC_NUMBER, symbol
from molpool_calc.interfaces import AtomsBatch, Segments
from molpool_calc.segments import segments_from_sizes


def batch_from_atoms(
    atoms_list: Sequence[Atoms],
    *,
    dtype: torch.dtype,
    device: torch.device,
    charges: Sequence[float] | None = None,
) -> AtomsBatch:
    """Return one batch of all structures, in their order; nothing is shared.

    Positions are taken as they are: neither wrapped nor centred. A structure without
    a cell has a zero cell.

    Args:
        atoms_list: At least one structure.
        dtype: Type of positions, cell and charge.
        device: Where the tensors live.
        charges: Total charge of each structure in e; by default what
            ``atoms.info["charge"]`` says, else 0.

    Raises:
        ValueError: no structures, or another number of charges than of structures.

    >>> from ase.build import molecule
    >>> cpu = torch.device("cpu")
    >>> batch = batch_from_atoms([molecule("H2O")], dtype=torch.float64, device=cpu)
    >>> batch.atomic_numbers
    tensor([8, 1, 1])
    """
    if charges is None:
        charges = [total_charge_of(atoms, 0.0) for atoms in atoms_list]
    if len(charges) != len(atoms_list) or not atoms_list:
        raise ValueError(
            f"{len(charges)} charges were given for {len(atoms_list)} structures; "
            "give at least one structure and one charge for each"
        )
    if len(atoms_list) == 1:
        numbers, positions, cell, pbc = _arrays(atoms_list[0])
        systems = _one_segment(len(numbers), device)
        cells, pbcs = cell[None], pbc[None]
    else:
        columns = zip(*map(_arrays, atoms_list), strict=True)
        all_numbers, all_positions, all_cells, all_pbc = columns
        numbers, positions = np.concatenate(all_numbers), np.concatenate(all_positions)
        cells, pbcs = np.stack(all_cells), np.stack(all_pbc)
        systems = segments_from_sizes([len(atoms) for atoms in atoms_list], device)
    return AtomsBatch(
        atomic_numbers=torch.tensor(numbers, dtype=torch.int64, device=device),
        positions=torch.tensor(positions, dtype=dtype, device=device),
        cell=torch.tensor(cells, dtype=dtype, device=device),
        pbc=torch.tensor(pbcs, device=device),
        total_charge=torch.tensor(charges, dtype=dtype, device=device),
        systems=systems,
    )


def atoms_from_batch(batch: AtomsBatch) -> list[Atoms]:
    """Return one ``ase.Atoms`` per system, its charge in ``info["charge"]``."""
    index = batch.systems.index.cpu()
    sizes = torch.bincount(index, minlength=batch.systems.n_segments).tolist()
    numbers = torch.split(batch.atomic_numbers.cpu(), sizes)
    positions = torch.split(batch.positions.detach().double().cpu(), sizes)
    cells = batch.cell.detach().double().cpu().numpy()
    pbc, charges = batch.pbc.cpu().numpy(), batch.total_charge.tolist()
    return [
        Atoms(
            numbers[k].numpy(),
            positions[k].numpy(),
            cell=cells[k],
            pbc=pbc[k],
            info={"charge": charges[k]},
        )
        for k in range(len(sizes))
    ]


def check_species(
    numbers: Int[np.ndarray, " atoms"], species: frozenset[int], potential_name: str
) -> None:
    """Check that a potential knows every element of a structure.

    Raises:
        ValueError: it does not; names the elements.
    """
    unknown = sorted(set(numbers.tolist()) - species)
    if not unknown:
        return
    named = ", ".join(f"{z} ({_symbol_or_question_mark(z)})" for z in unknown)
    what = f"element {named} is" if len(unknown) == 1 else f"elements {named} are"
    known = ", ".join(map(symbol, sorted(species)))
    raise ValueError(
        f"{what} not covered by {potential_name}, which knows {known}; see molpool list"
    )


def check_positions(positions: Float[np.ndarray, "atoms 3"]) -> None:
    """Check that there are atoms and that all their positions are finite.

    Raises:
        ValueError: there is no atom, or a position holds NaN or Inf.
    """
    if len(positions) == 0:
        raise ValueError("the structure has no atoms; give one with at least one atom")
    if not np.isfinite(positions).all():
        atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        raise ValueError(
            f"atom {atom} is at {positions[atom].tolist()}, but positions must be "
            "finite numbers; repair the structure, or look for the step of the "
            "dynamics at which it broke"
        )


def total_charge_of(atoms: Atoms, default: float) -> float:
    """Return the total charge in e: ``atoms.info["charge"]``, or the default.

    Raises:
        ValueError: the entry is not one finite number.
    """
    value = atoms.info.get("charge")
    if value is None:
        return default
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, Real) and not isinstance(value, bool):
        charge = float(value)
        if isfinite(charge):
            return charge
    raise ValueError(
        f'atoms.info["charge"] is {value!r}, but the total charge must be one finite '
        f"number in e; correct the entry, or delete it to use {default:g}"
    )


def _arrays(
    atoms: Atoms,
) -> tuple[
    Int[np.ndarray, " atoms"],
    Float[np.ndarray, "atoms 3"],
    Float[np.ndarray, "3 3"],
    np.ndarray,
]:
    return atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc


def _one_segment(n_atoms: int, device: torch.device) -> Segments:
    return Segments(
        index=torch.zeros(n_atoms, dtype=torch.int64, device=device),
        slot=torch.arange(n_atoms, device=device),
        n_segments=1,
        max_size=n_atoms,
    )


def _symbol_or_question_mark(atomic_number: int) -> str:
    """Return the symbol, for files whose atom types are no atomic numbers."""
    known = 0 <= atomic_number <= MAX_ATOMIC_NUMBER
    return symbol(atomic_number) if known else "?"
