"""Sums over the neighbors of each atom, in the layout the pairs come in.

Listed pairs (one after another, ``Edges.n_dense`` is ``None``) are gathered by index
and summed by ``index_add``. The dense layout, every atom of a molecule with every
atom, needs neither: a neighbor's features are a broadcast view and a sum over
neighbors is a sum over an axis, which is what makes small molecules fast. Networks
are written in terms of these functions and do not see the difference.

Axis names: i center, j neighbor, f feature.
"""

from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import Edges
from molpool_calc.segments import segment_sum


def sum_neighbors(
    edges: Edges, values: Float[Tensor, "pairs features"]
) -> Float[Tensor, "atoms features"]:
    """Return Σ_j values_ij for every atom i."""
    n = edges.n_dense
    if n is None:
        return segment_sum(values, edges.center, edges.n_atoms)
    return values.reshape(edges.n_atoms, n, -1).sum(1)


def gather_neighbors(
    edges: Edges,
    gates: Float[Tensor, "pairs features"],
    values: Float[Tensor, "atoms features"],
) -> Float[Tensor, "pairs features"]:
    """Return gates_ij ⊙ values_j for every pair."""
    n = edges.n_dense
    if n is None:
        return gates * values.index_select(0, edges.neighbor)
    spread = gates.view(-1, n, n, gates.shape[1]) * values.view(
        -1, 1, n, gates.shape[1]
    )
    return spread.view(gates.shape)


def sum_directions(
    edges: Edges, gates: Float[Tensor, "pairs features"]
) -> Float[Tensor, "atoms 3 features"]:
    """Return Σ_j u_ij ⊗ gates_ij, u the vectors of ``edges``."""
    n = edges.n_dense
    if n is None:
        outer = edges.vectors[:, :, None] * gates[:, None, :]
        return segment_sum(outer, edges.center, edges.n_atoms)
    return edges.vectors.view(-1, n, 3).transpose(1, 2) @ gates.view(
        -1, n, gates.shape[1]
    )


def sum_gated_vectors(
    edges: Edges,
    gates: Float[Tensor, "pairs features"],
    vectors: Float[Tensor, "atoms 3 features"],
) -> Float[Tensor, "atoms 3 features"]:
    """Return Σ_j gates_ij ⊙ vectors_j."""
    n, width = edges.n_dense, gates.shape[1]
    if n is None:
        gated = gates[:, None, :] * vectors.index_select(0, edges.neighbor)
        return segment_sum(gated, edges.center, edges.n_atoms)
    spread = gates.view(-1, n, n, 1, width) * vectors.view(-1, 1, n, 3, width)
    return spread.sum(2).view(vectors.shape)
