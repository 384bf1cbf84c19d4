"""Values of pairs and of their two atoms, in the layout the pairs come in.

Listed pairs have one axis, ``pairs``. The dense layout, every atom of a molecule with
every atom, has three, ``systems centers neighbors``, so that the value of an atom is a
broadcast view for its pairs and a sum over neighbors is a sum over an axis. A network
written in terms of these functions does not see the difference.
"""

from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import Edges
from molpool_calc.segments import segment_sum


class PairLayout:
    """Shapes of ``edges``: the leading axes are those of the pairs in each result."""

    def __init__(self, edges: Edges) -> None:
        self.edges = edges
        n = edges.n_dense
        self.shape = (edges.center.shape[0],) if n is None else (-1, n, n)

    def spread(self, values: Float[Tensor, "pairs ..."]) -> Float[Tensor, "..."]:
        """Return values of pairs with the axes of the layout."""
        if self.edges.n_dense is None:
            return values
        return values.reshape(*self.shape, *values.shape[1:])

    def of_centers(self, values: Float[Tensor, "atoms ..."]) -> Float[Tensor, "..."]:
        """Return the value of the center of each pair, or what broadcasts to it."""
        n = self.edges.n_dense
        if n is None:
            return values.index_select(0, self.edges.center)
        return values.reshape(-1, n, 1, *values.shape[1:])

    def of_neighbors(self, values: Float[Tensor, "atoms ..."]) -> Float[Tensor, "..."]:
        """Return the value of the neighbor of each pair, or what broadcasts to it."""
        n = self.edges.n_dense
        if n is None:
            return values.index_select(0, self.edges.neighbor)
        return values.reshape(-1, 1, n, *values.shape[1:])

    def sum_neighbors(self, values: Float[Tensor, "..."]) -> Float[Tensor, "atoms ..."]:
        """Return the sum over the neighbors of each atom."""
        if self.edges.n_dense is None:
            return segment_sum(values, self.edges.center, self.edges.n_atoms)
        return values.sum(2).flatten(0, 1)
