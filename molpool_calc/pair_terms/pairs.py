"""What all pair terms share: both layouts of the pairs, and the smooth switch.

In the dense layout (``Edges.n_dense``) quantities of pairs have the axes (molecule,
center, neighbor); listed ones have one axis.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from molpool_calc.interfaces import Edges
from molpool_calc.segments import segment_sum

SWITCH_EDGE = 1e-3
"""So near to either end, e^(-1/SWITCH_EDGE) is zero in float64 already."""


def pair_distances(edges: Edges) -> Float[Tensor, "*pairs"]:
    """Return the distances in Å, with the axes of the layout."""
    n = edges.n_dense
    return edges.distances if n is None else edges.distances.view(-1, n, n)


def at_both_ends(
    edges: Edges, values: Shaped[Tensor, " atoms"]
) -> tuple[Shaped[Tensor, "..."], Shaped[Tensor, "..."]]:
    """Return the value of the center and that of the neighbor, up to broadcasting."""
    n = edges.n_dense
    if n is None:
        centers = values.index_select(0, edges.center)
        return centers, values.index_select(0, edges.neighbor)
    grouped = values.view(-1, n)
    return grouped[:, :, None], grouped[:, None, :]


def without_itself(
    edges: Edges, values: Float[Tensor, "*pairs"]
) -> Float[Tensor, "*pairs"]:
    """Return the values, zero for an atom with itself.

    Only the dense layout has such pairs. A listed pair of an atom with itself is one
    with its own periodic image, and counts.
    """
    n = edges.n_dense
    if n is None:
        return values
    return values * (1.0 - torch.eye(n, dtype=values.dtype, device=values.device))


def sum_over_pairs(
    edges: Edges, energies: Float[Tensor, "*pairs"]
) -> Float[Tensor, " atoms"]:
    """Return the sum over the neighbors of every atom, float64."""
    if edges.n_dense is None:
        return segment_sum(energies.double(), edges.center, edges.n_atoms)
    return energies.sum(2, dtype=torch.float64).view(-1)


def smooth_switch(
    distances: Float[Tensor, "*pairs"], start: float, stop: float
) -> Float[Tensor, "*pairs"]:
    """Return 1 up to ``start``, 0 from ``stop`` on, smooth to all orders.

    With c = (d − start)/(stop − start) and σ(x) = e^(−1/x): σ(1−c)/(σ(1−c) + σ(c)),
    which is the logistic function of 1/c − 1/(1−c).
    """
    c = (distances - start) * (1.0 / (stop - start))
    c = c.clamp(SWITCH_EDGE, 1.0 - SWITCH_EDGE)
    return torch.sigmoid(c.reciprocal() - (1.0 - c).reciprocal())


def require_cutoff(cutoff: float | None, what: str) -> float:
    """Return the cutoff in Å, infinity for ``None``.

    Raises:
        ValueError: it is not positive and finite.
    """
    if cutoff is None:
        return torch.inf
    if not 0.0 < cutoff < torch.inf:
        raise ValueError(
            f"the cutoff of {what} is {cutoff!r} Å, but must be positive and "
            "finite; leave it out to take all pairs"
        )
    return float(cutoff)
