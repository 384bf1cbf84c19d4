"""Attention over the neighbors of each atom, in the layout the pairs come in.

Listed pairs are gathered and summed by index. In the dense layout a neighbor's rows
are a broadcast view and sums over neighbors are small matrix products.

Axis names: p pair, h head, f features of one head, m component of a degree.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molpool_calc.interfaces import Edges
from molpool_calc.networks.spherical import DegreeSums
from molpool_calc.segments import segment_sum


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class UnorderedPairs:
    """Which pairs stand for both directions, and where each pair finds its own.

    What is the same for (i, j) and (j, i), as the filters are, is computed once.
    """

    chosen: Int[Tensor, " unordered"]
    place: Int[Tensor, " pairs"]

    def once(
        self, values: Float[Tensor, "pairs ..."]
    ) -> Float[Tensor, "unordered ..."]:
        """Return the values of the chosen pairs."""
        return values.index_select(0, self.chosen)

    def both_ways(
        self, values: Float[Tensor, "filters unordered features"]
    ) -> Float[Tensor, "filters pairs features"]:
        """Return the values of all pairs."""
        return values.index_select(1, self.place)


def unordered_pairs(edges: Edges) -> UnorderedPairs | None:
    """Return one of both directions in the dense layout; listed pairs are not matched.

    Chosen are the pairs of i with the next n/2 atoms in a circle, which need no search:
    for odd n one direction of each pair, for even n both of the farthest. An atom with
    itself, which is out of reach, takes the place of the first pair.
    """
    n, device = edges.n_dense, edges.center.device
    if n is None or n == 1:
        return None
    half, n_systems = n // 2, edges.n_atoms // n
    atom = torch.arange(n, device=device)
    ahead = torch.arange(1, half + 1, device=device)
    neighbor = (atom[:, None] + ahead) % n
    steps = (atom - atom[:, None]) % n
    forward = atom[:, None] * half + steps - 1
    backward = atom * half + (n - steps) - 1
    place = torch.where(steps <= half, forward, backward).clamp(min=0)
    place = torch.where(steps == 0, 0, place)
    system = torch.arange(n_systems, device=device)[:, None]
    return UnorderedPairs(
        chosen=(system * (n * n) + (atom[:, None] * n + neighbor).view(-1)).view(-1),
        place=(system * (n * half) + place.view(-1)).view(-1),
    )


def query_times_key(
    edges: Edges,
    queries: Float[Tensor, "filters atoms features"],
    keys: Float[Tensor, "filters atoms features"],
) -> Float[Tensor, "filters pairs features"]:
    """Return queries_i ⊙ keys_j for every pair."""
    n = edges.n_dense
    if n is None:
        centers = queries.index_select(1, edges.center)
        return centers * keys.index_select(1, edges.neighbor)
    n_filters, _, width = queries.shape
    products = queries.view(n_filters, -1, n, 1, width) * keys.view(
        n_filters, -1, 1, n, width
    )
    return products.view(n_filters, -1, width)


def differences(
    edges: Edges, components: Float[Tensor, "atoms m_tot"]
) -> Float[Tensor, "pairs m_tot"]:
    """Return components_j − components_i for every pair."""
    n = edges.n_dense
    if n is None:
        ends = components.index_select(0, edges.neighbor)
        return ends - components.index_select(0, edges.center)
    grouped = components.view(-1, n, components.shape[1])
    return (grouped[:, None] - grouped[:, :, None]).view(-1, components.shape[1])


def sum_heads(
    edges: Edges,
    weights: Float[Tensor, "pairs heads"],
    values: Float[Tensor, "heads atoms f"],
) -> Float[Tensor, "atoms heads_f"]:
    """Return Σ_j weights_ijh values_jhf, the heads one after another."""
    n, n_heads = edges.n_dense, weights.shape[1]
    if n is None:
        received = values.transpose(0, 1).index_select(0, edges.neighbor)
        received = received * weights[:, :, None]
        return segment_sum(received.flatten(1), edges.center, edges.n_atoms)
    by_head = weights.view(-1, n, n, n_heads).permute(3, 0, 1, 2)
    sums = by_head @ values.view(n_heads, -1, n, values.shape[2])
    return sums.permute(1, 2, 0, 3).reshape(edges.n_atoms, -1)


def sum_degrees(
    edges: Edges,
    weights: Float[Tensor, "pairs degrees"],
    harmonics: Float[Tensor, "pairs m_tot"],
    degrees: DegreeSums,
) -> Float[Tensor, "atoms m_tot"]:
    """Return Σ_j weights_ijl Y_ij,lm."""
    n = edges.n_dense
    if n is None:
        weighted = degrees.expand(weights) * harmonics
        return segment_sum(weighted, edges.center, edges.n_atoms)
    # of the products of every degree with every component, those that belong together
    by_atom = weights.view(-1, n, weights.shape[1]).transpose(1, 2)
    sums = by_atom @ harmonics.view(-1, n, harmonics.shape[1])
    return (sums * degrees.membership).sum(1)
