"""Neighbor lists that are reused while they are provably complete (Verlet 1967)."""

from dataclasses import dataclass, replace
from math import inf, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.neighbors.backends import Backend
from molpool_calc.neighbors.pairs import (
    complete_pairs,
    dense_pairs,
    has_all_pairs,
    pairs_within,
    shift_offsets,
)
from molpool_calc.neighbors.search import (
    ROUNDING,
    in_double_precision,
    in_dtype,
    neighbor_list,
)
from molpool_calc.segments import segment_count, segment_sum


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class _Built:
    """A list with skin and the geometry it was made for.

    ``complete``: ``pairs`` are all pairs of small molecules, right for ever. ``source``
    and ``versions`` are the tensors that say which systems these are, as they were;
    ``whole`` is the list in their type.
    """

    source: tuple[Tensor, ...]
    versions: tuple[int, ...]
    geometry: AtomsBatch
    pairs: NeighborList
    whole: NeighborList
    offsets: Float[Tensor, "pairs 3"] | None
    periodic: bool
    complete: bool


MOST_UNCUT = 10_000
"""Pairs with a skin that a GPU works off sooner than the host would wait for a cut."""


class VerletList:
    r"""A neighbor list along a trajectory, searched anew only when it must be.

    The search includes pairs up to cutoff + skin. Let R⁰ and C⁰ be positions and cell
    (rows) at that time, R and C those of now. Any 3x3 matrix F with C⁰F = C is a
    deformation of the lattice; here F = 1 + C⁰⁺(C - C⁰), with zero rows of C where the
    system is not periodic, so that F is 1 for molecules and for an unchanged cell. With
    the motion u_i = R_i - R⁰_i F of each atom on top of it, a pair vector
    v = R_j - R_i + S C was v⁰ = R⁰_j - R⁰_i + S C⁰, and

        v = v⁰ F + u_j - u_i,   |v| ≥ s |v⁰| - |u_i| - |u_j|,

    s being the smallest singular value of F. A pair that was not found has
    |v⁰| ≥ cutoff + skin, so no pair is missing while every atom satisfies

        2 |u_i| ≤ s (cutoff + skin) - cutoff,

    the half-skin criterion |u_i| ≤ skin/2 if the cell is unchanged. The two sides must
    differ by 1e-6 Å, far more than rounding. A translation of all atoms changes no
    pair, so the mean is taken off the u_i of a system whose cell has changed, because
    barostats scale about various origins. ``update`` then cuts the kept list at the
    cutoff, and so returns bit for bit what ``neighbor_list`` returns, whatever
    happened before.

    Batches of molecules with at most ``n_complete`` atoms each get ``dense_pairs`` (if
    of one size) or ``complete_pairs`` instead: no search, no cut, and positions are not
    even read (not finite ones pass).

    Args:
        cutoff: In Å; infinity stands for all pairs of molecules.
        skin: In Å; 0 searches every time.
        backend: As in ``neighbor_list``.
        exact: False leaves lists of up to ``MOST_UNCUT`` pairs with their skin, which
            contributes nothing, so that the host need not wait for a cut on a GPU.
        n_complete: Largest molecule with a complete list; by default that of
            ``has_all_pairs``.

    Attributes:
        n_updates: How often a list was asked for.
        n_builds: How often it was made anew.
    """

    def __init__(
        self,
        cutoff: float,
        skin: float,
        backend: Backend = "vesin",
        *,
        exact: bool = True,
        n_complete: int | None = None,
    ) -> None:
        if not skin >= 0:
            raise ValueError(f"the skin is {skin!r}, but must be 0 or more Å")
        self.cutoff = cutoff
        self.skin = skin
        self.backend: Backend = backend
        self.n_complete, self.exact = n_complete, exact
        self.n_updates = 0
        self.n_builds = 0
        self._built: _Built | None = None

    @property
    def n_pairs_kept(self) -> int:
        """The length of the list that is kept, pairs in the skin included."""
        return 0 if self._built is None else len(self._built.pairs.center)

    def update(self, batch: AtomsBatch) -> NeighborList:
        """Return the neighbor list of a batch, from the kept list if that covers it.

        Raises:
            ValueError: as ``neighbor_list``, if a search is needed.
        """
        found = self.reuse(batch)
        if found is not None:
            return found
        self.n_updates += 1
        self.n_builds += 1
        self._built = built = self._build(batch)
        return self._cut(built, in_double_precision(batch), batch.positions.dtype)

    def reuse(self, batch: AtomsBatch) -> NeighborList | None:
        """Return the neighbor list of a batch if the kept list covers it."""
        built = self._built
        if built is None or not _same_systems(built, batch):
            return None
        if built.complete:
            self.n_updates += 1
            return built.pairs
        geometry = in_double_precision(batch)
        if not self._covers(built, geometry):
            return None
        self.n_updates += 1
        return self._cut(built, geometry, batch.positions.dtype)

    def _build(self, batch: AtomsBatch) -> _Built:
        geometry = _copy(in_double_precision(batch))
        periodic = bool(batch.pbc.any())
        size = batch.systems.max_size
        small = has_all_pairs(size, batch.positions.device, periodic)
        if self.n_complete is not None:
            small = size <= self.n_complete and not periodic
        complete = self.cutoff == inf or small
        if complete:
            dense = dense_pairs(geometry) if small else None
            pairs = dense or complete_pairs(geometry)
        else:
            pairs = neighbor_list(
                geometry, self.cutoff + self.skin, backend=self.backend
            )
        source = _identity(batch)
        return _Built(
            source=source,
            versions=tuple(map(_version, source)),
            geometry=geometry,
            pairs=pairs,
            whole=in_dtype(pairs, batch.positions.dtype),
            offsets=shift_offsets(pairs, geometry.cell, geometry.systems),
            periodic=periodic,
            complete=complete,
        )

    def _covers(self, built: _Built, geometry: AtomsBatch) -> bool:
        """Whether no pair can be missing; false if a position is not finite."""
        before = built.geometry
        if built.periodic and not torch.equal(before.cell, geometry.cell):
            change = torch.linalg.pinv(before.cell) @ (geometry.cell - before.cell)
            strain = change + torch.eye(3).to(change)
            smallest = torch.linalg.matrix_norm(strain, ord=-2)
            room = smallest * (self.cutoff + self.skin) - self.cutoff - ROUNDING
            index = geometry.systems.index
            moved = (before.positions[:, :, None] * change[index]).sum(1)
            motion = geometry.positions - before.positions - moved
            count = segment_count(geometry.systems, motion)
            total = segment_sum(motion, index, geometry.systems.n_segments)
            motion -= (total / count[:, None])[index]
            return bool((2 * motion.norm(dim=1) <= room[index]).all())
        motion = geometry.positions - before.positions
        longest = sqrt(float((motion * motion).sum(1).max()))
        return 2 * longest <= self.skin - ROUNDING

    def _cut(
        self, built: _Built, geometry: AtomsBatch, dtype: torch.dtype
    ) -> NeighborList:
        if built.complete:
            return built.pairs
        if not self.exact and len(built.pairs.center) <= MOST_UNCUT:
            return built.whole
        offsets = built.offsets
        if built.periodic and not torch.equal(built.geometry.cell, geometry.cell):
            offsets = shift_offsets(built.pairs, geometry.cell, geometry.systems)
        pairs = pairs_within(built.pairs, geometry.positions, offsets, self.cutoff)
        return in_dtype(pairs, dtype)


