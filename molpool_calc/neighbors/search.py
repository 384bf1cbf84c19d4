"""The neighbor list of a batch, independent of back end, history and batching."""

from dataclasses import replace
from math import inf

import torch

from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.neighbors.backends import Backend, candidate_pairs
from molpool_calc.neighbors.pairs import (
    canonical,
    complete_pairs,
    pairs_within,
    shift_offsets,
)

ROUNDING = 1e-6
"""Far above the float64 rounding of any back end (Å), far below any skin."""


def neighbor_list(
    batch: AtomsBatch, cutoff: float, *, backend: Backend = "vesin"
) -> NeighborList:
    """Return all pairs closer than the cutoff, periodic and self images included.

    Both directions, sorted by center, neighbor and shift, never truncated; two atoms
    at the same place are a pair. ``shift`` is ``None`` if no system is periodic. Every
    back end returns the same list, and a batch the lists of its systems. Distances are
    taken in float64 from the positions as they are: from float32 positions the list is
    that of the rounded positions.

    Args:
        batch: Any systems; atoms need not lie in the cell.
        cutoff: In Å; a pair at exactly this distance is left out. Infinity: all pairs
            of each molecule.
        backend: Which program searches; ``"dense"`` and ``"cells"`` run on the device
            of the batch, ``"torch-cluster"`` has no periodic images.

    Raises:
        ValueError: a position or cell is NaN or Inf, the lattice vectors of a periodic
            system are zero or dependent, the cutoff is not positive, or the
            back end does not exist or cannot treat a periodic system.
        ImportError: the back end is not installed.

    >>> from ase.build import molecule
    >>> from molpool_calc.atoms import batch_from_atoms
    >>> cpu = torch.device("cpu")
    >>> water = batch_from_atoms([molecule("H2O")], dtype=torch.float64, device=cpu)
    >>> neighbor_list(water, 1.2).neighbor
    tensor([1, 2, 0, 0])
    """
    if not cutoff > 0:
        raise ValueError(
            f"the cutoff is {cutoff!r}, but must be a positive number of Å"
        )
    geometry = in_double_precision(batch)
    _check_finite(geometry)
    if cutoff == inf:
        return complete_pairs(geometry)
    _check_cell(geometry)
    candidates = candidate_pairs(geometry, cutoff + ROUNDING, backend)
    offsets = shift_offsets(candidates, geometry.cell, geometry.systems)
    pairs = pairs_within(candidates, geometry.positions, offsets, cutoff)
    pairs = canonical(pairs, len(geometry.positions))
    return in_dtype(pairs, batch.positions.dtype)


def in_double_precision(batch: AtomsBatch) -> AtomsBatch:
    """Return the geometry in float64, zero lattice vectors where not periodic."""
    return replace(
        batch,
        positions=batch.positions.detach().to(torch.float64),
        cell=batch.cell.detach().to(torch.float64) * batch.pbc[:, :, None],
    )


def in_dtype(pairs: NeighborList, dtype: torch.dtype) -> NeighborList:
    """Return the pairs with shifts in the given type."""
    if pairs.shift is None or pairs.shift.dtype == dtype:
        return pairs
    return replace(pairs, shift=pairs.shift.to(dtype))


def _check_finite(batch: AtomsBatch) -> None:
    """Check positions and lattice vectors for NaN and Inf."""
    if not torch.isfinite(batch.positions).all():
        broken = ~torch.isfinite(batch.positions).all(1)
        atom = int(broken.nonzero()[0])
        system = int(batch.systems.index[atom])
        place = int(batch.systems.slot[atom])
        where = f" of system {system}" if batch.systems.n_segments > 1 else ""
        raise ValueError(
            f"atom {place}{where} is at {batch.positions[atom].tolist()}, but positions"
            " must be finite numbers; look for the step at which the structure broke"
        )
    if not torch.isfinite(batch.cell).all():
        raise ValueError(
            f"the cell is {batch.cell.tolist()}, but lattice vectors must be finite "
            "numbers; look for the step at which the cell broke"
        )


def _check_cell(batch: AtomsBatch) -> None:
    """Check that periodic directions have independent lattice vectors."""
    if not batch.pbc.any():
        return
    unit_rows = torch.nn.functional.normalize(batch.cell, dim=2, eps=1e-300)
    rank = torch.linalg.matrix_rank(unit_rows, rtol=1e-6)
    singular = rank != batch.pbc.sum(1)
    if singular.any():
        system = int(singular.nonzero()[0])
        raise ValueError(
            f"system {system} has pbc {batch.pbc[system].tolist()} with the lattice "
            f"vectors {batch.cell[system].tolist()}, but periodic directions need "
            "non-zero, independent ones; set the cell or switch pbc off"
        )
