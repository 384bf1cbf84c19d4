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
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomFeatures, Composition, Edges
from molpool_calc.networks.electron_embedding import ElectronEmbedding
from molpool_calc.networks.layers import (
    CUTOFF_FUNCTIONS,
    RADIAL_BASES,
    CutoffFunction,
    RadialBasis,
    TwoLayer,
    choose,
    dense,
    require_positive,
)
from molpool_calc.networks.pair_attention import (
    differences,
    query_times_key,
    sum_degrees,
    sum_heads,
)
from molpool_calc.networks.spherical import DegreeSums, SphericalHarmonics

LAYER_NORM_EPSILON = 1e-6
"""Of the published code; keeps the norm of equal features finite."""


class RadialFilters(nn.Module):
    """MLP_r(φ(d)) of both filters of all layers at once, in two matrix products."""

    def __init__(self, n_filters: int, n_rbf: int, n_features: int) -> None:
        super().__init__()
        self.n_filters = n_filters
        self.first = dense(n_rbf, n_filters * n_features)
        self.second = _blocks(n_filters, n_features, n_features)
        self.bias = nn.Parameter(torch.zeros(n_filters, 1, n_features))

    def forward(
        self,
        basis: Float[Tensor, "pairs rbf"],
        shift: Float[Tensor, "filters 1 features"],
    ) -> Float[Tensor, "filters pairs features"]:
        """Return the filters, ``shift`` added to each."""
        hidden = nn.functional.silu(self.first(basis))
        hidden = hidden.view(basis.shape[0], self.n_filters, -1).transpose(0, 1)
        return torch.baddbmm(self.bias + shift, hidden, self.second)


class SphericalFilters(nn.Module):
    """MLP_s(c(χ_j − χ_i)) of both filters of one layer."""

    def __init__(self, n_degrees: int, n_features: int) -> None:
        super().__init__()
        width = n_features // 4
        self.first = dense(n_degrees, 2 * width)
        self.second = _blocks(2, width, n_features)
        self.bias = nn.Parameter(torch.zeros(2, 1, n_features))

    def shift(self, *, initial: bool) -> Float[Tensor, "2 1 features"]:
        """Return what does not depend on the pair: for χ = 0, that is everything."""
        if not initial:
            return self.bias
        hidden = nn.functional.silu(self.first.bias).view(2, 1, -1)
        return torch.baddbmm(self.bias, hidden, self.second)

    def forward(
        self,
        radial: Float[Tensor, "2 pairs features"],
        invariants: Float[Tensor, "pairs degrees"],
    ) -> Float[Tensor, "2 pairs features"]:
        """Return ``radial`` plus the spherical filters without their shift."""
        hidden = nn.functional.silu(self.first(invariants))
        hidden = hidden.view(invariants.shape[0], 2, -1).transpose(0, 1)
        return torch.baddbmm(radial, hidden, self.second)


