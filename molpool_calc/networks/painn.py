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

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomFeatures, Composition, Edges
from molpool_calc.networks.layers import (
    CutoffFunction,
    RadialBasis,
    RadialFilterInput,
    TwoLayer,
    dense,
    enveloped_linear,
    require_positive,
)
from molpool_calc.pair_sums import (
    gather_neighbors,
    sum_directions,
    sum_gated_vectors,
    sum_neighbors,
)


class PaiNNMessage(nn.Module):
    """Messages from the neighbors (Eqs. 7 and 8), added to the features."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.context = TwoLayer(n_features, n_features, 3 * n_features, "silu")

    def forward(
        self,
        scalars: Float[Tensor, "atoms features"],
        vectors: Float[Tensor, "atoms 3 features"] | None,
        edges: Edges,
        filters: Float[Tensor, "pairs three_features"],
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms 3 features"]]:
        """Return both features after one round of messages.

        ``vectors=None`` stands for the zeros of the first round; ``edges.vectors``
        are unit vectors here.
        """
        context = gather_neighbors(edges, filters, self.context(scalars))
        gate_scalar, gate_direction, gate_vector = context.chunk(3, dim=1)
        scalars = scalars + sum_neighbors(edges, gate_scalar)
        received = sum_directions(edges, gate_direction)
        if vectors is None:
            return scalars, received
        received = received + sum_gated_vectors(edges, gate_vector, vectors)
        return scalars, vectors + received


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
        self.n_features, self.cutoff = n_features, cutoff
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

    def forward(self, composition: Composition, edges: Edges) -> AtomFeatures:
        """Return scalar and vector features of every atom."""
        radial = self.radial(edges)
        unit_edges = replace(edges, vectors=edges.vectors / edges.distances[:, None])
        filters = [enveloped_linear(layer, radial) for layer in self.filters]
        scalars, vectors = self.embedding(composition.atomic_numbers), None
        for layer, (message, update) in enumerate(
            zip(self.messages, self.updates, strict=True)
        ):
            layer_filters = filters[layer % len(filters)]
            scalars, vectors = message(scalars, vectors, unit_edges, layer_filters)
            scalars, vectors = update(scalars, vectors)
        return AtomFeatures(scalars=scalars, vectors=vectors)
