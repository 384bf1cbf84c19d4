"""So3krates as a Euclidean transformer: invariant features and Euclidean variables.

Frank, Unke, Müller, Chmiela, Nat. Commun. 15, 6539 (2024), in the form of the
published code, on which SO3LR is trained. Symbol → code:

======================================  =========================================
invariant features x_i                  ``scalars`` [atoms F]
Euclidean variables, all degrees        ``euclidean`` [atoms m_tot], from 0
(in Eq. 11 of the paper from neighbors)
c_l(χ) = Σ_m χ_lm² / √(2l+1)            ``DegreeSums``
w_ij = MLP_r(φ(d)) + MLP_s(c(χ_j−χ_i))  ``RadialFilters`` + ``SphericalFilters``
α_ij = fc(d) ⟨q_i, w_ij, k_j⟩ / norm    ``PairAttention``, per head; no softmax
Δx_i = Σ_j α_ij v_j                     ``sum_heads``
Δχ_i = Σ_j β_ij,l Y_lm(r̂_ij)            ``sum_degrees``, one head for each degree
======================================  =========================================
"""

from collections.abc import Sequence
from itertools import chain
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomFeatures, Composition, Edges
from molpool_calc.kernels import PairSums, sorted_pairs
from molpool_calc.networks.electron_embedding import ElectronEmbedding
from molpool_calc.networks.euclidean_kernels import attend, filters_of_distance
from molpool_calc.networks.euclidean_layers import (
    EuclideanLayer,
    PairGeometry,
    RadialFilters,
)
from molpool_calc.networks.layers import (
    CUTOFF_FUNCTIONS,
    RADIAL_BASES,
    CutoffFunction,
    RadialBasis,
    choose,
    require_positive,
)
from molpool_calc.networks.pair_attention import unordered_pairs
from molpool_calc.networks.spherical import DegreeSums, SphericalHarmonics


