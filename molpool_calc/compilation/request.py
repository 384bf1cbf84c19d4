"""What a package computes, and how a batch becomes its inputs and its outputs results.

A package takes systems of one size: ``s`` systems of ``m`` atoms, ``e`` listed pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from molpool_calc.edges import FEW_PAIRS
from molpool_calc.interfaces import AtomsBatch, NeighborList, Prediction, Segments
from molpool_calc.networks import PaiNN
from molpool_calc.potential import NeuralPotential

MANY_PAIRS = 10_000_000
PAIRS_BEFORE_BLOCKS = 20_000
"""On the CPU; with more, ``kernels.blocks`` are as fast in a fraction of the memory."""
MANY_DENSE_PAIRS = 300_000
LARGEST_DENSE = 64
"""Atoms; in larger molecules most pairs are beyond the cutoff."""
ALWAYS_APART = frozenset({"polarizability"})
"""Properties that only cost time where nobody asks for them."""
FIELDS = (
    *("energy", "energies", "forces", "stress", "dipole", "charges"),
    *("hirshfeld_ratios", "polarizability"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is compiled: the properties, for molecules or for cells.

    ``dense``: the package makes all pairs of each molecule itself. ``n_atoms``: it is
    for systems of that many atoms only, and the faster for it on a GPU.
    """

    properties: frozenset[str]
    periodic: bool
    dense: bool = False
    n_atoms: int | None = None

    @property
    def words(self) -> list[str]:
        """The request as text, for keys and messages."""
        layout = ["dense"] * self.dense
        layout += [] if self.n_atoms is None else [f"{self.n_atoms} atoms"]
        kind = "periodic" if self.periodic else "molecules"
        return [*sorted(self.properties), kind, *layout]


def request_for(
    potential: NeuralPotential,
    properties: frozenset[str],
    *,
    periodic: bool,
    n_dense: int | None = None,
) -> Request | None:
    """Return the request that covers the properties, ``None`` where none does.

    Everything cheap is in every package, so that few are needed.

    Args:
        potential: to be compiled.
        properties: asked for.
        periodic: whether the systems are cells.
        n_dense: as in ``NeighborList``, for a package of such molecules only.
    """
    weights = {name for name in potential.properties if name.endswith("_weights")}
    given = potential.properties - weights - ALWAYS_APART
    given |= properties & ALWAYS_APART & potential.properties
    if "energy" in given:
        given |= {"forces"} | (properties & {"stress"} if periodic else frozenset())
    if not properties <= given:
        return None
    # filters of half the pairs, or no search for triplets, pay for those out of reach
    prefers_dense = getattr(potential.network, "prefers_dense", False)
    on_cpu = potential.device.type == "cpu"
    return Request(
        properties=given,
        periodic=periodic,
        dense=n_dense is not None or (prefers_dense and on_cpu and not periodic),
        n_atoms=n_dense,
    )


def fits(
    batch: AtomsBatch, neighbors: NeighborList, request: Request, limit: int
) -> bool:
    """Return whether a package can take a batch and its pairs."""
    n_atoms, size = batch.positions.shape[0], batch.systems.max_size
    if batch.systems.n_segments * size != n_atoms:
        return False
    if request.dense:
        few = 1 < size <= LARGEST_DENSE and n_atoms * size <= MANY_DENSE_PAIRS
        return few or request.n_atoms == size
    return neighbors.center.shape[0] <= limit


def pair_limit(potential: NeuralPotential) -> int:
    """Return the most listed pairs; with more, ``within`` depends on values."""
    reaches_farther = potential.cutoff > potential.network.cutoff
    if reaches_farther:
        return FEW_PAIRS
    in_blocks = potential.device.type == "cpu" and isinstance(potential.network, PaiNN)
    return PAIRS_BEFORE_BLOCKS if in_blocks else MANY_PAIRS


def inputs_of(
    batch: AtomsBatch, neighbors: NeighborList, request: Request
) -> list[Tensor]:
    """Return the inputs of a package, contiguous and in its order."""
    s, m = batch.systems.n_segments, batch.systems.max_size
    inputs = [
        batch.atomic_numbers.reshape(s, m),
        batch.positions.detach().reshape(s, m, 3),
        batch.total_charge,
        batch.num_unpaired,
    ]
    if not request.dense:
        inputs += [neighbors.center, neighbors.neighbor]
    if request.periodic:
        assert neighbors.shift is not None  # ``fits``
        inputs += [neighbors.shift.to(batch.positions.dtype), batch.cell.detach()]
    return [tensor.contiguous() for tensor in inputs]


def batch_of_inputs(inputs: Sequence[Tensor]) -> tuple[AtomsBatch, NeighborList]:
    """Return the batch and pairs that ``inputs_of`` made the inputs of."""
    numbers, positions, charge, unpaired, *pairs = inputs
    s, m = numbers.shape
    device = numbers.device
    periodic = pairs[2:]
    shift, cell = periodic if periodic else (None, positions.new_zeros((s, 3, 3)))
    systems = Segments(
        index=torch.arange(s, device=device)[:, None].expand(s, m).reshape(-1),
        slot=torch.arange(m, device=device)[None, :].expand(s, m).reshape(-1),
        n_segments=s,
        max_size=m,
    )
    batch = AtomsBatch(
        atomic_numbers=numbers.reshape(-1),
        positions=positions.reshape(-1, 3),
        cell=cell,
        pbc=torch.full((s, 3), bool(periodic), device=device),
        total_charge=charge,
        num_unpaired=unpaired,
        systems=systems,
    )
    if not pairs:
        return batch, _all_pairs(s, m, device)
    return batch, NeighborList(center=pairs[0], neighbor=pairs[1], shift=shift)


def _all_pairs(n_systems: int, n_atoms: int, device: torch.device) -> NeighborList:
    atoms = torch.arange(n_systems * n_atoms, device=device).view(n_systems, n_atoms)
    shape = (n_systems, n_atoms, n_atoms)
    return NeighborList(
        center=atoms[:, :, None].expand(shape).reshape(-1),
        neighbor=atoms[:, None, :].expand(shape).reshape(-1),
        shift=None,
        n_dense=n_atoms,
    )


def outputs_of(prediction: Prediction, request: Request) -> list[Tensor]:
    """Return what the request asks for, in the order of ``names_of``."""
    others = prediction.others or {}
    values = [
        getattr(prediction, name) if name in FIELDS else others[name]
        for name in names_of(request)
    ]
    return [value.detach() for value in values if value is not None]


def names_of(request: Request) -> list[str]:
    """Return the names of the outputs in their order."""
    fields = [name for name in FIELDS if name in request.properties]
    return fields + sorted(request.properties - set(FIELDS))


def prediction_of(outputs: Sequence[Tensor], request: Request) -> Prediction:
    """Return the outputs of a package as a prediction."""
    named = dict(zip(names_of(request), outputs, strict=True))
    fields: dict[str, Any] = {n: named.pop(n) for n in FIELDS if n in named}
    return Prediction(**fields, others=named or None)
