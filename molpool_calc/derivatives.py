"""The one place that differentiates: forces, stress, and second derivatives.

Forces are −∂E/∂r. Stress is (1/V) ∂E/∂ε for r' = r(1+ε), cell' = cell(1+ε) with
symmetric ε (tensile positive). Second derivatives (Hessian ∂²E/∂r∂r, ∂μ/∂r, ∂α/∂r)
are rows of a Jacobian, each taken on a copy of the system in one batch, so that a
single backward pass gives many rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import (
    AtomsBatch,
    NeighborList,
    Potential,
    Prediction,
    Segments,
)

DIFFERENTIATED = frozenset({"forces", "stress"})


def evaluate(
    potential: Potential,
    batch: AtomsBatch,
    neighbors: NeighborList,
    *,
    properties: frozenset[str],
    create_graph: bool = False,
) -> Prediction:
    """Return the wanted properties, ``forces`` and ``stress`` among them.

    Args:
        potential: maps batch and pairs to energies and the like.
        batch: atoms; left unchanged.
        neighbors: pairs, both directions.
        properties: names of the fields to fill.
        create_graph: keep results differentiable (training, second derivatives).

    Returns:
        The prediction; detached from the graph unless ``create_graph``.

    Raises:
        ValueError: stress of a system without three lattice vectors.
    """
    if "stress" in properties:
        demand_volume(batch.cell)
    return unchecked(potential, batch, neighbors, properties, create_graph=create_graph)


def unchecked(
    potential: Potential,
    batch: AtomsBatch,
    neighbors: NeighborList,
    properties: frozenset[str],
    *,
    create_graph: bool = False,
) -> Prediction:
    """Return what ``evaluate`` does without looking at the values of the cells."""
    with torch.set_grad_enabled(create_graph or bool(DIFFERENTIATED & properties)):
        prediction = differentiate(
            potential, batch, neighbors, properties, create_graph=create_graph
        )
    return prediction if create_graph else detach(prediction)


def differentiate(
    potential: Potential,
    batch: AtomsBatch,
    neighbors: NeighborList,
    properties: frozenset[str],
    *,
    create_graph: bool = False,
) -> Prediction:
    """Return what ``evaluate`` does, unchecked and with the mode of gradients as it is.

    Nothing in here depends on the values of tensors, so that it can be traced.
    """
    wanted = DIFFERENTIATED & properties
    if not wanted:
        return potential(batch, neighbors, properties)
    positions = batch.positions
    if not (create_graph and positions.requires_grad):
        positions = positions.detach().requires_grad_()
    live = replace(batch, positions=positions)
    inputs, strained = [positions], live
    if "stress" in wanted:
        strain = torch.zeros_like(batch.cell, requires_grad=True)
        inputs.append(strain)
        strained = _strained(live, strain)
    prediction = potential(strained, neighbors, (properties - wanted) | {"energy"})
    if prediction.energy is None:
        raise ValueError("this potential has no energy head, so it has no forces")
    gradients = torch.autograd.grad(
        prediction.energy.sum(), inputs, create_graph=create_graph, allow_unused=True
    )
    first = gradients[0]
    # a system without pairs has an energy that does not depend on positions
    forces = torch.zeros_like(positions) if first is None else -first
    stress = None
    if "stress" in wanted:
        stress = _stress(gradients[1], batch.cell)
    return replace(prediction, forces=forces, stress=stress)


def loss_gradients(value: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return ∂value/∂parameter of each; zeros where it does not depend on one."""
    return list(torch.autograd.grad(value, parameters, materialize_grads=True))


def _strained(batch: AtomsBatch, strain: Float[Tensor, "systems 3 3"]) -> AtomsBatch:
    symmetric = 0.5 * (strain + strain.transpose(1, 2))
    shift = torch.einsum("ai,aij->aj", batch.positions, symmetric[batch.systems.index])
    return replace(
        batch,
        positions=batch.positions + shift,
        cell=batch.cell + batch.cell @ symmetric,
    )


def _stress(
    virial: Float[Tensor, "systems 3 3"] | None, cell: Float[Tensor, "systems 3 3"]
) -> Float[Tensor, "systems 3 3"]:
    if virial is None:
        return torch.zeros_like(cell)
    a, b, c = cell.unbind(1)
    # the determinant of a library cannot be recorded on a GPU
    volume = (a * torch.linalg.cross(b, c)).sum(1).abs()
    stress: Tensor = virial / volume[:, None, None]
    return stress


def demand_volume(cell: Float[Tensor, "systems 3 3"]) -> None:
    """Raise ValueError unless the lattice vectors of each system span a volume."""
    if not bool((torch.linalg.det(cell) != 0).all()):
        raise ValueError(
            "stress needs three lattice vectors that span a volume; give a cell"
        )


def detach(prediction: Prediction) -> Prediction:
    """Return the prediction without its graph."""
    fields: dict[str, Any] = {}
    for name in Prediction.__dataclass_fields__:
        value = getattr(prediction, name)
        if isinstance(value, Tensor):
            fields[name] = value.detach()
    for name in ("others", "weights"):
        table = getattr(prediction, name)
        if table is not None:
            fields[name] = {key: value.detach() for key, value in table.items()}
    return replace(prediction, **fields)


