"""A potential is a network and its heads; its specification is plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.elements import symbol
from molpool_calc.heads import HEADS
from molpool_calc.interfaces import AtomsBatch, Edges, NeighborList, Prediction
from molpool_calc.networks import NETWORKS

OUT_OF_REACH = 1e3
"""Å, along each axis: farther than any cutoff."""


@dataclass(frozen=True, kw_only=True)
class PotentialSpec:
    """Everything about a potential but its weights, as ``potential.json`` holds it.

    Attributes:
        name: what users call it, e.g. ``"painn-ethanol"``.
        elements: atomic numbers it was trained on.
        network: ``kind`` and the constructor arguments of the network.
        heads: constructor arguments of each head by the head's name.
        level_of_theory: of the reference data.
        description: one sentence.
        license: of the weights.
        total_charges: charges of the systems it was trained on, e.
        training_data: file name, SHA-256 and size of the parts.
        errors: measured errors on the test part, ``{property: {mae, rmse, unit}}``.
        source: where imported weights come from; empty for our own.
    """

    name: str
    elements: tuple[int, ...]
    network: Mapping[str, Any]
    heads: Mapping[str, Mapping[str, Any]]
    level_of_theory: str = "not stated"
    description: str = ""
    license: str = "not stated"
    total_charges: tuple[int, ...] = (0,)
    training_data: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def symbols(self) -> list[str]:
        """Chemical symbols of the elements."""
        return [symbol(z) for z in self.elements]

    @property
    def pooling(self) -> str:
        """Pooling of the energy, or of the first head that has one."""
        named = [str(head.get("pooling", "")) for head in self.heads.values()]
        return next((name for name in named if name), "sum")


def edges_from_positions(batch: AtomsBatch, neighbors: NeighborList) -> Edges:
    """Return pair vectors from center to neighbor and their lengths, differentiable."""
    positions, center, neighbor = batch.positions, neighbors.center, neighbors.neighbor
    n = neighbors.n_dense
    if n is None:
        ends = positions.index_select(0, neighbor)
        vectors = ends - positions.index_select(0, center)
    else:
        grouped = positions.view(-1, n, 3)
        vectors = grouped[:, None, :, :] - grouped[:, :, None, :]
        # an atom is put out of its own reach, where no distance is zero
        vectors = (vectors + _away_from_itself(n, positions)).view(-1, 3)
    if neighbors.shift is not None:
        cells = batch.cell[batch.systems.index[center]]
        shift = neighbors.shift.to(vectors.dtype)
        vectors = vectors + torch.einsum("pi,pij->pj", shift, cells)
    distances = torch.linalg.vector_norm(vectors, dim=1)
    return Edges(
        center=center,
        neighbor=neighbor,
        vectors=vectors,
        distances=distances,
        n_atoms=positions.shape[0],
        n_dense=n,
    )


def _away_from_itself(n: int, like: Tensor) -> Float[Tensor, "atoms atoms 1"]:
    eye = torch.eye(n, dtype=like.dtype, device=like.device)
    return (eye * OUT_OF_REACH)[:, :, None]


class NeuralPotential(nn.Module):
    """Network and heads: the map from a batch and its pairs to a prediction.

    Args:
        spec: plain data from which network and heads are built with random weights.

    Attributes:
        extensive: whether the energies of two systems far apart add up.

    Raises:
        ValueError: an unknown network or head, a wrong argument, an element beyond the
            embedding, or a head that needs vector features on a network that has none.
    """

    def __init__(self, spec: PotentialSpec) -> None:
        super().__init__()
        self.spec = spec
        arguments = dict(spec.network)
        kind = str(arguments.pop("kind", "missing"))
        if kind not in NETWORKS:
            raise ValueError(
                f"network {kind!r} is unknown; choose one of {', '.join(NETWORKS)}"
            )
        self.network = _construct(NETWORKS[kind], arguments, f"network {kind}")
        largest = self.network.max_atomic_number
        for element in spec.elements:
            if not 0 < element <= largest:
                raise ValueError(
                    f"element {element} is beyond the embedding of network {kind}, "
                    f"which goes to {largest}; give a larger max_atomic_number"
                )
        heads = {name: self._make_head(name, spec.heads[name]) for name in spec.heads}
        self.heads = nn.ModuleDict(heads)
        self._head_properties = {name: head.properties for name, head in heads.items()}
        energy = heads.get("energy")
        self.extensive = energy is None or bool(energy.pooling.extensive)
        self.species = frozenset(spec.elements)
        self.cutoff = float(self.network.cutoff)

    def _make_head(self, name: str, arguments: Mapping[str, Any]) -> Any:
        if name not in HEADS:
            raise ValueError(f"head {name!r} is unknown; choose of {', '.join(HEADS)}")
        complete = {"n_features": self.network.n_features, **arguments}
        if "reference_energies" in complete:
            table = complete["reference_energies"]
            if not all(str(z).isdecimal() for z in table):  # text in JSON
                raise ValueError(
                    f"head {name}: reference_energies has the keys {list(table)}, but "
                    "must have atomic numbers"
                )
            complete["reference_energies"] = {int(z): e for z, e in table.items()}
        head = _construct(HEADS[name], complete, f"head {name}")
        if head.needs_vectors and not self.network.has_vectors:
            raise ValueError(
                f"head {name} needs vector features, which {self.spec.network['kind']} "
                "does not have; take painn, or use_vectors = false for a dipole head"
            )
        return head

    @property
    def properties(self) -> frozenset[str]:
        """Properties available without differentiation."""
        return frozenset().union(*self._head_properties.values())

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def forward(
        self,
        batch: AtomsBatch,
        neighbors: NeighborList,
        properties: frozenset[str],
    ) -> Prediction:
        """Return the wanted of the heads' properties (see ``interfaces.Potential``)."""
        edges = edges_from_positions(batch, neighbors)
        features = self.network(batch.atomic_numbers, edges)
        prediction = Prediction()
        for name, head in self.heads.items():
            if self._head_properties[name] & properties:
                prediction = head(features, batch, prediction)
        return prediction


def _construct(kind: type[Any], arguments: Mapping[str, Any], what: str) -> Any:
    """Return ``kind(**arguments)``; a wrong argument is a ``ValueError`` naming it."""
    try:
        return kind(**arguments)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{what}: {error}; see the class {kind.__name__}") from error


def count_parameters(potential: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in potential.parameters())
