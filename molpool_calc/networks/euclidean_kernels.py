"""The attention of the Euclidean transformer by kernels, for large systems on a GPU.

The same equations and symbols as ``euclidean_layers``, of which this takes the weights.
"""

from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.kernels import DistanceFilter
from molpool_calc.networks.euclidean_layers import (
    EuclideanLayer,
    PairGeometry,
    RadialFilters,
    SphericalFilters,
)

FilterPair = tuple[DistanceFilter, DistanceFilter]


def filters_of_distance(
    basis: nn.Module,
    radial: RadialFilters,
    spherical: list[SphericalFilters],
    *,
    cutoff: float,
    n_rbf: int,
) -> list[FilterPair]:
    """Return what of both filters of each layer depends on the distance alone."""
    return [
        (
            _filter_of_distance(basis, radial, own, (n, 0), cutoff, n_rbf),
            _filter_of_distance(basis, radial, own, (n, 1), cutoff, n_rbf),
        )
        for n, own in enumerate(spherical)
    ]


def attend(
    layer: EuclideanLayer,
    scalars: Float[Tensor, "atoms features"],
    euclidean: Float[Tensor, "atoms m_tot"] | None,
    filters: FilterPair,
    pairs: PairGeometry,
) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
    """Return the changes of features and Euclidean variables."""
    attention, sums = layer.attention, pairs.kernels
    assert sums is not None  # the caller chose kernels
    queries, keys, values = attention.project(scalars)
    invariants = None
    if euclidean is not None:
        invariants = sums.invariants(euclidean, pairs.sums.weights)
    alpha, beta = (
        sums.attention_weights(
            (filters[k], layer.spherical.alone(k)),
            invariants,
            queries[k],
            keys[k],
            n_heads,
        )
        for k, n_heads in enumerate((attention.n_heads, attention.n_degrees))
    )
    own = pairs.envelope.expand(2, *pairs.envelope.shape[-2:])
    by_head = values.transpose(0, 1).reshape(scalars.shape)
    change = sums.sum_by_head(alpha * own[0], by_head)
    membership = pairs.sums.membership
    return change, sums.sum_degrees(beta * own[1], pairs.harmonics, membership)


def _filter_of_distance(
    basis: nn.Module,
    radial: RadialFilters,
    spherical: SphericalFilters,
    which: tuple[int, int],
    cutoff: float,
    n_rbf: int,
) -> DistanceFilter:
    function = partial(_radial_filter, which)
    return DistanceFilter(
        function, basis, radial, spherical, cutoff=cutoff, n_rbf=n_rbf
    )


def _radial_filter(
    which: tuple[int, int],
    basis: nn.Module,
    radial: RadialFilters,
    spherical: SphericalFilters,
    distances: Float[Tensor, " pairs"],
) -> Float[Tensor, "pairs features"]:
    """Return one of both filters of a layer, and what it has for χ_j = χ_i."""
    layer, k = which
    shift = spherical.shift(initial=layer == 0)[k]
    return radial.one(2 * layer + k, basis(distances)) + shift
