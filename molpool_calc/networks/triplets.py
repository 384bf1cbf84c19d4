"""Sums over the triplets k → j → i of a pair list, without a list of triplets.

The message of a pair with center i and neighbor j goes from j to i. It *leaves* j, and
what it takes up are the messages that *arrive* at j: those of pairs with center j and
neighbor k. So triplets are the leaving times the arriving pairs of each middle atom j:

    Σ_k Σ_l P_l(cos α_ijk) q_jk,lf   =   one matrix product for each middle atom

with the Legendre polynomials as matrix of rows i and columns (k, l). The matrix is
the same for all interaction blocks. Features of triplets, as wide as the network,
never exist, and as only cosines enter, a straight chain (CO₂) is like any other.

The message must not come straight back: triplets whose two vectors sum to zero are
left out. This leaves out the pair i → j itself, and keeps a periodic image of i among
the atoms k. (The published code leaves out all k = i by index, images too, so that the
energy of a small cell differs from that of the same crystal in a large cell.)
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from molpool_calc.interfaces import Edges

AngleAt = Literal["middle", "end"]

MAX_RETURN = 1e-4
"""Å: nearer than this to where it came from, a triplet counts as coming back. Atoms
are never that close, and rounding of positions never that large."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Triplets:
    """Legendre polynomials of all angles, and where pairs stand in them.

    ``leaving`` and ``arriving`` give the row of each pair among ``middles`` times the
    largest number of pairs of one atom; ``None`` in the dense layout.
    """

    legendre: Float[Tensor, "middles leaving arriving_orders"]
    leaving: Int[Tensor, " pairs"] | None
    arriving: Int[Tensor, " pairs"] | None

    def sum_arriving(
        self, values: Float[Tensor, "pairs orders features"]
    ) -> Float[Tensor, "pairs features"]:
        """Return Σ_k Σ_l P_l(cos α_ijk) values_jk,l for every pair j → i."""
        n_middles, n_leaving, n_columns = self.legendre.shape
        n_features = values.shape[2]
        if self.arriving is None or self.leaving is None:
            received = self.legendre @ values.reshape(n_middles, n_columns, n_features)
            by_system = received.view(-1, n_leaving, n_leaving, n_features)
            return by_system.transpose(1, 2).reshape(-1, n_features)
        n_slots = n_middles * n_columns // values.shape[1]
        slots = _in_slots(values, self.arriving, n_slots)
        received = self.legendre @ slots.view(n_middles, n_columns, n_features)
        return received.flatten(0, 1).index_select(0, self.leaving)


def triplets(edges: Edges, *, n_orders: int, angle_at: AngleAt) -> Triplets:
    """Return the triplets of pairs that are all inside the cutoff, or dense.

    Args:
        edges: listed pairs sorted by center, or the dense layout.
        n_orders: number of Legendre polynomials, from P_0.
        angle_at: ``"middle"``: cos α = û_ij·û_jk, 1 for a straight chain;
            ``"end"``: cos α = û_ij·û_ik, the angle at i between j and k.
    """
    leaving = arriving = None
    if edges.n_dense is None:
        leaving, n_leaving = _slots(edges.neighbor, edges.n_atoms, is_sorted=False)
        arriving, n_arriving = _slots(edges.center, edges.n_atoms, is_sorted=True)
        out_vectors = _spread(edges.vectors, leaving, edges.n_atoms, n_leaving)
        in_vectors = _spread(edges.vectors, arriving, edges.n_atoms, n_arriving)
        unit = edges.vectors / edges.distances[:, None]
        out_unit = _spread(unit, leaving, edges.n_atoms, n_leaving)
        in_unit = _spread(unit, arriving, edges.n_atoms, n_arriving)
        onward = _onward(out_vectors, in_vectors)
    else:
        out_vectors, in_vectors = _dense(edges.vectors, edges.n_dense)
        unit = edges.vectors / edges.distances[:, None]
        out_unit, in_unit = _dense(unit, edges.n_dense)
        eye = torch.eye(edges.n_dense, dtype=torch.bool, device=unit.device)
        onward = ~eye.expand(edges.n_atoms, -1, -1)
    if angle_at == "middle":
        cosine = out_unit @ in_unit.transpose(1, 2)
    else:
        cosine = _cosine_at_end(out_unit, out_vectors, in_vectors, onward)
    polynomials = legendre(cosine, onward.to(cosine.dtype), n_orders)
    return Triplets(
        legendre=polynomials.flatten(2, 3), leaving=leaving, arriving=arriving
    )


