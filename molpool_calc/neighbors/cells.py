"""Pairs from lists of cells (Quentrec and Brot 1973), on the device of the batch.

All systems are searched at once. Space is cut into bins at least one cutoff wide where
the cell has room for them, so that all pairs within the cutoff are in the same bin or
in neighboring ones; a cell narrower than the cutoff is one bin with more images.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.neighbors.boxes import bounding_box
from molpool_calc.neighbors.pairs import first_and_size, near

CHUNK = 2**22
"""How many candidates are held at once (about 0.5 GB)."""
MOST_BINS = 128
"""Along one direction, so that empty space does not cost memory."""


class _Bins(NamedTuple):
    """Where the atoms are: bins of each system, and the atoms of each bin.

    ``wraps`` are the cells by which an atom lies outside its own; ``reach`` is how many
    bins are to be searched to either side.
    """

    place: Int[Tensor, "atoms 3"]
    wraps: Int[Tensor, "atoms 3"]
    number: Int[Tensor, "systems 3"]
    first: Int[Tensor, " systems"]
    order: Int[Tensor, " atoms"]
    start: Int[Tensor, " bins"]
    counts: Int[Tensor, " bins"]
    reach: tuple[int, ...]


def cell_pairs(batch: AtomsBatch, cutoff: float) -> NeighborList:
    """Return all pairs within the cutoff, in any order.

    Args:
        batch: in float64, lattice vectors zero where it is not periodic.
        cutoff: in Å, finite.
    """
    bins = _bins(batch, cutoff)
    found = [near(batch, *pairs, cutoff) for pairs in _candidates(batch, bins)]
    center, neighbor, shift = map(torch.cat, zip(*found, strict=True))
    periodic = bool(batch.pbc.any())
    return NeighborList(
        center=center, neighbor=neighbor, shift=shift if periodic else None
    )


def _bins(batch: AtomsBatch, cutoff: float) -> _Bins:
    box, origin = _boxes(batch, cutoff)
    index = batch.systems.index
    inverse = torch.linalg.inv(box)
    heights = 1.0 / torch.linalg.vector_norm(inverse, dim=1)
    # the millionth is far above rounding: a bin is never narrower than the cutoff
    number = torch.floor(heights / cutoff - 1e-6).clamp(1, MOST_BINS).long()
    reach = torch.ceil(cutoff * number / heights - 1e-6).long()
    from_origin = batch.positions - origin[index]
    fractional = (from_origin[:, :, None] * inverse[index]).sum(1)
    periodic = batch.pbc[index]
    wraps = torch.where(periodic, torch.floor(fractional), 0.0)
    most = (number - 1)[index]
    place = ((fractional - wraps) * number[index]).long().clamp(min=0).minimum(most)
    n_bins = number.prod(1)
    ends = torch.cumsum(n_bins, 0)
    first, total = ends - n_bins, int(ends[-1])
    flat = first[index] + _flat(place, number[index])
    counts = torch.bincount(flat, minlength=total)
    return _Bins(
        place=place,
        wraps=wraps.long(),
        number=number,
        first=first,
        order=torch.argsort(flat),
        start=torch.cumsum(counts, 0) - counts,
        counts=counts,
        reach=tuple(reach.amax(0).tolist()),
    )


def _candidates(
    batch: AtomsBatch, bins: _Bins
) -> Iterator[
    tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Float[Tensor, "pairs 3"]]
]:
    """Yield all atoms with all of the bins around, as many at once as memory allows."""
    index = batch.systems.index
    number, periodic = bins.number[index], batch.pbc[index]
    around = product(*(range(-n, n + 1) for n in bins.reach))
    offsets = torch.tensor(list(around)).to(index.device)
    moved = bins.place + offsets[:, None, :]
    image = torch.div(moved, number, rounding_mode="floor")
    exists = ((image == 0) | periodic).all(2)
    target = bins.first[index] + _flat(moved - image * number, number)
    target = torch.where(exists, target, 0)
    counts = torch.where(exists, bins.counts[target], 0)
    for part in _parts(counts.sum(1).tolist()):
        yield _pairs_of(bins, target[part], counts[part], image[part])


def _pairs_of(
    bins: _Bins,
    target: Int[Tensor, "offsets atoms"],
    counts: Int[Tensor, "offsets atoms"],
    image: Int[Tensor, "offsets atoms 3"],
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Float[Tensor, "pairs 3"]]:
    """Return every atom with the atoms of its target bins, and their shifts."""
    n_atoms, flat = counts.shape[1], counts.flatten()
    items = torch.arange(len(flat), device=flat.device)
    item = torch.repeat_interleave(items, flat)
    rank = torch.arange(len(item), device=flat.device)
    rank = rank - (torch.cumsum(flat, 0) - flat)[item]
    center = item % n_atoms
    neighbor = bins.order[bins.start[target.flatten()][item] + rank]
    shift = image.flatten(0, 1)[item] + bins.wraps[center] - bins.wraps[neighbor]
    return center, neighbor, shift.to(torch.float64)


def _parts(sizes: list[int]) -> Iterator[slice]:
    """Yield ranges of offsets, with at most ``CHUNK`` candidates or one offset."""
    first, total = 0, 0
    for place, size in enumerate(sizes):
        if total and total + size > CHUNK:
            yield slice(first, place)
            first, total = place, 0
        total += size
    yield slice(first, len(sizes))


def _flat(
    place: Int[Tensor, "*offsets atoms 3"], number: Int[Tensor, "atoms 3"]
) -> Int[Tensor, "*offsets atoms"]:
    x, y, z = place.unbind(-1)
    _, height, depth = number.unbind(1)
    return (x * height + y) * depth + z


def _boxes(
    batch: AtomsBatch, cutoff: float
) -> tuple[Float[Tensor, "systems 3 3"], Float[Tensor, "systems 3"]]:
    """Return a regular cell of each system, and its origin."""
    box, origin = batch.cell.clone(), batch.cell.new_zeros(batch.cell.shape[:2])
    open_systems = (~batch.pbc.all(1)).nonzero()[:, 0].tolist()
    if not open_systems:
        return box, origin
    first, size = (part.tolist() for part in first_and_size(batch.systems))
    positions, cell = batch.positions.cpu().numpy(), batch.cell.cpu().numpy()
    pbc = batch.pbc.cpu().numpy()
    for k in open_systems:
        own = positions[first[k] : first[k] + size[k]]
        made, corner = bounding_box(own, cell[k], pbc[k], cutoff)
        box[k] = torch.from_numpy(np.ascontiguousarray(made)).to(box)
        origin[k] = torch.from_numpy(corner).to(box)
    return box, origin
