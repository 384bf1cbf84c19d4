"""PaiNN: equivariant message passing with scalar and vector features.

Schütt, Unke, Gastegger, ICML 2021 (arXiv:2102.03150). Equation → code:

==============================  ===========================================
s_i, v⃗_i (their Sec. 4)          ``scalars`` [atoms F], ``vectors`` [atoms 3 F]
Eq. 7 scalar message Δs^m        ``gate_scalar`` summed over the neighbors
Eq. 8 vector message Δv⃗^m        ``gate_direction``·r̂ + ``gate_vector``·v⃗_j
Eq. 9 scalar update Δs^u         ``change`` + ``gate_product``·⟨U v⃗, V v⃗⟩
Eq. 10 vector update Δv⃗^u        ``gate_update``·(U v⃗)
==============================  ===========================================

r̂_ij points from the center i to the neighbor j.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomFeatures, Composition, Edges
from molpool_calc.kernels import (
    DistanceFilter,
    blocks_of_pairs,
    painn_in_blocks,
    painn_messages,
    sorted_pairs,
)
from molpool_calc.networks.layers import (
    CutoffFunction,
    RadialBasis,
    RadialFilterInput,
    TwoLayer,
    dense,
    enveloped_linear,
    enveloped_matrix,
    require_positive,
)
from molpool_calc.pair_sums import (
    gather_neighbors,
    sum_directions,
    sum_gated_vectors,
    sum_neighbors,
)

Sums = tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms 3 features"]]
"""What an atom receives: scalars and vectors."""


def sum_messages(
    edges: Edges,
    filters: Float[Tensor, "pairs three_features"],
    context: Float[Tensor, "atoms three_features"],
    vectors: Float[Tensor, "atoms 3 features"] | None,
) -> Sums:
    """Return Δs^m (Eq. 7) and Δv⃗^m (Eq. 8); see ``PaiNNMessage``."""
    gates = gather_neighbors(edges, filters, context)
    gate_scalar, gate_direction, gate_vector = gates.chunk(3, dim=1)
    change = sum_neighbors(edges, gate_scalar)
    received = sum_directions(edges, gate_direction)
    if vectors is None:
        return change, received
    return change, received + sum_gated_vectors(edges, gate_vector, vectors)


class PaiNNMessage(nn.Module):
    """Messages from the neighbors (Eqs. 7 and 8), added to the features."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.context = TwoLayer(n_features, n_features, 3 * n_features, "silu")

    def forward(
        self,
        scalars: Float[Tensor, "atoms features"],
        vectors: Float[Tensor, "atoms 3 features"] | None,
        sums: Callable[[Tensor, Tensor | None], Sums],
    ) -> Sums:
        """Return both features after one round of messages.

        ``vectors=None`` stands for the zeros of the first round; ``sums`` is
        ``sum_messages`` of the pairs and filters of this round, or the kernel for it.
        """
        change, received = sums(self.context(scalars), vectors)
        updated = scalars + change
        return updated, received if vectors is None else vectors + received


