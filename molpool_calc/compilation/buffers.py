"""A batch and its pairs at fixed places in memory, with room for more pairs."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Shaped
from torch import Tensor

from molpool_calc.edges import OUT_OF_REACH
from molpool_calc.interfaces import AtomsBatch, NeighborList

HEADROOM = 1.15
"""Room over the pairs there are: those of a liquid fluctuate by a few percent."""
GRANULE = 64


def capacity_for(n_pairs: int) -> int:
    """Return for how many pairs to make room where there are so many now."""
    return -(-int(HEADROOM * n_pairs + 1) // GRANULE) * GRANULE


class Slot:
    """One tensor at a fixed place; what is the same as before is not copied again.

    Args:
        source: its first content.
        n_rows: room along the first axis; by default as much as is needed.
        padding: one row, for what is not used.
    """

    def __init__(
        self,
        source: Shaped[Tensor, "rows ..."],
        n_rows: int | None = None,
        padding: Shaped[Tensor, "..."] | None = None,
    ) -> None:
        rows = source.shape[0] if n_rows is None else n_rows
        self.tensor = source.new_zeros((rows, *source.shape[1:]))
        self._padding = padding
        self._seen: Tensor | None = None
        self._version = -1

    def fill(self, source: Shaped[Tensor, "rows ..."]) -> None:
        """Take the values of a tensor with as many rows at most."""
        # tensors of torch.inference_mode do not count their changes
        version = -1 if source.is_inference() else source._version
        if source is self._seen and version == self._version != -1:
            return
        self._seen, self._version = source, version
        n = source.shape[0]
        self.tensor[:n].copy_(source.detach(), non_blocking=True)
        if self._padding is not None and n < self.tensor.shape[0]:
            self.tensor[n:] = self._padding


class Buffers:
    """Fixed places for batches of one shape, and for up to ``capacity`` pairs.

    Unused pairs are pairs of the first atom with an image of it that is farther than
    any cutoff, and so contribute exactly nothing. Listed pairs of molecules get a cell
    for this, in which only such pairs have a shift.

    Args:
        batch: one batch of that shape; all its systems are periodic alike.
        neighbors: its pairs.
        capacity: see above; as many as there are if ``None``, and then always so many.
    """

    def __init__(
        self, batch: AtomsBatch, neighbors: NeighborList, capacity: int | None
    ) -> None:
        n_pairs = neighbors.center.shape[0]
        self.is_exact = capacity is None
        self.capacity = n_pairs if capacity is None else capacity
        # molecules whose pairs are always as many need no image of an atom
        self._made_up = neighbors.shift is None and not self.is_exact
        self._periodic = _periodic(batch)
        self._slots = [Slot(tensor) for tensor in _of_batch(batch)]
        self._ends = [
            Slot(end, self.capacity, end.new_zeros(()))
            for end in (neighbors.center, neighbors.neighbor)
        ]
        self._shift = self._shift_slot(batch, neighbors)
        self.fill(batch, neighbors)
        self.batch = self._static_batch(batch)
        self.neighbors = NeighborList(
            center=self._ends[0].tensor,
            neighbor=self._ends[1].tensor,
            shift=None if self._shift is None else self._shift.tensor,
            n_dense=neighbors.n_dense,
        )

    def hold(self, neighbors: NeighborList) -> bool:
        """Return whether there is room for these pairs."""
        n_pairs = neighbors.center.shape[0]
        if self.is_exact:
            return n_pairs == self.capacity
        return n_pairs <= self.capacity

    def fill(self, batch: AtomsBatch, neighbors: NeighborList) -> None:
        """Put a batch of the same shape, and its pairs, into their places."""
        for slot, tensor in zip(self._slots, _of_batch(batch), strict=True):
            slot.fill(tensor)
        self._ends[0].fill(neighbors.center)
        self._ends[1].fill(neighbors.neighbor)
        if self._shift is None:
            return
        if neighbors.shift is not None:
            self._shift.fill(neighbors.shift)
        else:
            self._shift.tensor.zero_()
            self._shift.tensor[neighbors.center.shape[0] :, 0] = 1.0

    def _shift_slot(self, batch: AtomsBatch, neighbors: NeighborList) -> Slot | None:
        like = batch.positions.detach()
        if neighbors.shift is None:
            return Slot(like.new_zeros((self.capacity, 3))) if self._made_up else None
        away = like.new_zeros(3)
        away[self._periodic.index(True) if any(self._periodic) else 0] = OUT_OF_REACH
        return Slot(neighbors.shift, self.capacity, away.to(neighbors.shift.dtype))

    def _static_batch(self, batch: AtomsBatch) -> AtomsBatch:
        numbers, positions, cell, pbc, charge, unpaired, index, slot = (
            item.tensor for item in self._slots
        )
        if self._made_up:
            unit = torch.eye(3, dtype=cell.dtype, device=cell.device)
            cell = (OUT_OF_REACH * unit).expand(cell.shape).contiguous()
        return AtomsBatch(
            atomic_numbers=numbers,
            positions=positions,
            cell=cell,
            pbc=pbc,
            total_charge=charge,
            num_unpaired=unpaired,
            systems=replace(batch.systems, index=index, slot=slot),
        )


def _of_batch(batch: AtomsBatch) -> Sequence[Tensor]:
    systems = batch.systems
    return (
        *(batch.atomic_numbers, batch.positions, batch.cell, batch.pbc),
        *(batch.total_charge, batch.num_unpaired, systems.index, systems.slot),
    )


def _periodic(batch: AtomsBatch) -> list[bool]:
    """Return along which lattice vectors all systems are periodic."""
    first: list[bool] = batch.pbc[0].tolist()
    if not bool((batch.pbc == batch.pbc[0]).all()):
        raise RuntimeError("the systems are not periodic alike")
    return first
