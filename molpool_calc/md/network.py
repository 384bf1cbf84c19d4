"""A network engine as the force field of molecular dynamics."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from math import ceil

import torch
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.engine import Engine
from molpool_calc.interfaces import AtomsBatch, Prediction
from molpool_calc.md.state import Response
from molpool_calc.neighbors import VerletList
from molpool_calc.segments import segments_from_sizes

SKIN = 1.0  # Å; a molecule of up to 12 atoms needs no list at all
ATOMS_PER_TASK = 64
"""Atoms in one forward pass on a CPU: fewer waste calls, more waste the cache.

A constant, not the number of cores: rounding depends on what is computed together, and
a run must be the same on any number of cores.
"""


class NetworkForceField:
    """Positions of all replicas in, energies, forces and dipoles out.

    Positions are integrated in float64 and cast to the engine's dtype for the network.
    On a GPU all replicas go through one pass; on a CPU groups of them are spread over
    the cores. The answer depends on the positions alone: lists are cut at the cutoff in
    canonical order whatever their history.

    Args:
        engine: placed and frozen.
        batch: all replicas, of one size; only the positions change during a run.
        dipole: whether to evaluate the dipole at every step.
    """

    def __init__(self, engine: Engine, batch: AtomsBatch, *, dipole: bool) -> None:
        self.engine = engine
        names = {"energy", "forces"} | ({"dipole"} if dipole else set())
        self.properties = frozenset(names)
        n = batch.systems.n_segments
        size = n if engine.device.type == "cuda" else _group_size(batch)
        starts = range(0, n, size)
        self.groups = [_group(batch, start, min(start + size, n)) for start in starts]
        self.lists = [VerletList(engine.potential.cutoff, SKIN) for _ in starts]
        self.sizes = [group.positions.shape[0] for group in self.groups]
        workers = min(len(self.groups), os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def __call__(self, positions: Float64[Tensor, "atoms 3"]) -> Response:
        """Return energies (eV), forces (eV/Å) and dipoles (e·Å), float64."""
        parts = torch.split(positions.to(self.engine.dtype), self.sizes)
        jobs = zip(self.groups, self.lists, parts, strict=True)
        if self._pool is None:
            found = [self._evaluate(*job) for job in jobs]
        else:
            found = list(self._pool.map(lambda job: self._evaluate(*job), jobs))
        dipole = None
        if "dipole" in self.properties:
            dipole = _join([prediction.dipole for prediction in found])
        return Response(
            energy=_join([prediction.energy for prediction in found]),
            forces=_join([prediction.forces for prediction in found]),
            dipole=dipole,
        )

    def _evaluate(
        self, group: AtomsBatch, pairs: VerletList, positions: Tensor
    ) -> Prediction:
        batch = replace(group, positions=positions)
        return self.engine.evaluate(batch, pairs.update(batch), self.properties)


@contextmanager
def one_thread_per_task() -> Iterator[None]:
    """Keep torch from splitting single operations while groups share the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _group_size(batch: AtomsBatch) -> int:
    """Return how many replicas go through one pass, groups being of equal size."""
    n, atoms = batch.systems.n_segments, batch.positions.shape[0]
    return ceil(n / ceil(atoms / ATOMS_PER_TASK))


def _group(batch: AtomsBatch, first: int, last: int) -> AtomsBatch:
    """Return the systems ``first`` to ``last`` of a batch of equal systems."""
    n = batch.systems.max_size
    atoms, systems = slice(first * n, last * n), slice(first, last)
    return AtomsBatch(
        atomic_numbers=batch.atomic_numbers[atoms],
        positions=batch.positions[atoms],
        cell=batch.cell[systems],
        pbc=batch.pbc[systems],
        total_charge=batch.total_charge[systems],
        systems=segments_from_sizes([n] * (last - first), batch.positions.device),
    )


def _join(parts: list[Tensor | None]) -> Tensor:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        raise ValueError("this potential has no energy head, so it has no forces")
    return torch.cat(known).to(torch.float64)
