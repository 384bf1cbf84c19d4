"""Layers of the Euclidean transformer: filters, attention, exchange.

Equations and symbols are those of ``so3krates_euclidean``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Edges
from molpool_calc.kernels import InvariantFilter, PairSums
from molpool_calc.networks.layers import LAYER_NORM_EPSILON, ResidualMLP, dense
from molpool_calc.networks.pair_attention import (
    UnorderedPairs,
    differences,
    query_times_key,
    sum_degrees,
    sum_heads,
)
from molpool_calc.networks.spherical import DegreeSums


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
        hidden = hidden.view(-1, self.n_filters, self.second.shape[1]).transpose(0, 1)
        return torch.baddbmm(self.bias + shift, hidden, self.second)

    def one(
        self, n: int, basis: Float[Tensor, "pairs rbf"]
    ) -> Float[Tensor, "pairs features"]:
        """Return filter ``n`` alone, without shift."""
        width = self.second.shape[1]
        chosen = slice(n * width, (n + 1) * width)
        weight, bias = self.first.weight[chosen], self.first.bias[chosen]
        hidden = nn.functional.silu(nn.functional.linear(basis, weight, bias))
        return torch.addmm(self.bias[n], hidden, self.second[n])


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

    def alone(self, k: int) -> InvariantFilter:
        """Return filter ``k`` alone, without its shift."""
        width = self.second.shape[1]
        chosen = slice(k * width, (k + 1) * width)
        first = self.first.weight[chosen].T.contiguous()
        return InvariantFilter(first, self.first.bias[chosen], self.second[k])

    def forward(
        self,
        radial: Float[Tensor, "2 filtered features"],
        invariants: Float[Tensor, "filtered degrees"],
    ) -> Float[Tensor, "2 filtered features"]:
        """Return ``radial`` plus the spherical filters without their shift."""
        hidden = nn.functional.silu(self.first(invariants))
        hidden = hidden.view(-1, 2, self.second.shape[1]).transpose(0, 1)
        return torch.baddbmm(radial, hidden, self.second)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class PairGeometry:
    """What all layers need of the pairs; the envelope is over the norm.

    ``kernels`` are given where they compute the attention.
    """

    edges: Edges
    envelope: Float[Tensor, "... pairs 1"]
    harmonics: Float[Tensor, "pairs m_tot"]
    sums: DegreeSums
    n_degrees: int
    unordered: UnorderedPairs | None
    kernels: PairSums | None = None


class PairAttention(nn.Module):
    """Attention of the features, by heads, and of the Euclidean variables, by degrees.

    Queries, keys and values of a head are linear in the head's own features; matrices
    act from the right.
    """

    def __init__(self, n_features: int, n_heads: int, n_degrees: int) -> None:
        super().__init__()
        self.n_heads, self.n_degrees = n_heads, n_degrees
        widths = (n_features // n_heads, n_features // n_degrees)
        self.queries = _blocks(n_heads, widths[0], widths[0])
        self.keys = _blocks(n_heads, widths[0], widths[0])
        self.values = _blocks(n_heads, widths[0], widths[0])
        self.degree_queries = _blocks(n_degrees, widths[1], widths[1])
        self.degree_keys = _blocks(n_degrees, widths[1], widths[1])

    def forward(
        self,
        scalars: Float[Tensor, "atoms features"],
        filters: Float[Tensor, "2 pairs features"],
        pairs: PairGeometry,
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
        """Return the changes of features and Euclidean variables."""
        queries, keys, values = self.project(scalars)
        products = query_times_key(pairs.edges, queries, keys) * filters
        alpha, beta = self._weights(products, pairs.envelope)
        change = sum_heads(pairs.edges, alpha, values)
        return change, sum_degrees(pairs.edges, beta, pairs.harmonics, pairs.sums)

    def _weights(
        self,
        products: Float[Tensor, "2 pairs features"],
        envelope: Float[Tensor, "... pairs 1"],
    ) -> tuple[Float[Tensor, "pairs heads"], Float[Tensor, "pairs degrees"]]:
        """Return the sums over each head, times the envelope."""
        f, g = self.values.shape[1], self.degree_keys.shape[1]
        if f == g:
            sums = products.view(2, -1, self.n_heads, f).sum(3) * envelope
            alpha, beta = sums.unbind(0)
            return alpha, beta
        of_heads, of_degrees = products.unbind(0)
        alpha = of_heads.view(-1, self.n_heads, f).sum(2)
        beta = of_degrees.view(-1, self.n_degrees, g).sum(2)
        own = envelope.expand(2, *envelope.shape[-2:])
        return alpha * own[0], beta * own[1]

    def project(
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
        filters: Float[Tensor, "2 filtered features"],
        pairs: PairGeometry,
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
        """Return both after the layer; ``euclidean=None`` stands for zeros."""
        change, received = self.attend(scalars, euclidean, filters, pairs)
        return self.update(scalars + change, euclidean, received, pairs)

    def attend(
        self,
        scalars: Float[Tensor, "atoms features"],
        euclidean: Float[Tensor, "atoms m_tot"] | None,
        filters: Float[Tensor, "2 filtered features"],
        pairs: PairGeometry,
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
        """Return the changes that the attention makes to both."""
        if euclidean is not None:
            invariants = pairs.sums(differences(pairs.edges, euclidean))
            if pairs.unordered is not None:
                invariants = pairs.unordered.once(invariants)
            filters = self.spherical(filters, invariants)
        if pairs.unordered is not None:
            filters = pairs.unordered.both_ways(filters)
        change, received = self.attention(scalars, filters, pairs)
        return change, received

    def update(
        self,
        scalars: Float[Tensor, "atoms features"],
        euclidean: Float[Tensor, "atoms m_tot"] | None,
        received: Float[Tensor, "atoms m_tot"],
        pairs: PairGeometry,
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
        """Return both after the exchange of what the attention gave."""
        euclidean = received if euclidean is None else euclidean + received
        scalars = self.residual_1(self.norm_1(scalars))
        exchanged = self.exchange(torch.cat((scalars, pairs.sums(euclidean)), dim=1))
        change, gain = torch.split(
            exchanged, [scalars.shape[1], pairs.n_degrees], dim=1
        )
        euclidean = torch.addcmul(euclidean, euclidean, pairs.sums.expand(gain))
        return self.norm_2(self.residual_2(scalars + change)), euclidean


def _by_head(
    x: Float[Tensor, "atoms features"],
    joined: Sequence[Float[Tensor, "heads f f"]],
    apart: Float[Tensor, "heads f f"],
) -> tuple[Float[Tensor, "maps atoms features"], Float[Tensor, "heads atoms f"]]:
    """Return the maps of each head's features: some with joined heads, one without."""
    n_heads, width = apart.shape[0], apart.shape[1]
    grouped = x.view(-1, n_heads, width).transpose(0, 1)
    mapped = torch.bmm(grouped, torch.cat((*joined, apart), dim=2))
    first, last = torch.split(mapped, [len(joined) * width, width], dim=2)
    first = first.view(n_heads, -1, len(joined), width).permute(2, 1, 0, 3)
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