def legendre(
    cosine: Float[Tensor, "*any"], weight: Float[Tensor, "*any"], n_orders: int
) -> Float[Tensor, "*any orders"]:
    """Return weight·P_l(cosine) for l = 0, 1, 2 and so on.

    (l + 1) P_{l+1} = (2l + 1) c P_l − l P_{l−1}.

    Example:
        >>> legendre(torch.tensor([0.5]), torch.tensor([1.0]), 3).tolist()
        [[1.0, 0.5, -0.125]]
    """
    values = [weight, cosine * weight]
    for l in range(1, n_orders - 1):
        # lerp(a, b, w) is (1 − w) a + w b
        w = (2 * l + 1) / (l + 1)
        values.append(torch.lerp(values[-2], cosine * values[-1], w))
    return torch.stack(values[:n_orders], dim=-1)


def pairs_inside(edges: Edges, cutoff: float) -> Edges:
    """Return the listed pairs below the cutoff; the dense layout as it is."""
    if edges.n_dense is not None:
        return edges
    inside = (edges.distances < cutoff).nonzero()[:, 0]
    if inside.shape[0] == edges.distances.shape[0]:
        return edges
    return replace(
        edges,
        center=edges.center.index_select(0, inside),
        neighbor=edges.neighbor.index_select(0, inside),
        vectors=edges.vectors.index_select(0, inside),
        distances=edges.distances.index_select(0, inside),
    )


def _dense(
    vectors: Float[Tensor, "pairs 3"], n: int
) -> tuple[Float[Tensor, "middles atoms 3"], Float[Tensor, "middles atoms 3"]]:
    """Return the vectors of leaving (i, j) and of arriving (j, k) pairs of each j."""
    grouped = vectors.view(-1, n, n, 3)
    return grouped.transpose(1, 2).reshape(-1, n, 3), grouped.view(-1, n, 3)


def _slots(
    ends: Int[Tensor, " pairs"], n_atoms: int, *, is_sorted: bool
) -> tuple[Int[Tensor, " pairs"], int]:
    """Return atom·n + (place among the pairs of that atom) and n, the most pairs."""
    counts = torch.bincount(ends, minlength=n_atoms)
    first = torch.cumsum(counts, 0) - counts
    place = torch.arange(ends.shape[0], device=ends.device)
    if not is_sorted:
        place = torch.empty_like(place).index_copy(
            0, torch.argsort(ends, stable=True), place
        )
    # at least one, so that no matrix is empty
    largest = max(1, int(counts.max()))
    return ends * largest + place - first.index_select(0, ends), largest


def _in_slots(
    values: Float[Tensor, "pairs ..."], slots: Int[Tensor, " pairs"], n_slots: int
) -> Float[Tensor, "slots ..."]:
    """Return the values in their slots, and zeros in the others."""
    empty = values.new_zeros((n_slots, *values.shape[1:]))
    return empty.index_copy(0, slots, values)


def _spread(
    vectors: Float[Tensor, "pairs 3"],
    slots: Int[Tensor, " pairs"],
    n_atoms: int,
    n_slots: int,
) -> Float[Tensor, "middles slots 3"]:
    return _in_slots(vectors, slots, n_atoms * n_slots).view(n_atoms, n_slots, 3)


def _onward(
    out_vectors: Float[Tensor, "middles leaving 3"],
    in_vectors: Float[Tensor, "middles arriving 3"],
) -> Bool[Tensor, "middles leaving arriving"]:
    """Return which triplets do not come back to where they started."""
    total = out_vectors.detach()[:, :, None] + in_vectors.detach()[:, None]
    return (total * total).sum(3) > MAX_RETURN**2


def _cosine_at_end(
    out_unit: Float[Tensor, "middles leaving 3"],
    out_vectors: Float[Tensor, "middles leaving 3"],
    in_vectors: Float[Tensor, "middles arriving 3"],
    onward: Bool[Tensor, "middles leaving arriving"],
) -> Float[Tensor, "middles leaving arriving"]:
    """Return û_ij·û_ik with r_ik = r_ij + r_jk."""
    third = out_vectors[:, :, None] + in_vectors[:, None]
    # 1 Å stands in where r_ik is zero, for triplets that count for nothing
    square = torch.where(onward, (third * third).sum(3), torch.ones_like(third[..., 0]))
    return (out_unit[:, :, None] * third).sum(3) / torch.sqrt(square)