def _same_systems(built: _Built, batch: AtomsBatch) -> bool:
    """Whether a batch holds the systems of a list, on its device.

    The same tensors, unchanged, need not be compared, for which the host would have to
    wait for a GPU.
    """
    a, b = built.geometry, batch
    if a.systems.n_segments != b.systems.n_segments:
        return False
    same = zip(built.source, built.versions, _identity(b), strict=True)
    if all(old is new and -1 != n == _version(new) for old, n, new in same):
        return True
    return (
        a.atomic_numbers.device == b.atomic_numbers.device
        and torch.equal(a.atomic_numbers, b.atomic_numbers)
        and torch.equal(a.pbc, b.pbc)
        and torch.equal(a.systems.index, b.systems.index)
    )


def _identity(batch: AtomsBatch) -> tuple[Tensor, ...]:
    return batch.atomic_numbers, batch.pbc, batch.systems.index


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place, -1 where that is not counted."""
    return -1 if tensor.is_inference() else tensor._version


def _copy(batch: AtomsBatch) -> AtomsBatch:
    """Return a copy that later changes in place of the original do not reach."""
    return replace(
        batch,
        atomic_numbers=batch.atomic_numbers.clone(),
        positions=batch.positions.clone(),
        cell=batch.cell.clone(),
        pbc=batch.pbc.clone(),
        systems=replace(batch.systems, index=batch.systems.index.clone()),
    )
