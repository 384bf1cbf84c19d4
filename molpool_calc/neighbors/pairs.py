"""Lists of pairs: all of them, those within a distance, and their order.

Whether a pair is within the cutoff is decided here and nowhere else, by the same
sequence of correctly rounded float64 operations on every pair. So the answer does
not depend on the back end that proposed the pair, on how many other pairs there are,
or on when they were proposed, and (i, j) is in the list whenever (j, i) is. Matrix
products are avoided for this reason: they may round differently with their size.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from molpool_calc.interfaces import AtomsBatch, NeighborList, Segments

N_COMPLETE = 12
"""Largest molecule whose pairs are not searched but all taken."""
N_COMPLETE_GPU = 48
"""The same on a GPU, where a search costs as much as a thousand idle pairs or more."""


def has_all_pairs(n_atoms: int | None, device: torch.device, periodic: bool) -> bool:
    """Return whether systems of so many atoms get all their pairs without a search."""
    most = N_COMPLETE if device.type == "cpu" else N_COMPLETE_GPU
    return not periodic and n_atoms is not None and n_atoms <= most


def complete_pairs(batch: AtomsBatch) -> NeighborList:
    """Return all ordered pairs i != j of each system, sorted; there is no cutoff.

    Pairs beyond the cutoff of a network contribute exactly nothing, so this list is
    right for every geometry and never needs to be rebuilt. Its length grows with the
    square of the number of atoms.

    Raises:
        ValueError: a system is periodic.
    """
    if batch.pbc.any():
        raise ValueError(
            "complete_pairs was given a periodic system, but lists all pairs of "
            "molecules only; use neighbor_list with a cutoff"
        )
    first, size = first_and_size(batch.systems)
    partners = (size - 1)[batch.systems.index]
    ends = torch.cumsum(partners, 0)
    n_pairs = int(ends[-1]) if len(ends) else 0
    pair = torch.arange(n_pairs, device=ends.device)
    center = torch.bucketize(pair, ends, right=True)
    neighbor = pair - (ends - partners)[center] + first[batch.systems.index[center]]
    neighbor += neighbor >= center
    return NeighborList(center=center, neighbor=neighbor, shift=None)


def dense_pairs(batch: AtomsBatch) -> NeighborList | None:
    """Return every atom with every atom of its molecule, or ``None`` if not uniform.

    The dense layout (see ``NeighborList.n_dense``) needs molecules of one size.

    Raises:
        ValueError: a system is periodic.
    """
    n, n_atoms = batch.systems.max_size, batch.positions.shape[0]
    if n == 0 or n * batch.systems.n_segments != n_atoms:
        return None
    if batch.pbc.any():
        raise ValueError(
            "dense_pairs was given a periodic system, but lists all pairs of "
            "molecules only; use neighbor_list with a cutoff"
        )
    atoms = torch.arange(n_atoms, device=batch.positions.device).view(-1, n)
    return NeighborList(
        center=atoms.repeat_interleave(n, dim=1).reshape(-1),
        neighbor=atoms.repeat(1, n).reshape(-1),
        shift=None,
        n_dense=n,
    )


def pairs_within(
    pairs: NeighborList,
    positions: Float[Tensor, "atoms 3"],
    offsets: Float[Tensor, "pairs 3"] | None,
    cutoff: float,
) -> NeighborList:
    """Return those pairs whose distance is below the cutoff, in the same order.

    Args:
        pairs: Any pairs.
        positions: In float64.
        offsets: What ``shift_offsets`` gives for these pairs.
        cutoff: In Å; a pair at exactly this distance is left out.
    """
    vectors = positions.index_select(0, pairs.neighbor)
    vectors -= positions.index_select(0, pairs.center)
    if offsets is not None:
        vectors += offsets
    vectors *= vectors
    x, y, z = vectors.unbind(1)
    return select(pairs, flat_nonzero(x + y + z < cutoff * cutoff))


def near(
    batch: AtomsBatch,
    center: Int[Tensor, " pairs"],
    neighbor: Int[Tensor, " pairs"],
    shift: Float[Tensor, "pairs 3"],
    cutoff: float,
) -> tuple[Int[Tensor, " near"], Int[Tensor, " near"], Float[Tensor, "near 3"]]:
    """Return the pairs within the cutoff, no atom with itself."""
    pairs = NeighborList(center=center, neighbor=neighbor, shift=shift)
    distinct = (center != neighbor) | (shift != 0).any(1)
    pairs = select(pairs, flat_nonzero(distinct))
    offsets = shift_offsets(pairs, batch.cell, batch.systems)
    pairs = pairs_within(pairs, batch.positions, offsets, cutoff)
    assert pairs.shift is not None  # as given
    return pairs.center, pairs.neighbor, pairs.shift


def shift_offsets(
    pairs: NeighborList, cell: Float[Tensor, "systems 3 3"], systems: Segments
) -> Float[Tensor, "pairs 3"] | None:
    """Return ``shift @ cell`` of each pair, or ``None`` where there is no shift."""
    if pairs.shift is None:
        return None
    if systems.n_segments == 1:
        a, b, c = cell[0].unbind(0)
    else:
        a, b, c = cell[systems.index[pairs.center]].unbind(1)
    s, t, u = pairs.shift[:, :, None].unbind(1)
    return s * a + t * b + u * c


def select(pairs: NeighborList, which: Int[Tensor, " chosen"]) -> NeighborList:
    """Return the chosen pairs, in the order of their indices ``which``."""
    return NeighborList(
        center=pairs.center.index_select(0, which),
        neighbor=pairs.neighbor.index_select(0, which),
        shift=None if pairs.shift is None else pairs.shift.index_select(0, which),
    )


def canonical(pairs: NeighborList, n_atoms: int) -> NeighborList:
    """Return the pairs sorted by center, then neighbor, then shift."""
    key = pairs.center * n_atoms + pairs.neighbor
    if pairs.shift is None or len(key) == 0:
        return select(pairs, _argsort(key))
    shift = pairs.shift.to(torch.int64)
    shift = shift - shift.amin(0)
    extent = [int(largest) + 1 for largest in shift.amax(0)]
    if n_atoms**2 * extent[0] * extent[1] * extent[2] < 2**63:
        for column, size in zip(shift.unbind(1), extent, strict=True):
            key = key * size + column
        return select(pairs, _argsort(key))
    # Atoms very many cells away from each other: one integer does not hold the key.
    order = torch.argsort(shift[:, 2])
    for column in (shift[:, 1], shift[:, 0], key):
        order = order[torch.argsort(column[order], stable=True)]
    return select(pairs, order)


def flat_nonzero(mask: Bool[Tensor, " items"]) -> Int[Tensor, " chosen"]:
    """Return the indices of the true items."""
    if mask.device.type == "cpu":  # NumPy takes a sixth of torch's time
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _argsort(key: Int[Tensor, " items"]) -> Int[Tensor, " items"]:
    """Return the order that sorts keys of which no two are equal."""
    if key.device.type == "cpu":  # NumPy takes a quarter of torch's time
        return torch.from_numpy(np.argsort(key.numpy()))
    return torch.argsort(key)


def first_and_size(
    systems: Segments,
) -> tuple[Int[Tensor, " systems"], Int[Tensor, " systems"]]:
    """Return the index of the first atom and the number of atoms of each system."""
    size = torch.bincount(systems.index, minlength=systems.n_segments)
    return torch.cumsum(size, 0) - size, size
