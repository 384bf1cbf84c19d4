"""``ase.Atoms`` to batches and back, and the checks at that border."""

from collections.abc import Sequence
from math import isfinite
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float, Int
from torch import Tensor

from molpool_calc.elements import MAX_ATOMIC_NUMBER, symbol
from molpool_calc.interfaces import AtomsBatch, Segments
from molpool_calc.segments import segments_from_sizes


class ChargeAndSpin(NamedTuple):
    """Total charge in e and number of unpaired electrons."""

    charge: float
    num_unpaired: float


CLOSED_SHELL = ChargeAndSpin(0.0, 0.0)


def batch_from_atoms(
    atoms_list: Sequence[Atoms],
    *,
    dtype: torch.dtype,
    device: torch.device,
    states: Sequence[ChargeAndSpin] | None = None,
) -> AtomsBatch:
    """Return one batch of all structures, in their order; nothing is shared.

    Positions are taken as they are: neither wrapped nor centred. A structure without
    a cell has a zero cell.

    Args:
        atoms_list: At least one structure.
        dtype: Type of positions, cell and charge.
        device: Where the tensors live.
        states: Total charge (e) and unpaired electrons of each structure; by default
            those of ``charge_and_spin_of``.

    Raises:
        ValueError: no structures, or another number of states than of structures.

    >>> from ase.build import molecule
    >>> cpu = torch.device("cpu")
    >>> batch = batch_from_atoms([molecule("H2O")], dtype=torch.float64, device=cpu)
    >>> batch.atomic_numbers
    tensor([8, 1, 1])
    """
    if states is None:
        states = [charge_and_spin_of(atoms) for atoms in atoms_list]
    if len(states) != len(atoms_list) or not atoms_list:
        raise ValueError(
            f"{len(states)} charges were given for {len(atoms_list)} structures; "
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

    def column(place: int) -> Tensor:
        values = [state[place] for state in states]
        return torch.tensor(values, dtype=dtype, device=device)

    return AtomsBatch(
        atomic_numbers=torch.tensor(numbers, dtype=torch.int64, device=device),
        positions=torch.tensor(positions, dtype=dtype, device=device),
        cell=torch.tensor(cells, dtype=dtype, device=device),
        pbc=torch.tensor(pbcs, device=device),
        total_charge=column(0),
        num_unpaired=column(1),
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
    unpaired = batch.num_unpaired.tolist()
    return [
        Atoms(
            numbers[k].numpy(),
            positions[k].numpy(),
            cell=cells[k],
            pbc=pbc[k],
            info={"charge": charges[k], "num_unpaired": unpaired[k]},
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


def charge_and_spin_of(
    atoms: Atoms, default: ChargeAndSpin = CLOSED_SHELL
) -> ChargeAndSpin:
    """Return what ``atoms.info`` says under ``charge`` and ``num_unpaired``.

    Raises:
        ValueError: an entry is not one finite number.
    """
    what = "number of unpaired electrons"
    return ChargeAndSpin(
        _number_of(atoms, "charge", "total charge", "number in e", default.charge),
        _number_of(atoms, "num_unpaired", what, "number", default.num_unpaired),
    )


def _number_of(atoms: Atoms, key: str, what: str, kind: str, default: float) -> float:
    value = atoms.info.get(key)
    if value is None:
        return default
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if isfinite(number):
            return number
    raise ValueError(
        f'atoms.info["{key}"] is {value!r}, but the {what} must be one finite '
        f"{kind}; correct the entry, or delete it to use {default:g}"
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
