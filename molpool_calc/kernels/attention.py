"""So3krates' attention by kernels, with gradients of all orders; see ``messages``."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Edges
from molpool_calc.kernels.filters import DistanceFilter
from molpool_calc.kernels.messages import Inputs, Passes, both_orders, messages_by
from molpool_calc.kernels.pairs import SortedPairs
from molpool_calc.segments import segment_sum


class InvariantFilter(NamedTuple):
    """silu(c A + a) B of invariants c; matrices act from the right."""

    first: Float[Tensor, "degrees hidden"]
    bias: Float[Tensor, " hidden"]
    second: Float[Tensor, "hidden features"]

    def __call__(
        self, invariants: Float[Tensor, "pairs degrees"]
    ) -> Float[Tensor, "pairs features"]:
        """Return the filter of each pair."""
        return nn.functional.silu(invariants @ self.first + self.bias) @ self.second


class PairSums(NamedTuple):
    """Sums over the pairs of ``edges`` by kernels; ``order`` is of these pairs."""

    edges: Edges
    order: SortedPairs

    def attention_weights(
        self,
        filters: tuple[DistanceFilter, InvariantFilter],
        invariants: Float[Tensor, "pairs degrees"] | None,
        queries: Float[Tensor, "atoms features"],
        keys: Float[Tensor, "atoms features"],
        n_heads: int,
    ) -> Float[Tensor, "pairs heads"]:
        """Return Σ_g q_i,hg k_j,hg w_ij,hg for each pair and head h.

        Args:
            filters: of distances and of invariants, whose sum is w.
            invariants: ``None`` where the filter of distances is all of w.
            queries: of each atom, the heads one after another.
            keys: likewise.
            n_heads: number of heads.
        """
        edges, (of_distance, of_invariants) = self.edges, filters
        if invariants is None:
            invariants = edges.distances.new_empty((edges.distances.shape[0], 0))
            of_invariants = of_invariants._replace(first=of_invariants.first[:0])

        def written(
            distances: Tensor, invariants: Tensor, queries: Tensor, keys: Tensor
        ) -> tuple[Tensor]:
            w = of_distance(distances)
            if invariants.shape[1]:
                w = w + of_invariants(invariants)
            products = queries.index_select(0, edges.center) * w
            products = products * keys.index_select(0, edges.neighbor)
            return (products.view(len(products), n_heads, -1).sum(2),)

        kernels = _Attention(self.order, of_distance, of_invariants, n_heads)
        (weights,) = messages_by(
            kernels, written, edges.distances, invariants, queries, keys
        )
        return weights

    def sum_by_head(
        self,
        weights: Float[Tensor, "pairs heads"],
        values: Float[Tensor, "atoms features"],
    ) -> Float[Tensor, "atoms features"]:
        """Return Σ_j weights_ijh values_jhf, the heads one after another."""
        edges = self.edges

        def written(weights: Tensor, values: Tensor) -> tuple[Tensor]:
            received = values.index_select(0, edges.neighbor)
            received = received.view(*weights.shape, -1) * weights[:, :, None]
            return (segment_sum(received.flatten(1), edges.center, edges.n_atoms),)

        (sums,) = messages_by(_Heads(self.order), written, weights, values)
        return sums

    def invariants(
        self,
        components: Float[Tensor, "atoms m_tot"],
        weights: Float[Tensor, "m_tot degrees"],
    ) -> Float[Tensor, "pairs degrees"]:
        """Return (χ_j − χ_i)² summed over components with ``weights``, zero elsewhere.

        Each component belongs to one degree.
        """
        edges = self.edges

        def written(components: Tensor) -> tuple[Tensor]:
            ends = components.index_select(0, edges.neighbor)
            difference = ends - components.index_select(0, edges.center)
            return ((difference * difference) @ weights,)

        (found,) = messages_by(_Invariants(self.order, weights), written, components)
        return found

    def sum_degrees(
        self,
        weights: Float[Tensor, "pairs degrees"],
        components: Float[Tensor, "pairs m_tot"],
        membership: Float[Tensor, "degrees m_tot"],
    ) -> Float[Tensor, "atoms m_tot"]:
        """Return Σ_j weights_ijl components_ij,lm."""
        edges = self.edges

        def written(weights: Tensor, components: Tensor) -> tuple[Tensor]:
            weighted = (weights @ membership) * components
            return (segment_sum(weighted, edges.center, edges.n_atoms),)

        kernels = _Degrees(self.order, membership)
        (sums,) = messages_by(kernels, written, weights, components)
        return sums


class _Attention(Passes):
    def __init__(
        self,
        pairs: SortedPairs,
        filters: DistanceFilter,
        of_invariants: InvariantFilter,
        n_heads: int,
    ) -> None:
        super().__init__(pairs, filters)
        self.of_invariants, self.n_heads = of_invariants, n_heads

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        from molpool_calc.kernels.attention_ops import weights  # noqa: PLC0415

        distances, *others = inputs
        fixed = (self.table, *self.of_invariants, self.n_heads)
        return (weights(*self.centers, distances * self.scale, *others, *fixed),)

    def backward(self, inputs: Inputs, gradients: list[Tensor]) -> Inputs:
        from molpool_calc.kernels.attention_ops import (  # noqa: PLC0415
            weights_backward,
        )

        distances, *others = inputs
        slope, *found = weights_backward(
            *(*self.centers, *self.neighbors, distances * self.scale, *others),
            *(self.table, *self.of_invariants, *gradients),
        )
        return [slope * self.scale, *found]


class _Heads:
    def __init__(self, pairs: SortedPairs) -> None:
        self.centers, self.neighbors = both_orders(pairs)

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        from molpool_calc.kernels.triton_heads import sums  # noqa: PLC0415

        return (sums(*self.centers, *inputs),)

    def backward(self, inputs: Inputs, gradients: list[Tensor]) -> Inputs:
        from molpool_calc.kernels.triton_heads import sums_backward  # noqa: PLC0415

        return list(sums_backward(*self.neighbors, *inputs, *gradients))


class _Invariants:
    def __init__(self, pairs: SortedPairs, weights: Tensor) -> None:
        self.centers, self.neighbors = both_orders(pairs)
        self.n_degrees = weights.shape[1]
        self.degrees = weights.argmax(1).int(), weights.sum(1)

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        from molpool_calc.kernels.triton_degrees import invariants  # noqa: PLC0415

        found = invariants(*self.centers, *inputs, *self.degrees, self.n_degrees)
        return (found,)

    def backward(self, inputs: Inputs, gradients: list[Tensor]) -> Inputs:
        from molpool_calc.kernels.triton_degrees import (  # noqa: PLC0415
            invariants_backward,
        )

        ends = (*self.centers, *self.neighbors)
        return [invariants_backward(*ends, *inputs, *self.degrees, *gradients)]


class _Degrees:
    def __init__(self, pairs: SortedPairs, membership: Tensor) -> None:
        self.centers = (pairs.by_center, pairs.first_of_center)
        self.degree = membership.argmax(0).int()

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        from molpool_calc.kernels.triton_degrees import sums  # noqa: PLC0415

        return (sums(*self.centers, *inputs, self.degree),)

    def backward(self, inputs: Inputs, gradients: list[Tensor]) -> Inputs:
        from molpool_calc.kernels.triton_degrees import sums_backward  # noqa: PLC0415

        return list(sums_backward(*self.centers, *inputs, self.degree, *gradients))
