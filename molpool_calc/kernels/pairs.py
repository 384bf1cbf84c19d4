"""The pairs of each center and of each neighbor, and when kernels are used."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from molpool_calc.interfaces import Edges
from molpool_calc.kernels.filters import DistanceFilter

FEWEST_PAIRS = 10_000
"""Those of 192 atoms of water: kernels halve a step of PaiNN that is replayed as a
graph; called one by one they take as long as the network as written, in a fortieth of
its memory."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SortedPairs:
    """Listed pairs in two orders: those of one center, those of one neighbor.

    The pairs of center i are ``by_center[first_of_center[i]:first_of_center[i + 1]]``,
    likewise those of a neighbor. Both orders keep that of the list, so that sums are
    always taken in the same order. Pairs beyond the cutoff come last and are no atom's:
    kernels do not touch them, and leave zero what they have of their own.
    """

    center: Int[Tensor, " pairs"]
    neighbor: Int[Tensor, " pairs"]
    by_center: Int[Tensor, " pairs"]
    first_of_center: Int[Tensor, " atoms_plus_one"]
    by_neighbor: Int[Tensor, " pairs"]
    first_of_neighbor: Int[Tensor, " atoms_plus_one"]


def sorted_pairs(edges: Edges, filters: Sequence[DistanceFilter]) -> SortedPairs | None:
    """Return the pairs in both orders where kernels are used, else ``None``.

    Kernels need listed pairs, many of them, on a GPU, weights of the filters that are
    frozen, and Triton, which comes with torch for CUDA.
    """
    # the device first: a traced number of pairs must not be compared
    if edges.n_dense is not None or not runs_on(edges.distances.device.type):
        return None
    if edges.center.shape[0] < FEWEST_PAIRS or not all(f.frozen for f in filters):
        return None
    return sort_pairs(edges, filters[0].cutoff)


def sort_pairs(edges: Edges, cutoff: float) -> SortedPairs:
    """Return the pairs in both orders."""
    n = edges.n_atoms
    near = edges.distances.detach() < cutoff
    by_center, first_of_center = _order(edges.center, near, n)
    by_neighbor, first_of_neighbor = _order(edges.neighbor, near, n)
    return SortedPairs(
        center=edges.center.int(),
        neighbor=edges.neighbor.int(),
        by_center=by_center,
        first_of_center=first_of_center,
        by_neighbor=by_neighbor,
        first_of_neighbor=first_of_neighbor,
    )


def _order(
    ends: Int[Tensor, " pairs"], near: Bool[Tensor, " pairs"], n_atoms: int
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " atoms_plus_one"]]:
    """Return the order of the atoms that ``ends`` are, and where each atom begins."""
    atoms = torch.arange(n_atoms + 1, dtype=torch.int32, device=ends.device)
    keys, order = torch.where(near, ends.int(), n_atoms).sort(stable=True)
    return order.int(), torch.searchsorted(keys, atoms, out_int32=True)


@cache
def runs_on(device: str) -> bool:
    """Return whether kernels run on this type of device."""
    return device == "cuda" and find_spec("triton") is not None