class PaiNNUpdate(nn.Module):
    """Update within each atom (Eqs. 9 and 10), added to the features."""

    def __init__(self, n_features: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.mix = dense(n_features, 2 * n_features, bias=False)
        self.context = TwoLayer(2 * n_features, n_features, 3 * n_features, "silu")

    def forward(
        self,
        scalars: Float[Tensor, "atoms features"],
        vectors: Float[Tensor, "atoms 3 features"],
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms 3 features"]]:
        """Return both features after the update."""
        v_mixed, u_mixed = self.mix(vectors).chunk(2, dim=2)
        # epsilon keeps the gradient finite where the vector vanishes
        norm = torch.sqrt((v_mixed * v_mixed).sum(1) + self.epsilon)
        context = self.context(torch.cat((scalars, norm), dim=1))
        change, gate_update, gate_product = context.chunk(3, dim=1)
        product = (v_mixed * u_mixed).sum(1)
        scalars = torch.addcmul(scalars + change, gate_product, product)
        return scalars, torch.addcmul(vectors, gate_update[:, None, :], u_mixed)


class PaiNN(nn.Module):
    """PaiNN with the layout of the published SchNetPack 2 models.

    Deviations from the paper: Gaussian radial basis by default; the norm in the update
    is sqrt(|v⃗|² + epsilon).

    Args:
        n_features: width F of scalar and vector features.
        n_interactions: number of message-and-update rounds.
        cutoff: distance in Å at and beyond which a pair contributes nothing.
        n_rbf: number of radial basis functions.
        radial_basis: ``"gaussian"`` or ``"bessel"``.
        cutoff_function: ``"cosine"`` (C¹), ``"polynomial"`` (C²) or ``"mollifier"``.
        shared_filters: one filter for all rounds instead of one for each.
        epsilon: see above, dimensionless.
        max_atomic_number: largest atomic number the embedding has a row for.
    """

    has_vectors = True

    def __init__(  # noqa: PLR0913 - the hyper-parameters of the paper
        self,
        *,
        n_features: int = 128,
        n_interactions: int = 3,
        cutoff: float = 5.0,
        n_rbf: int = 20,
        radial_basis: RadialBasis = "gaussian",
        cutoff_function: CutoffFunction = "cosine",
        shared_filters: bool = False,
        epsilon: float = 1e-8,
        max_atomic_number: int = 99,
    ) -> None:
        super().__init__()
        require_positive(
            n_features=n_features,
            n_interactions=n_interactions,
            cutoff=cutoff,
            n_rbf=n_rbf,
        )
        self.n_features, self.cutoff, self.epsilon = n_features, cutoff, epsilon
        self.max_atomic_number = max_atomic_number
        self.embedding = nn.Embedding(max_atomic_number + 1, n_features)
        self.radial = RadialFilterInput(
            n_rbf=n_rbf,
            cutoff=cutoff,
            radial_basis=radial_basis,
            cutoff_function=cutoff_function,
        )
        n_filters = 1 if shared_filters else n_interactions
        self.filters = nn.ModuleList(
            dense(n_rbf, 3 * n_features) for _ in range(n_filters)
        )
        self.messages = nn.ModuleList(
            PaiNNMessage(n_features) for _ in range(n_interactions)
        )
        self.updates = nn.ModuleList(
            PaiNNUpdate(n_features, epsilon) for _ in range(n_interactions)
        )
        self._of_distance = [
            DistanceFilter(_filter, self.radial, layer, cutoff=cutoff, n_rbf=n_rbf)
            for layer in self.filters
        ]

    def forward(self, composition: Composition, edges: Edges) -> AtomFeatures:
        """Return scalar and vector features of every atom."""
        unit_edges = replace(edges, vectors=edges.vectors / edges.distances[:, None])
        sums = self._sums(unit_edges)
        scalars, vectors = self.embedding(composition.atomic_numbers), None
        for layer, (message, update) in enumerate(
            zip(self.messages, self.updates, strict=True)
        ):
            scalars, vectors = message(scalars, vectors, sums[layer % len(sums)])
            scalars, vectors = update(scalars, vectors)
        return AtomFeatures(scalars=scalars, vectors=vectors)

    def _sums(self, edges: Edges) -> list[Callable[[Tensor, Tensor | None], Sums]]:
        """Return ``sum_messages`` of these pairs for each filter, or its kernel."""
        pairs = sorted_pairs(edges, self._of_distance)
        if pairs is not None:
            return [
                partial(painn_messages, pairs, edges, filters, _written(edges, filters))
                for filters in self._of_distance
            ]
        radial = self.radial(edges)
        frozen = all(filters.frozen for filters in self._of_distance)
        blocks = blocks_of_pairs(edges, frozen=frozen)
        if blocks is not None:
            matrices = [enveloped_matrix(layer) for layer in self.filters]
            return [
                partial(painn_in_blocks, blocks, edges, radial, m, _of_radial(edges, m))
                for m in matrices
            ]
        return [
            partial(sum_messages, edges, enveloped_linear(layer, radial))
            for layer in self.filters
        ]


def _written(edges: Edges, filters: DistanceFilter) -> Callable[..., Sums]:
    """Return ``sum_messages`` as a function of all that it can be derived by."""

    def written(
        distances: Float[Tensor, " pairs"],
        units: Float[Tensor, "pairs 3"],
        context: Float[Tensor, "atoms three_features"],
        vectors: Float[Tensor, "atoms 3 features"] | None,
    ) -> Sums:
        moved = replace(edges, distances=distances, vectors=units)
        return sum_messages(moved, filters(distances), context, vectors)

    return written


def _of_radial(
    edges: Edges, matrix: Float[Tensor, "radial three_features"]
) -> Callable[..., Sums]:
    """Return the same of the radial functions instead of the distances."""

    def written(
        radial: Float[Tensor, "pairs radial"],
        units: Float[Tensor, "pairs 3"],
        context: Float[Tensor, "atoms three_features"],
        vectors: Float[Tensor, "atoms 3 features"] | None,
    ) -> Sums:
        moved = replace(edges, vectors=units)
        return sum_messages(moved, radial @ matrix, context, vectors)

    return written


def _filter(
    radial: RadialFilterInput, layer: nn.Linear, distances: Float[Tensor, " pairs"]
) -> Float[Tensor, "pairs three_features"]:
    return enveloped_linear(layer, radial.at(distances))