class So3kratesEuclidean(nn.Module):
    """So3krates as a Euclidean transformer, the network of SO3LR.

    Deviations from the paper: Euclidean variables start from zeros, and the embeddings
    of elements, charge and spin are divided by the root of their number, both as in
    the published code.

    Args:
        n_features: width F of the features, a multiple of ``n_heads`` and of the
            number of degrees.
        n_interactions: number of layers.
        n_heads: heads of the attention of the features.
        degrees: of the Euclidean variables, ascending, from 1 to 4.
        cutoff: distance in Å at and beyond which a pair contributes nothing.
        n_rbf: number of radial basis functions.
        radial_basis: ``"bernstein"``, ``"physnet"``, ``"gaussian"`` or ``"bessel"``.
        cutoff_function: ``"polynomial"`` (PhysNet's, C²), ``"cosine"`` (C¹), …
        n_neighbors: average number of neighbors in the training data, by which
            messages are divided; ``None``: by the root of the width of a head.
        charge_embedding: whether the features depend on the total charge.
        spin_embedding: whether they depend on the number of unpaired electrons.
        layer_norm_1: normalize the features after the attention.
        layer_norm_2: normalize them at the end of a layer.
        residual_mlp_1: a residual network after the attention.
        residual_mlp_2: a residual network after the exchange.
        max_atomic_number: largest atomic number the embedding has a row for.

    Raises:
        ValueError: a size that is not positive, features that cannot be split, degrees
            other than ascending ones from 1 to 4, an unknown basis or cutoff function.
    """

    has_vectors = False
    prefers_dense = True

    def __init__(  # noqa: PLR0913 - the hyper-parameters of the paper
        self,
        *,
        n_features: int = 128,
        n_interactions: int = 3,
        n_heads: int = 4,
        degrees: Sequence[int] = (1, 2, 3, 4),
        cutoff: float = 4.5,
        n_rbf: int = 32,
        radial_basis: RadialBasis = "bernstein",
        cutoff_function: CutoffFunction = "polynomial",
        n_neighbors: float | None = None,
        charge_embedding: bool = True,
        spin_embedding: bool = True,
        layer_norm_1: bool = True,
        layer_norm_2: bool = True,
        residual_mlp_1: bool = True,
        residual_mlp_2: bool = False,
        max_atomic_number: int = 118,
    ) -> None:
        super().__init__()
        require_positive(
            n_features=n_features,
            n_interactions=n_interactions,
            n_heads=n_heads,
            cutoff=cutoff,
            n_rbf=n_rbf,
            n_neighbors=1.0 if n_neighbors is None else n_neighbors,
        )
        degrees = tuple(degrees)
        self.sums, self.harmonics = DegreeSums(degrees), SphericalHarmonics(degrees)
        _require_multiple(n_features, n_heads=n_heads, n_degrees=len(degrees))
        self.n_features, self.cutoff = n_features, cutoff
        self.n_rbf, self.n_heads, self.degrees = n_rbf, n_heads, degrees
        self.max_atomic_number, self.n_degrees = max_atomic_number, len(degrees)
        widths = (n_features // n_heads, n_features // len(degrees))
        self.norms = [n_neighbors or sqrt(width) for width in widths]
        self.embedding = nn.Embedding(max_atomic_number + 1, n_features)
        electrons = {"total_charge": charge_embedding, "num_unpaired": spin_embedding}
        self.electrons = nn.ModuleDict(
            {
                name: ElectronEmbedding(n_features, max_atomic_number)
                for name, wanted in electrons.items()
                if wanted
            }
        )
        self.basis = choose(RADIAL_BASES, radial_basis, "radial basis")(n_rbf, cutoff)
        self.envelope = choose(CUTOFF_FUNCTIONS, cutoff_function, "cutoff function")
        self.radial = RadialFilters(2 * n_interactions, n_rbf, n_features)
        self.layers = nn.ModuleList(
            EuclideanLayer(
                n_features=n_features,
                n_heads=n_heads,
                n_degrees=len(degrees),
                layer_norm_1=layer_norm_1,
                layer_norm_2=layer_norm_2,
                residual_mlp_1=residual_mlp_1,
                residual_mlp_2=residual_mlp_2,
            )
            for _ in range(n_interactions)
        )

        self._of_distance = filters_of_distance(
            self.basis,
            self.radial,
            [layer.spherical for layer in self.layers],  # type: ignore[misc]
            cutoff=cutoff,
            n_rbf=n_rbf,
        )

    def embed(self, composition: Composition) -> Float[Tensor, "atoms features"]:
        """Return the features before the first layer, which no geometry changes."""
        parts = [self.embedding(composition.atomic_numbers)]
        for name, embedding in self.electrons.items():
            parts.append(embedding(composition, getattr(composition, name)))
        total: Tensor = sum(parts[1:], parts[0])
        return total * (1.0 / sqrt(len(parts)))

    def forward(self, composition: Composition, edges: Edges) -> AtomFeatures:
        """Return scalar features of every atom."""
        return self.interact(self.embed(composition), edges)

    def interact(
        self, scalars: Float[Tensor, "atoms features"], edges: Edges
    ) -> AtomFeatures:
        """Return the features after all layers from what ``embed`` gave."""
        pairs = self._pairs(edges)
        if pairs.kernels is not None:
            return self._interact_by_kernels(scalars, pairs)
        shift = torch.cat(
            [
                layer.spherical.shift(initial=n == 0)  # type: ignore[operator,union-attr]
                for n, layer in enumerate(self.layers)
            ]
        )
        distances = edges.distances
        if pairs.unordered is not None:
            distances = pairs.unordered.once(distances)
        filters = self.radial(self.basis(distances), shift).view(
            len(self.layers), 2, distances.shape[0], self.n_features
        )
        euclidean = None
        for layer, own in zip(self.layers, filters.unbind(0), strict=True):
            scalars, euclidean = layer(scalars, euclidean, own, pairs)
        return AtomFeatures(scalars=scalars, vectors=None)

    def _interact_by_kernels(
        self, scalars: Float[Tensor, "atoms features"], pairs: PairGeometry
    ) -> AtomFeatures:
        euclidean = None
        for layer, filters in zip(self.layers, self._of_distance, strict=True):
            assert isinstance(layer, EuclideanLayer)  # what the constructor made
            change, received = attend(layer, scalars, euclidean, filters, pairs)
            scalars, euclidean = layer.update(
                scalars + change, euclidean, received, pairs
            )
        return AtomFeatures(scalars=scalars, vectors=None)

    def _pairs(self, edges: Edges) -> PairGeometry:
        envelope = self.envelope(edges.distances, self.cutoff)[:, None]
        order = sorted_pairs(edges, list(chain(*self._of_distance)))
        scaled = [envelope * (1.0 / norm) for norm in dict.fromkeys(self.norms)]
        return PairGeometry(
            edges=edges,
            envelope=scaled[0] if len(scaled) == 1 else torch.stack(scaled),
            harmonics=self.harmonics(edges.vectors / edges.distances[:, None]),
            sums=self.sums,
            n_degrees=self.n_degrees,
            unordered=unordered_pairs(edges),
            kernels=None if order is None else PairSums(edges, order),
        )


def _require_multiple(n_features: int, **parts: int) -> None:
    for name, number in parts.items():
        if n_features % number:
            raise ValueError(
                f"n_features is {n_features}, which {name} = {number} does not divide; "
                f"take a multiple of {number}"
            )
