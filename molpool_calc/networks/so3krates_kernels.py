"""The attention of So3krates by kernels, for large systems on a GPU.

The same equations and symbols as ``so3krates_attention``, whose weights these take.
"""

from functools import partial
from math import sqrt

from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.kernels import DistanceFilter, InvariantFilter, PairSums
from molpool_calc.networks.so3krates_attention import Attention, PairFilters
from molpool_calc.networks.spherical import DegreeSums

FilterPair = tuple[DistanceFilter, DistanceFilter]


def filters_of_distance(
    basis: nn.Module,
    filters: PairFilters,
    *,
    from_zero: bool,
    cutoff: float,
    n_rbf: int,
) -> list[FilterPair]:
    """Return what of both filters of each layer depends on the distance alone.

    With χ starting ``from_zero``, that is all of the filters of the first layer.
    """

    def of_distance(layer: int, k: int) -> DistanceFilter:
        function = partial(_filter, (layer, k), from_zero and layer == 0)
        return DistanceFilter(function, basis, filters, cutoff=cutoff, n_rbf=n_rbf)

    return [
        (of_distance(layer, 0), of_distance(layer, 1))
        for layer in range(filters.n_layers)
    ]


def attend(
    attention: Attention,
    projected: Float[Tensor, "five atoms features"],
    filters: tuple[FilterPair, tuple[InvariantFilter, InvariantFilter]],
    chi: Float[Tensor, "atoms m_tot"] | None,
    pairs: tuple[PairSums, Tensor, Tensor, DegreeSums],
) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
    """Return Δx and Δχ.

    Args:
        attention: whose numbers of heads and degrees count.
        projected: queries, keys and values as in ``Attention.forward``.
        filters: both of the layer, of distances and of invariants.
        chi: χ; ``None`` for zeros.
        pairs: their sums, f_c, f_c·Y and the sums of degrees.
    """
    sums, envelope, directions, degrees = pairs
    n_heads, width = attention.features.shape[2:4]
    n_degrees, degree_width = attention.coordinates.shape[2:4]
    invariants = None if chi is None else sums.invariants(chi, degrees.weights)
    alpha, beta = (
        sums.attention_weights(
            (filters[0][k], filters[1][k]),
            invariants,
            projected[k],
            projected[2 + k],
            number,
        )
        for k, number in enumerate((n_heads, n_degrees))
    )
    change = sums.sum_by_head(alpha * (envelope * (1.0 / sqrt(width))), projected[4])
    beta = beta * (1.0 / sqrt(degree_width))
    return change, sums.sum_degrees(beta, directions, degrees.membership)


def _filter(
    which: tuple[int, int],
    is_all: bool,
    basis: nn.Module,
    filters: PairFilters,
    distances: Float[Tensor, " pairs"],
) -> Float[Tensor, "pairs features"]:
    """Return MLP_r(φ(d)) of one filter of a layer, and MLP_s(0) if that is all."""
    layer, k = which
    n = 2 * layer + k
    hidden = basis(distances) @ filters.radial_first[n] + filters.radial_first_bias[n]
    bias = filters.radial_second_bias[n] + filters.degree_second_bias[n]
    if is_all:
        start = nn.functional.silu(filters.degree_first_bias[layer, k])
        bias = bias + start @ filters.degree_second[layer, k]
    found: Tensor = nn.functional.silu(hidden) @ filters.radial_second[n] + bias
    return found
