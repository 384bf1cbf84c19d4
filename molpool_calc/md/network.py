"""A network engine as the force field of molecular dynamics."""

from dataclasses import replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from molpool_calc.engine import Engine
from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.md.state import Response
from molpool_calc.neighbors import VerletList, usual_backend

SKIN = 1.0  # Å; a molecule of up to 12 atoms needs no list at all


class NetworkForceField:
    """Positions of all replicas in, energies, forces and dipoles out, in one pass.

    Positions are integrated in float64 and cast to the engine's dtype for the network.
    On the CPU the answer depends on the positions alone: lists are cut at the cutoff in
    canonical order whatever their history. On a GPU forces do so for molecules of one
    size with all their pairs; energies, dipoles and sums over listed pairs are added in
    an order that differs from call to call.

    Args:
        engine: placed and frozen.
        batch: all replicas; only its positions change during a run.
        properties: to evaluate at every step, energy and forces among them.
        others: which of them go beside energy, forces and dipole: names of scalars,
            or ``polarizability``.
    """

    def __init__(
        self,
        engine: Engine,
        batch: AtomsBatch,
        properties: frozenset[str],
        *,
        others: tuple[str, ...] = (),
    ) -> None:
        self.engine, self.batch, self.others = engine, batch, others
        backend = usual_backend(engine.device)
        exact = engine.device.type == "cpu"
        self.lists = VerletList(engine.potential.cutoff, SKIN, backend, exact=exact)
        self.properties = properties
        self._all_pairs: NeighborList | None = None

    def __call__(self, positions: Float64[Tensor, "atoms 3"]) -> Response:
        """Return energies (eV), forces (eV/Å), dipoles (e·Å), others; all float64."""
        return self._respond(positions, self.batch.cell, self.properties)

    def in_cell(
        self,
        positions: Float64[Tensor, "atoms 3"],
        cell: Float64[Tensor, "systems 3 3"],
    ) -> Response:
        """Return the same with the stress (eV/Å³), in cells that may be others."""
        return self._respond(positions, cell, self.properties | {"stress"})

    def _respond(
        self,
        positions: Float64[Tensor, "atoms 3"],
        cell: Float[Tensor, "systems 3 3"],
        properties: frozenset[str],
    ) -> Response:
        dtype = self.engine.dtype
        batch = replace(self.batch, positions=positions.to(dtype))
        if cell is not self.batch.cell:
            batch = replace(batch, cell=cell.to(dtype))
        pairs = self._all_pairs or self.lists.update(batch)
        if pairs.n_dense is not None:  # they are all of them, wherever the atoms go
            self._all_pairs = pairs
        prediction = self.engine.evaluate(batch, pairs, properties)
        if prediction.energy is None or prediction.forces is None:
            raise ValueError("this potential has no energy head, so it has no forces")
        dipole, stress = prediction.dipole, prediction.stress
        given = dict(prediction.others or {})
        if prediction.polarizability is not None:
            given["polarizability"] = prediction.polarizability
        return Response(
            energy=prediction.energy,
            forces=prediction.forces.to(torch.float64),
            dipole=None if dipole is None else dipole.to(torch.float64),
            others={name: given[name].to(torch.float64) for name in self.others},
            stress=None if stress is None else stress.to(torch.float64),
        )
