"""A potential is a network and its heads; its specification is plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import torch
from torch import nn

from molpool_calc.edges import edges_from_positions, within
from molpool_calc.elements import symbol
from molpool_calc.heads import HEADS, ScalarHead
from molpool_calc.interfaces import (
    AtomFeatures,
    AtomsBatch,
    Composition,
    Edges,
    NeighborList,
    Prediction,
)
from molpool_calc.networks import NETWORKS
from molpool_calc.pair_terms import TERMS


@dataclass(frozen=True, kw_only=True)
class PotentialSpec:
    """Everything about a potential but its weights, as ``potential.json`` holds it.

    Attributes:
        name: what users call it, e.g. ``"painn-ethanol"``.
        elements: atomic numbers it was trained on.
        network: ``kind`` and the constructor arguments of the network.
        heads: constructor arguments of each head by the head's name; ``kind`` says
            which head it is where the name does not.
        terms: constructor arguments of each energy of pairs by the term's name.
        level_of_theory: of the reference data.
        description: one sentence.
        license: of the weights.
        total_charges: charges of the systems it was trained on, e.
        num_unpaired: numbers of unpaired electrons of these systems.
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
    num_unpaired: tuple[int, ...] = (0,)
    terms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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
        named = [pooling_name(head) for head in self.heads.values()]
        return next((name for name in named if name), "sum")


def pooling_name(head: Mapping[str, Any]) -> str:
    """Return what pools a head's atoms, e.g. ``sum + attention``; empty if unstated."""
    stated = head.get("pooling", "")
    name = str(stated["kind"] if isinstance(stated, Mapping) else stated)
    if head.get("correction"):
        name = f"{name or 'sum'} + {pooling_name(head['correction'])}"
    return name


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
        self._properties = frozenset[str]().union(*self._head_properties.values())
        self.terms = nn.ModuleDict(
            {name: _make_term(name, spec.terms[name]) for name in spec.terms}
        )
        self._needed = frozenset[str]().union(*(t.needs for t in self._terms()))
        self._check_terms()
        energy = heads.get("energy")
        # without a cutoff, systems act on each other however far apart
        is_local = isfinite(self.network.cutoff)
        self.extensive = energy is None or (bool(energy.extensive) and is_local)
        self.smooth = energy is None or bool(energy.smooth)
        self.species = frozenset(spec.elements)
        reaches = [float(term.cutoff) for term in self._terms()]
        self.cutoff = max([float(self.network.cutoff), *reaches])

    def _terms(self) -> list[Any]:
        return list(self.terms.values())

    def _check_terms(self) -> None:
        if self.terms and "energy" not in self._head_properties:
            raise ValueError(
                f"the terms {', '.join(self.terms)} add to the energy, but there is no "
                "head energy; add one or leave them out"
            )
        for missing in sorted(self._needed - self.properties):
            raise ValueError(
                f"the terms {', '.join(self.terms)} need {missing}, which no head "
                "gives; add the head or leave the term out"
            )

    def _make_head(self, name: str, arguments: Mapping[str, Any]) -> Any:
        complete = {"n_features": self.network.n_features, **arguments}
        kind = complete.pop("kind", name)
        if kind not in HEADS or (kind != name and (kind != "scalar" or name in HEADS)):
            raise ValueError(
                f"head {name!r} is unknown; choose of {', '.join(HEADS)}, or give any "
                'other name the kind "scalar"'
            )
        if kind == "scalar":
            complete["name"] = name
        for table in ("reference_energies", "reference_values"):
            if table in complete:
                complete[table] = _by_atomic_number(complete[table], name, table)
        head = _construct(HEADS[kind], complete, f"head {name}")
        if head.needs_vectors and not self.network.has_vectors:
            raise ValueError(
                f"head {name} needs vector features, which {self.spec.network['kind']} "
                "does not have; take painn, or use_vectors = false for a dipole head"
            )
        return head

    @property
    def properties(self) -> frozenset[str]:
        """Properties available without differentiation."""
        return self._properties

    @property
    def scalars(self) -> dict[str, str]:
        """Names and units of the scalar properties."""
        return {
            name: str(head.unit)
            for name, head in self.heads.items()
            if isinstance(head, ScalarHead)
        }

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
        reach = self.network.cutoff
        near = edges if reach == self.cutoff else within(edges, reach)
        features = self.network(composition_of(batch), near)
        if "energy" in properties:
            properties = properties | self._needed
        prediction = self.with_heads(Prediction(), features, batch, properties)
        if self.terms and prediction.energy is not None:
            prediction = self._with_terms(prediction, batch, edges)
        return prediction

    def with_heads(
        self,
        prediction: Prediction,
        features: AtomFeatures,
        batch: AtomsBatch,
        properties: frozenset[str],
    ) -> Prediction:
        """Return a prediction filled by the heads of the wanted properties."""
        for name, head in self.heads.items():
            if self._head_properties[name] & properties:
                prediction = head(features, batch, prediction)
                prediction = _with_weights(
                    prediction, name, head, features, batch, properties
                )
        return prediction

    def _with_terms(
        self, prediction: Prediction, batch: AtomsBatch, edges: Edges
    ) -> Prediction:
        """Add the energies of the pair terms."""
        added = torch.stack(
            [term(batch, edges, prediction) for term in self._terms()]
        ).sum(0)
        systems, energies = batch.systems, prediction.energies
        assert prediction.energy is not None  # the caller checks
        return replace(
            prediction,
            energy=prediction.energy.index_add(0, systems.index, added),
            energies=None if energies is None else energies + added,
        )


def composition_of(batch: AtomsBatch) -> Composition:
    """Return what a network may know of a batch besides the geometry."""
    return Composition(
        atomic_numbers=batch.atomic_numbers,
        total_charge=batch.total_charge,
        num_unpaired=batch.num_unpaired,
        systems=batch.systems,
    )


def _with_weights(
    prediction: Prediction,
    name: str,
    head: Any,
    features: AtomFeatures,
    batch: AtomsBatch,
    properties: frozenset[str],
) -> Prediction:
    if f"{name}_weights" not in properties:
        return prediction
    weights = dict(prediction.weights or {})
    weights[name] = head.atom_weights(features, batch)
    return replace(prediction, weights=weights)


def _by_atomic_number(
    table: Mapping[Any, float], head: str, argument: str
) -> dict[int, float]:
    if not all(str(z).isdecimal() for z in table):  # text in JSON
        raise ValueError(
            f"head {head}: {argument} has the keys {list(table)}, but must have atomic "
            "numbers"
        )
    return {int(z): value for z, value in table.items()}


def _make_term(name: str, arguments: Mapping[str, Any]) -> Any:
    if name not in TERMS:
        raise ValueError(f"term {name!r} is unknown; choose of {', '.join(TERMS)}")
    return _construct(TERMS[name], arguments, f"term {name}")


def _construct(kind: type[Any], arguments: Mapping[str, Any], what: str) -> Any:
    """Return ``kind(**arguments)``; a wrong argument is a ``ValueError`` naming it."""
    try:
        return kind(**arguments)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{what}: {error}; see the class {kind.__name__}") from error


def count_parameters(potential: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in potential.parameters())
