"""SchNet: continuous-filter convolutions on invariant features.

Schütt, Sauceda, Kindermans, Tkatchenko, Müller, J. Chem. Phys. 148, 241722 (2018);
arXiv:1706.08566. The convolution is their Eq. 2 with the filter network of Sec. IV.
"""

from collections.abc import Callable, Iterator
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomFeatures, Composition, Edges
from molpool_calc.kernels import DistanceFilter, schnet_messages, sorted_pairs
from molpool_calc.networks.layers import (
    CutoffFunction,
    RadialBasis,
    RadialFilterInput,
    TwoLayer,
    dense,
    require_positive,
)
from molpool_calc.pair_sums import gather_neighbors, sum_neighbors


def convolve(
    edges: Edges,
    filters: Float[Tensor, "pairs filters"],
    values: Float[Tensor, "atoms filters"],
) -> Float[Tensor, "atoms filters"]:
    """Return Σ_j values_j ⊙ W(d_ij), Eq. 2."""
    return sum_neighbors(edges, gather_neighbors(edges, filters, values))


class SchNetInteraction(nn.Module):
    """One interaction block: m_i = Σ_j (A x_j) ⊙ W(d_ij), then two dense layers.

    The filter is W(d) = fc(d)·Lin₂(ssp(Lin₁ φ(d))).
    """

    def __init__(self, n_features: int, n_filters: int, n_rbf: int) -> None:
        super().__init__()
        self.filter = TwoLayer(n_rbf, n_filters, n_filters, "shifted-softplus")
        self.project = dense(n_features, n_filters, bias=False)
        self.output = TwoLayer(n_filters, n_features, n_features, "shifted-softplus")

    def forward(
        self,
        scalars: Float[Tensor, "atoms features"],
        sums: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "atoms features"]:
        """Return the change of the features.

        ``sums`` is ``convolve`` with the pairs and filters of this block, or the
        kernel for it.
        """
        change: Tensor = self.output(sums(self.project(scalars)))
        return change


class SchNet(nn.Module):
    """SchNet with the layout of the published SchNetPack 2 models.

    Deviation from the paper: a cutoff function multiplies the filters.

    Args:
        n_features: width of the features.
        n_filters: width of the filters; by default ``n_features``.
        n_interactions: number of interaction blocks.
        cutoff: distance in Å at and beyond which a pair contributes nothing.
        n_rbf: number of radial basis functions.
        radial_basis: ``"gaussian"`` or ``"bessel"``.
        cutoff_function: ``"cosine"`` (C¹), ``"polynomial"`` (C²) or ``"mollifier"``.
        max_atomic_number: largest atomic number the embedding has a row for.
    """

    has_vectors = False

    def __init__(
        self,
        *,
        n_features: int = 128,
        n_filters: int | None = None,
        n_interactions: int = 6,
        cutoff: float = 5.0,
        n_rbf: int = 20,
        radial_basis: RadialBasis = "gaussian",
        cutoff_function: CutoffFunction = "cosine",
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
        self.n_filters = width = n_features if n_filters is None else n_filters
        blocks = [
            SchNetInteraction(n_features, width, n_rbf) for _ in range(n_interactions)
        ]
        self.interactions = nn.ModuleList(blocks)
        self._of_distance = [
            DistanceFilter(
                _filter, self.radial, block.filter, cutoff=cutoff, n_rbf=n_rbf
            )
            for block in blocks
        ]

    def forward(self, composition: Composition, edges: Edges) -> AtomFeatures:
        """Return scalar features of every atom."""
        scalars = self.embedding(composition.atomic_numbers)
        for interaction, sums in zip(self.interactions, self._sums(edges), strict=True):
            scalars = scalars + interaction(scalars, sums)
        return AtomFeatures(scalars=scalars, vectors=None)

    def _sums(self, edges: Edges) -> Iterator[Callable[[Tensor], Tensor]]:
        """Yield ``convolve`` with pairs and filters of each block, or its kernel."""
        pairs = sorted_pairs(edges, self._of_distance)
        if pairs is not None:
            for of_distance in self._of_distance:
                written = _written(edges, of_distance)
                yield partial(schnet_messages, pairs, edges, of_distance, written)
            return
        basis = self.radial.basis(edges.distances)
        envelope = self.radial.envelope(edges.distances, self.cutoff)[:, None]
        for interaction in self.interactions:
            filters: Tensor = interaction.filter(basis)  # type: ignore[operator]
            yield partial(convolve, edges, filters * envelope)


def _written(
    edges: Edges, filters: DistanceFilter
) -> Callable[[Tensor, Tensor], tuple[Tensor]]:
    """Return ``convolve`` as a function of all that it can be derived by."""

    def written(
        distances: Float[Tensor, " pairs"], values: Float[Tensor, "atoms filters"]
    ) -> tuple[Float[Tensor, "atoms filters"]]:
        return (convolve(edges, filters(distances), values),)

    return written


def _filter(
    radial: RadialFilterInput, filters: TwoLayer, distances: Float[Tensor, " pairs"]
) -> Float[Tensor, "pairs filters"]:
    envelope = radial.envelope(distances, radial.cutoff)[:, None]
    filtered: Tensor = filters(radial.basis(distances)) * envelope
    return filtered