def hessian(
    potential: Potential,
    batch: AtomsBatch,
    neighbors: NeighborList,
    *,
    rows_per_pass: int = 64,
) -> Float[Tensor, "atoms 3 atoms 3"]:
    """Return ∂²E/∂r_ia∂r_jb of one system in eV/Å².

    Args:
        potential: anything with an energy.
        batch: exactly one system.
        neighbors: its pairs.
        rows_per_pass: copies of the system in one batch; bounds the memory.

    Raises:
        ValueError: the batch holds more than one system.
    """

    def negative_forces(copies: AtomsBatch, pairs: NeighborList) -> Tensor:
        prediction = evaluate(
            potential,
            copies,
            pairs,
            properties=frozenset({"forces"}),
            create_graph=True,
        )
        assert prediction.forces is not None  # asked for above
        return -prediction.forces.reshape(copies.systems.n_segments, -1)

    n = batch.positions.shape[0]
    rows = _jacobian(negative_forces, batch, neighbors, 3 * n, rows_per_pass)
    return rows.reshape(n, 3, n, 3)


def dipole_derivatives(
    potential: Potential, batch: AtomsBatch, neighbors: NeighborList
) -> Float[Tensor, "atoms 3 3"]:
    """Return P_iab = ∂μ_b/∂r_ia of one system in e (atomic polar tensors).

    Raises:
        ValueError: several systems, or a potential without dipole.
    """
    rows = _property_rows(potential, batch, neighbors, "dipole", 3)
    return rows.permute(1, 2, 0)


def polarizability_derivatives(
    potential: Potential, batch: AtomsBatch, neighbors: NeighborList
) -> Float[Tensor, "atoms 3 3 3"]:
    """Return ∂α_bc/∂r_ia of one system in e²Å/eV, axes (i, a, b, c).

    Raises:
        ValueError: several systems, or a potential without polarizability.
    """
    n = batch.positions.shape[0]
    rows = _property_rows(potential, batch, neighbors, "polarizability", 9)
    return rows.reshape(3, 3, n, 3).permute(2, 3, 0, 1)


def _property_rows(
    potential: Potential,
    batch: AtomsBatch,
    neighbors: NeighborList,
    name: str,
    n_rows: int,
) -> Float[Tensor, "rows atoms 3"]:
    if name not in potential.properties:
        known = ", ".join(sorted(potential.properties))
        raise ValueError(f"this potential has no {name}; it has {known}")

    def components(copies: AtomsBatch, pairs: NeighborList) -> Tensor:
        prediction = potential(copies, pairs, frozenset({name}))
        value: Tensor = getattr(prediction, name)
        return value.reshape(copies.systems.n_segments, -1)

    return _jacobian(components, batch, neighbors, n_rows, n_rows)


def _jacobian(
    function: Callable[[AtomsBatch, NeighborList], Tensor],
    batch: AtomsBatch,
    neighbors: NeighborList,
    n_rows: int,
    rows_per_pass: int,
) -> Float[Tensor, "rows atoms 3"]:
    """Return the derivatives of ``function``'s columns, one copy of the system each."""
    if batch.systems.n_segments != 1:
        raise ValueError(
            f"derivatives of {batch.systems.n_segments} systems were asked for at "
            "once; give one system at a time"
        )
    blocks = []
    for start in range(0, n_rows, rows_per_pass):
        columns = torch.arange(start, min(start + rows_per_pass, n_rows))
        columns = columns.to(batch.positions.device)
        copies, pairs = repeat_system(batch, neighbors, len(columns))
        positions = copies.positions.detach().requires_grad_()
        with torch.enable_grad():
            values = function(replace(copies, positions=positions), pairs)
            chosen = values.gather(1, columns[:, None]).sum()
        gradient = torch.zeros_like(positions)
        if chosen.requires_grad:
            (found,) = torch.autograd.grad(chosen, positions, allow_unused=True)
            gradient = gradient if found is None else found
        blocks.append(gradient.reshape(len(columns), -1, 3))
    return torch.cat(blocks)


def repeat_system(
    batch: AtomsBatch, neighbors: NeighborList, n_copies: int
) -> tuple[AtomsBatch, NeighborList]:
    """Return ``n_copies`` of all systems of a batch, one after another."""
    n_atoms, n_pairs = batch.positions.shape[0], neighbors.center.shape[0]
    systems, device = batch.systems, batch.positions.device
    copy = torch.arange(n_copies, device=device)
    atom_offset = copy.repeat_interleave(n_pairs) * n_atoms
    shift = neighbors.shift
    repeated = AtomsBatch(
        atomic_numbers=batch.atomic_numbers.repeat(n_copies),
        positions=batch.positions.repeat(n_copies, 1),
        cell=batch.cell.repeat(n_copies, 1, 1),
        pbc=batch.pbc.repeat(n_copies, 1),
        total_charge=batch.total_charge.repeat(n_copies),
        num_unpaired=batch.num_unpaired.repeat(n_copies),
        systems=Segments(
            index=systems.index.repeat(n_copies)
            + copy.repeat_interleave(n_atoms) * systems.n_segments,
            slot=systems.slot.repeat(n_copies),
            n_segments=systems.n_segments * n_copies,
            max_size=systems.max_size,
        ),
    )
    pairs = NeighborList(
        center=neighbors.center.repeat(n_copies) + atom_offset,
        neighbor=neighbors.neighbor.repeat(n_copies) + atom_offset,
        shift=None if shift is None else shift.repeat(n_copies, 1),
        n_dense=neighbors.n_dense,
    )
    return repeated, pairs
