"""Filters and attention of So3krates, for all layers at once where possible.

Everything that depends on distances alone is one row of products for all layers, and
all queries, keys and values of a layer are one product, because a small molecule costs
as much as the number of its steps. Names of symbols as in ``so3krates``.
"""

from collections.abc import Sequence
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.kernels import InvariantFilter
from molpool_calc.networks.constants import Constants
from molpool_calc.networks.pair_layout import PairLayout


def stacked(*shape: int) -> nn.Parameter:
    """Return Xavier-uniform matrices, one for every index of the leading axes."""
    bound = sqrt(6.0 / (shape[-1] + shape[-2]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def zeros(*shape: int) -> nn.Parameter:
    """Return biases."""
    return nn.Parameter(torch.zeros(shape))


def block_diagonal(
    matrices: Float[Tensor, "layers kinds heads width width"],
) -> Float[Tensor, "layers kinds features features"]:
    """Return the matrices of the heads as blocks of one matrix."""
    blocks = torch.diag_embed(matrices.movedim(2, -1), dim1=2, dim2=4)
    return blocks.flatten(4, 5).flatten(2, 3)


class PairFilters(nn.Module):
    """Filters of all layers: silu networks of the radial basis and of the degrees.

    Each layer has two filters (``two``), one for the features and one for the
    coordinates. The radial part of all layers is one row of matrix products.
    ``hidden`` are the widths within the networks of radial basis and of degrees.
    """

    def __init__(
        self,
        n_layers: int,
        n_rbf: int,
        n_degrees: int,
        n_features: int,
        hidden: tuple[int, int],
    ) -> None:
        super().__init__()
        wide, narrow = hidden
        self.n_layers = n_layers
        self.radial_first = stacked(2 * n_layers, n_rbf, wide)
        self.radial_first_bias = zeros(2 * n_layers, 1, wide)
        self.radial_second = stacked(2 * n_layers, wide, n_features)
        self.radial_second_bias = zeros(2 * n_layers, 1, n_features)
        self.degree_first = stacked(n_layers, 2, n_degrees, narrow)
        self.degree_first_bias = zeros(n_layers, 2, 1, narrow)
        self.degree_second = stacked(n_layers, 2, narrow, n_features)
        self.degree_second_bias = zeros(2 * n_layers, 1, n_features)

    def forward(
        self, basis: Float[Tensor, "pairs rbf"]
    ) -> Float[Tensor, "layers two pairs features"]:
        """Return the radial part of the filters, with the biases of both parts."""
        shared = basis.expand(2 * self.n_layers, *basis.shape)
        first = torch.baddbmm(self.radial_first_bias, shared, self.radial_first)
        bias = self.radial_second_bias + self.degree_second_bias
        hidden = nn.functional.silu(first)
        radial = torch.baddbmm(bias, hidden, self.radial_second)
        return radial.view(self.n_layers, 2, *radial.shape[1:])

    def of_invariants(self, layer: int) -> tuple[InvariantFilter, InvariantFilter]:
        """Return what of both filters of a layer depends on the degrees, no bias."""
        first, bias = self.degree_first[layer], self.degree_first_bias[layer]
        second = self.degree_second[layer]
        return (
            InvariantFilter(first[0], bias[0, 0], second[0]),
            InvariantFilter(first[1], bias[1, 0], second[1]),
        )

    def add_degrees(
        self,
        layer: int,
        radial: Float[Tensor, "two pairs features"],
        invariants: Float[Tensor, "pairs_or_one degrees"],
    ) -> Float[Tensor, "two pairs features"]:
        """Return the filters of a layer; one row of invariants stands for all pairs."""
        first = torch.baddbmm(
            self.degree_first_bias[layer],
            invariants.expand(2, *invariants.shape),
            self.degree_first[layer],
        )
        hidden, second = nn.functional.silu(first), self.degree_second[layer]
        if invariants.shape[0] != radial.shape[1]:
            return radial + hidden @ second
        return torch.baddbmm(radial, hidden, second)


class Heads(Constants):
    """Sums of q ⊙ k ⊙ w over the features of each head, with 1/√(width of a head).

    The heads of the coordinates are one for each degree, and their sums are repeated
    for each of its components.
    """

    features: Tensor
    coordinates: Tensor

    def __init__(self, n_features: int, n_heads: int, degrees: Sequence[int]) -> None:
        n_degrees = len(degrees)
        width, degree_width = n_features // n_heads, n_features // n_degrees
        sizes = torch.tensor([2 * degree + 1 for degree in degrees])
        features = torch.eye(n_heads, dtype=torch.float64)
        features = features.repeat_interleave(width, 0) / sqrt(width)
        coordinates = torch.eye(n_degrees, dtype=torch.float64)
        coordinates = coordinates.repeat_interleave(degree_width, 0)
        coordinates = coordinates.repeat_interleave(sizes, 1) / sqrt(degree_width)
        super().__init__(features=features, coordinates=coordinates)


class Attention(nn.Module):
    """Both attentions of all layers: changes of the features and of the coordinates."""

    def __init__(
        self,
        n_layers: int,
        n_features: int,
        n_heads: int,
        degrees: Sequence[int],
        *,
        bias: bool = False,
    ) -> None:
        super().__init__()
        n_degrees = len(degrees)
        width, degree_width = n_features // n_heads, n_features // n_degrees
        # matrices act from the right: query, key, value of the features
        self.features = stacked(n_layers, 3, n_heads, width, width)
        # query, key of the coordinates
        self.coordinates = stacked(n_layers, 2, n_degrees, degree_width, degree_width)
        # in the order of ``matrices``
        self.bias = zeros(n_layers, 5, 1, n_features) if bias else None
        self.heads = Heads(n_features, n_heads, degrees)

    def matrices(self) -> Float[Tensor, "layers five features features"]:
        """Return queries, keys (features, coordinates) and values of all layers.

        The matrices of the heads stand in blocks on the diagonal, so that a layer needs
        one product.
        """
        x, chi = block_diagonal(self.features), block_diagonal(self.coordinates)
        return torch.cat((x[:, :1], chi[:, :1], x[:, 1:2], chi[:, 1:], x[:, 2:]), dim=1)

    def project(
        self,
        x: Float[Tensor, "atoms features"],
        layer: int,
        matrices: Float[Tensor, "five features features"],
    ) -> Float[Tensor, "five atoms features"]:
        """Return queries, keys and values in the order of ``matrices``."""
        projected = x @ matrices
        return projected if self.bias is None else projected + self.bias[layer]

    def forward(
        self,
        x: Float[Tensor, "atoms features"],
        layer: int,
        matrices: Float[Tensor, "five features features"],
        filters: Float[Tensor, "two pairs features"],
        pairs: PairLayout,
        envelope: Float[Tensor, "..."],
        directions: Float[Tensor, "..."],
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
        """Return Δx and Δχ; ``envelope`` is f_c and ``directions`` are f_c·Y."""
        projected = self.project(x, layer, matrices)
        queries, keys, values = torch.split(projected, [2, 2, 1])
        products = pairs.spread(filters.transpose(0, 1))
        products = products * pairs.of_centers(queries.transpose(0, 1))
        products = products * pairs.of_neighbors(keys.transpose(0, 1))
        of_x, of_chi = products.unbind(-2)
        alpha = (of_x @ self.heads.features) * envelope
        by_head = values.view(x.shape[0], alpha.shape[-1], -1)
        messages = alpha[..., None] * pairs.of_neighbors(by_head)
        beta = of_chi @ self.heads.coordinates
        change = pairs.sum_neighbors(messages).flatten(1)
        return change, pairs.sum_neighbors(beta * directions)