class PairAttention(nn.Module):
    """Attention of the features, by heads, and of the Euclidean variables, by degrees.

    Queries, keys and values of a head are linear in the head's own features; matrices
    act from the right.
    """

    head_sums: Tensor

    def __init__(self, n_features: int, n_heads: int, n_degrees: int) -> None:
        super().__init__()
        self.n_heads, self.n_degrees = n_heads, n_degrees
        widths = (n_features // n_heads, n_features // n_degrees)
        self.queries = _blocks(n_heads, widths[0], widths[0])
        self.keys = _blocks(n_heads, widths[0], widths[0])
        self.values = _blocks(n_heads, widths[0], widths[0])
        self.degree_queries = _blocks(n_degrees, widths[1], widths[1])
        self.degree_keys = _blocks(n_degrees, widths[1], widths[1])
        sums = torch.zeros(2, n_features, max(n_heads, n_degrees))
        for part, width in zip(sums, widths, strict=True):
            rows = torch.arange(n_features)
            part[rows, rows // width] = 1.0
        self.register_buffer("head_sums", sums, persistent=False)

    def forward(
        self,
        scalars: Float[Tensor, "atoms features"],
        filters: Float[Tensor, "2 pairs features"],
        pairs: "_Pairs",
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
        """Return the changes of features and Euclidean variables."""
        queries, keys, values = self._project(scalars)
        products = query_times_key(pairs.edges, queries, keys) * filters
        weights = torch.bmm(products, self.head_sums) * pairs.envelope
        alpha, beta = weights.unbind(0)
        if self.n_heads != self.n_degrees:
            alpha, beta = alpha[:, : self.n_heads], beta[:, : self.n_degrees]
        change = sum_heads(pairs.edges, alpha, values)
        return change, sum_degrees(pairs.edges, beta, pairs.harmonics, pairs.sums)

    def _project(
        self, scalars: Float[Tensor, "atoms features"]
    ) -> tuple[
        Float[Tensor, "2 atoms features"],
        Float[Tensor, "2 atoms features"],
        Float[Tensor, "heads atoms f"],
    ]:
        """Return queries and keys of both attentions, and the values."""
        q, k, dq, dk = self.queries, self.keys, self.degree_queries, self.degree_keys
        if self.n_heads == self.n_degrees:
            both, values = _by_head(scalars, (q, dq, k, dk), self.values)
            queries, keys = both.view(2, 2, *scalars.shape).unbind(0)
            return queries, keys, values
        first, values = _by_head(scalars, (q, k), self.values)
        second, _ = _by_head(scalars, (dq, dk), dk)
        queries, keys = torch.stack((first, second), dim=1).unbind(0)
        return queries, keys, values


class EuclideanLayer(nn.Module):
    """Attention, then an exchange between features and Euclidean variables."""

    def __init__(
        self,
        *,
        n_features: int,
        n_heads: int,
        n_degrees: int,
        layer_norm_1: bool,
        layer_norm_2: bool,
        residual_mlp_1: bool,
        residual_mlp_2: bool,
    ) -> None:
        super().__init__()
        self.spherical = SphericalFilters(n_degrees, n_features)
        self.attention = PairAttention(n_features, n_heads, n_degrees)
        self.norm_1 = _norm(n_features, layer_norm_1)
        self.norm_2 = _norm(n_features, layer_norm_2)
        self.residual_1 = _residual(n_features, residual_mlp_1)
        self.residual_2 = _residual(n_features, residual_mlp_2)
        self.exchange = dense(n_features + n_degrees, n_features + n_degrees)

    def forward(
        self,
        scalars: Float[Tensor, "atoms features"],
        euclidean: Float[Tensor, "atoms m_tot"] | None,
        filters: Float[Tensor, "2 pairs features"],
        pairs: "_Pairs",
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
        """Return both after the layer; ``euclidean=None`` stands for zeros."""
        if euclidean is not None:
            invariants = pairs.sums(differences(pairs.edges, euclidean))
            filters = self.spherical(filters, invariants)
        change, received = self.attention(scalars, filters, pairs)
        euclidean = received if euclidean is None else euclidean + received
        scalars = self.residual_1(self.norm_1(scalars + change))
        exchanged = self.exchange(torch.cat((scalars, pairs.sums(euclidean)), dim=1))
        change, gain = exchanged.split((scalars.shape[1], pairs.n_degrees), dim=1)
        euclidean = torch.addcmul(euclidean, euclidean, pairs.sums.expand(gain))
        return self.norm_2(self.residual_2(scalars + change)), euclidean


class ResidualMLP(nn.Module):
    """x + Lin₂(silu(Lin₁(silu x)))."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.mlp = TwoLayer(n_features, n_features, n_features, "silu")

    def forward(
        self, x: Float[Tensor, "atoms features"]
    ) -> Float[Tensor, "atoms features"]:
        """Return the features after the network."""
        return torch.add(x, self.mlp(nn.functional.silu(x)))


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class _Pairs:
    """What all layers need of the pairs; the envelope is over the norm."""

    edges: Edges
    envelope: Float[Tensor, "... pairs 1"]
    harmonics: Float[Tensor, "pairs m_tot"]
    sums: DegreeSums
    n_degrees: int


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
        shift = torch.cat(
            [
                layer.spherical.shift(initial=n == 0)  # type: ignore[operator,union-attr]
                for n, layer in enumerate(self.layers)
            ]
        )
        filters = self.radial(self.basis(edges.distances), shift).split(2)
        euclidean = None
        for layer, own in zip(self.layers, filters, strict=True):
            scalars, euclidean = layer(scalars, euclidean, own, pairs)
        return AtomFeatures(scalars=scalars, vectors=None)

    def _pairs(self, edges: Edges) -> _Pairs:
        envelope = self.envelope(edges.distances, self.cutoff)[:, None]
        scaled = [envelope * (1.0 / norm) for norm in dict.fromkeys(self.norms)]
        return _Pairs(
            edges=edges,
            envelope=scaled[0] if len(scaled) == 1 else torch.stack(scaled),
            harmonics=self.harmonics(edges.vectors / edges.distances[:, None]),
            sums=self.sums,
            n_degrees=self.n_degrees,
        )


def _by_head(
    x: Float[Tensor, "atoms features"],
    joined: Sequence[Float[Tensor, "heads f f"]],
    apart: Float[Tensor, "heads f f"],
) -> tuple[Float[Tensor, "maps atoms features"], Float[Tensor, "heads atoms f"]]:
    """Return the maps of each head's features: some with joined heads, one without."""
    n_heads, width = apart.shape[0], apart.shape[1]
    grouped = x.view(-1, n_heads, width).transpose(0, 1)
    mapped = torch.bmm(grouped, torch.cat((*joined, apart), dim=2))
    first, last = mapped.split((len(joined) * width, width), dim=2)
    first = first.unflatten(2, (-1, width)).permute(2, 1, 0, 3)
    return first.reshape(len(joined), *x.shape), last


def _blocks(n_blocks: int, n_in: int, n_out: int) -> nn.Parameter:
    """Return matrices, Xavier-uniform each, that act from the right."""
    bound = sqrt(6.0 / (n_in + n_out))
    return nn.Parameter(torch.empty(n_blocks, n_in, n_out).uniform_(-bound, bound))


def _norm(n_features: int, wanted: bool) -> nn.Module:
    if not wanted:
        return nn.Identity()
    return nn.LayerNorm(n_features, eps=LAYER_NORM_EPSILON)


def _residual(n_features: int, wanted: bool) -> nn.Module:
    return ResidualMLP(n_features) if wanted else nn.Identity()


def _require_multiple(n_features: int, **parts: int) -> None:
    for name, number in parts.items():
        if n_features % number:
            raise ValueError(
                f"n_features is {n_features}, which {name} = {number} does not divide; "
                f"take a multiple of {number}"
            )
