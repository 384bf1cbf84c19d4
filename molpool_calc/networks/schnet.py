"""SchNet: continuous-filter convolutions on invariant features.

Schütt, Sauceda, Kindermans, Tkatchenko, Müller, J. Chem. Phys. 148, 241722 (2018);
arXiv:1706.08566. The convolution is their Eq. 2 with the filter network of Sec. IV.
"""

from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomFeatures, Composition, Edges
from molpool_calc.networks.layers import (
    CutoffFunction,
    RadialBasis,
    RadialFilterInput,
    TwoLayer,
    dense,
    require_positive,
)
from molpool_calc.pair_sums import gather_neighbors, sum_neighbors


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
        edges: Edges,
        basis: Float[Tensor, "pairs rbf"],
        envelope: Float[Tensor, "pairs 1"],
    ) -> Float[Tensor, "atoms features"]:
        """Return the change of the features."""
        filters = self.filter(basis) * envelope
        messages = gather_neighbors(edges, filters, self.project(scalars))
        change: Tensor = self.output(sum_neighbors(edges, messages))
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
        width = n_features if n_filters is None else n_filters
        self.interactions = nn.ModuleList(
            SchNetInteraction(n_features, width, n_rbf) for _ in range(n_interactions)
        )

    def forward(self, composition: Composition, edges: Edges) -> AtomFeatures:
        """Return scalar features of every atom."""
        basis = self.radial.basis(edges.distances)
        envelope = self.radial.envelope(edges.distances, self.cutoff)[:, None]
        scalars = self.embedding(composition.atomic_numbers)
        for interaction in self.interactions:
            scalars = scalars + interaction(scalars, edges, basis, envelope)
        return AtomFeatures(scalars=scalars, vectors=None)
