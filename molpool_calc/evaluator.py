"""Structures in, results under ASE's names out: what the calculator is a face of."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any, get_args

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from molpool_calc.atoms import (
    ChargeAndSpin,
    batch_from_atoms,
    check_positions,
    check_species,
)
from molpool_calc.batches import Batches
from molpool_calc.compilation.engine import Compile, make_engine, runs_native
from molpool_calc.compilation.graphs import evaluate_to_host
from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.neighbors import VerletList, VerletLists, usual_backend
from molpool_calc.neighbors.backends import Backend
from molpool_calc.potential import NeuralPotential
from molpool_calc.results import as_results, over_committee
from molpool_calc.snapshot import Snapshot, same_system, take_snapshot

MAX_ATOMS_PER_BATCH = 2048
N_COMPLETE_NATIVE = 100
"""Largest molecule of which native code gets all pairs: 5000 distances take 20 µs."""
NUMPY_TYPES = {torch.float32: np.float32, torch.float64: np.float64}
MAX_ATOMS_ON_GPU = 16_384
"""In one pass to begin with; `Batches` takes fewer where memory ends."""


class Evaluator:
    """One potential, or a committee of them, ready to be asked about structures.

    Args:
        potentials: members of the committee; one is the usual case.
        device: as resolved.
        dtype: of the networks.
        skin: in Å, of the neighbor lists.
        backend: which program searches neighbors; by default the usual one.
        compile: see ``compilation.engine.make_engine``.

    Raises:
        ValueError: no potential, a committee whose members differ in elements,
            charges or properties, a negative skin or an unknown back end.
    """

    def __init__(
        self,
        potentials: Sequence[NeuralPotential],
        *,
        device: torch.device,
        dtype: torch.dtype,
        skin: float,
        backend: Backend | None = None,
        compile: Compile = "never",  # noqa: A002 - the public name of the option
    ) -> None:
        if not potentials:
            raise ValueError("no potential was given; give at least one")
        first = potentials[0]
        for other in potentials[1:]:
            if _coverage(other) != _coverage(first):
                raise ValueError(
                    f"{other.spec.name} and {first.spec.name} differ in elements, "
                    "charges, spins or properties; a committee needs members that "
                    "agree in all"
                )
        backend = backend or usual_backend(device)
        if backend not in get_args(Backend):
            raise ValueError(
                f"neighbors={backend!r} is unknown; choose one of auto, "
                f"{', '.join(get_args(Backend))}"
            )
        if not skin >= 0:
            raise ValueError(f"the skin is {skin!r}, but must be 0 or more Å")
        self.engines = [make_engine(p, device, dtype, compile) for p in potentials]
        self.device, self.dtype, self.backend = device, dtype, backend
        self.potential = first
        self.cutoff = max(member.cutoff for member in potentials)
        on_host = device.type == "cpu"
        self.lists = VerletLists(self.cutoff, skin, backend, exact=on_host)
        self._has_loose_lists = not on_host
        most = MAX_ATOMS_PER_BATCH if on_host else MAX_ATOMS_ON_GPU
        self.batches = Batches(device, most)
        self._batch: AtomsBatch | None = None
        self._seen: Snapshot | None = None
        self._pinned: Tensor | None = None

    @property
    def has_stress(self) -> bool:
        """Whether the energy scales with the system, so that it has a stress."""
        members = [engine.potential for engine in self.engines]
        extensive = all(member.extensive for member in members)
        return "energy" in self.potential.properties and extensive

    @property
    def properties(self) -> list[str]:
        """Names of all properties that can be asked for."""
        names = set(self.potential.properties)
        if "energy" in names:
            names |= {"free_energy", "forces"}
        names |= {"stress"} if self.has_stress else set()
        return sorted(names)

    def check(self, atoms: Atoms, state: ChargeAndSpin) -> None:
        """Check that the potential may be asked about a structure.

        Raises:
            ValueError: no atoms, a position that is not finite, an unknown element, a
                charge or spin the potential was not trained on.
        """
        spec, (charge, num_unpaired) = self.potential.spec, state
        check_positions(atoms.positions)
        check_species(atoms.numbers, self.potential.species, spec.name)
        if charge not in spec.total_charges:
            allowed = ", ".join(f"{q:+d}" if q else "0" for q in spec.total_charges)
            raise ValueError(
                f"the system has the charge {charge:g}, but {spec.name} was trained "
                f'on charges {allowed}; correct atoms.info["charge"] or take another '
                "potential"
            )
        if num_unpaired not in spec.num_unpaired:
            allowed = ", ".join(map(str, spec.num_unpaired))
            known = "closed shells" if allowed == "0" else f"{allowed} of them"
            raise ValueError(
                f"the system has {num_unpaired:g} unpaired electrons, but {spec.name} "
                f"was trained on {known}; take another potential"
            )
        if self.cutoff == inf and atoms.pbc.any():
            raise ValueError(
                f"the system is periodic, but {spec.name} lets all pairs interact "
                "whatever their distance; import it again with --long-range-cutoff"
            )

    def evaluate(
        self,
        atoms: Atoms,
        state: ChargeAndSpin,
        properties: frozenset[str],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the results of one structure and their spread over the committee.

        Args:
            atoms: already checked.
            state: total charge and unpaired electrons.
            properties: what to compute besides the energy.
        """
        batch = self._batch_of(atoms, state)
        self._loosen_lists()
        pairs = self.lists.update(batch)
        found = [evaluate_to_host(e, batch, pairs, properties) for e in self.engines]
        members = [as_results(p, 0, slice(None), properties) for p in found]
        return over_committee(members)

    def _loosen_lists(self) -> None:
        """Leave far pairs in the lists once they cost less than their removal."""
        if self._has_loose_lists or not all(map(runs_native, self.engines)):
            return
        self._has_loose_lists = True
        old, n = self.lists, N_COMPLETE_NATIVE
        self.lists = VerletLists(
            old.cutoff, old.skin, old.backend, exact=False, n_complete=n
        )

    def _batch_of(self, atoms: Atoms, state: ChargeAndSpin) -> AtomsBatch:
        """Return the structure as a batch, from the last one if only atoms moved."""
        if self._batch is None or not same_system(self._seen, atoms, *state):
            self._batch = batch_from_atoms(
                [atoms], dtype=self.dtype, device=self.device, states=[state]
            )
            self._seen = take_snapshot(atoms, *state)
            return self._batch
        return replace(self._batch, positions=self._positions_of(atoms))

    def _positions_of(self, atoms: Atoms) -> Float[Tensor, "atoms 3"]:
        if self.device.type == "cpu":
            # by NumPy, which takes a quarter of torch's time
            return torch.from_numpy(atoms.positions.astype(NUMPY_TYPES[self.dtype]))
        # page-locked, so that nothing waits; the copy before is over: results were read
        if self._pinned is None or self._pinned.shape != atoms.positions.shape:
            shape = atoms.positions.shape
            self._pinned = torch.empty(shape, dtype=self.dtype, pin_memory=True)
        self._pinned.numpy()[:] = atoms.positions
        return self._pinned.to(self.device, non_blocking=True)

    def evaluate_many(
        self,
        structures: Sequence[Atoms],
        states: Sequence[ChargeAndSpin],
        properties: frozenset[str],
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return ``evaluate`` of many structures, several in one forward pass.

        See `Batches` for how many that are; on the CPU passes run beside each other.
        """

        def one_pass(
            first: int, last: int
        ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
            batch = batch_from_atoms(
                structures[first:last],
                dtype=self.dtype,
                device=self.device,
                states=states[first:last],
            )
            pairs = VerletList(self.cutoff, 0.0, self.backend).update(batch)
            return self._split(batch, pairs, properties)

        return self.batches.evaluate([len(atoms) for atoms in structures], one_pass)

    def _split(
        self, batch: AtomsBatch, pairs: NeighborList, properties: frozenset[str]
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        predictions = [
            evaluate_to_host(e, batch, pairs, properties) for e in self.engines
        ]
        sizes = np.bincount(
            batch.systems.index.cpu(), minlength=batch.systems.n_segments
        )
        ends = np.cumsum(sizes)
        return [
            over_committee(
                [
                    as_results(p, k, slice(ends[k] - sizes[k], ends[k]), properties)
                    for p in predictions
                ]
            )
            for k in range(len(sizes))
        ]


def _coverage(potential: NeuralPotential) -> tuple[frozenset[Any], ...]:
    charges = frozenset(potential.spec.total_charges)
    spins = frozenset(potential.spec.num_unpaired)
    return potential.species, charges, spins, potential.properties
