"""Pairs of a large system block by block, on the CPU.

Some hundred pairs at a time, the products of pairs × features stay in the cache of the
processor and in the same few buffers, however large the system. A block is all pairs of
a few atoms, so that sums over neighbors are sums of consecutive rows.

The gradient goes through the same blocks. It uses that the list has both directions:
the pairs with *neighbor* i are those with center i seen from their other end, with the
same distance and the opposite unit vector. What a pair's other direction gets as
gradient is booked on the pair, which depends on positions and cell in the same way.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molpool_calc.interfaces import Edges

FEWEST_PAIRS = 4_000
"""Pairs below which all of them together fit into the cache."""
PAIRS_OF_BLOCK = 512
"""A block of 3·128 features in float32 then takes 0.8 MB."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Block:
    """Some atoms and all pairs of which they are the center.

    ``offsets``: the first pair of each of the atoms, counted within the block, and the
    number of pairs.
    """

    atoms: slice
    pairs: slice
    offsets: Int[Tensor, " atoms_plus_one"]

    @property
    def n_pairs(self) -> int:
        """The number of pairs."""
        return int(self.pairs.stop - self.pairs.start)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Blocks:
    """Listed pairs sorted by center, and the blocks they are cut into."""

    center: Int[Tensor, " pairs"]
    neighbor: Int[Tensor, " pairs"]
    blocks: list[Block]

    @property
    def n_rows(self) -> int:
        """The most pairs of a block."""
        return max(block.n_pairs for block in self.blocks)


def blocks_of_pairs(edges: Edges, *, frozen: bool) -> Blocks | None:
    """Return the pairs in blocks where that is faster, else ``None``.

    Blocks need many listed pairs on a CPU, sorted by center, and weights that are
    frozen, as the gradient is not taken with respect to them.
    """
    n_pairs = edges.center.shape[0]
    # a number of pairs that is traced is no int, and must not be compared
    if edges.n_dense is not None or not isinstance(n_pairs, int):
        return None
    if n_pairs < FEWEST_PAIRS or not frozen or edges.center.device.type != "cpu":
        return None
    if bool((edges.center[1:] < edges.center[:-1]).any()):
        return None
    return cut(edges, PAIRS_OF_BLOCK)


def cut(edges: Edges, n_pairs: int) -> Blocks:
    """Return runs of atoms with at most ``n_pairs`` pairs each, but one atom at least.

    The pairs of ``edges`` are sorted by center.
    """
    first = torch.searchsorted(edges.center, torch.arange(edges.n_atoms + 1))
    ends, blocks, start = first.tolist(), [], 0
    while start < edges.n_atoms:
        stop = start + 1
        while stop < edges.n_atoms and ends[stop + 1] - ends[start] <= n_pairs:
            stop += 1
        block = Block(
            atoms=slice(start, stop),
            pairs=slice(ends[start], ends[stop]),
            offsets=first[start : stop + 1] - ends[start],
        )
        blocks.append(block)
        start = stop
    return Blocks(center=edges.center, neighbor=edges.neighbor, blocks=blocks)


class Scratch:
    """Memory for the rows of one block, used again by every block.

    Args:
        blocks: the largest of them decides how many rows.
        n_features: F.
        like: of the dtype.
    """

    def __init__(self, blocks: Blocks, n_features: int, like: Tensor) -> None:
        self._rows = torch.arange(blocks.n_rows)
        self._shape = (blocks.n_rows, 4, n_features)
        self._like = like

    def rows(self, n: int) -> Float[Tensor, "rows n features"]:
        """Return new memory for ``n`` (up to four) times F features of each pair."""
        return self._like.new_empty((self._shape[0], n, self._shape[2]))

    def sum_rows(
        self, values: Float[Tensor, "pairs ..."], block: Block
    ) -> Float[Tensor, "atoms ..."]:
        """Return the sum of the rows of each atom of a block."""
        sums = torch.embedding_bag(
            values.flatten(1),
            self._rows[: block.n_pairs],
            block.offsets,
            include_last_offset=True,
        )
        return sums[0].view(-1, *values.shape[1:])
