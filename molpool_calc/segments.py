"""Sums and means over the atoms of each system."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molpool_calc.interfaces import Segments


def segments_from_sizes(sizes: list[int], device: torch.device) -> Segments:
    """Return the segments of consecutive systems with the given numbers of atoms."""
    counts = torch.tensor(sizes, dtype=torch.int64)
    index = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    start = torch.cumsum(counts, 0) - counts
    slot = torch.arange(int(counts.sum())) - start[index]
    return Segments(
        index=index.to(device),
        slot=slot.to(device),
        n_segments=len(sizes),
        max_size=max(sizes, default=0),
    )


def segment_sum(
    values: Float[Tensor, "items ..."], index: Int[Tensor, " items"], n: int
) -> Float[Tensor, "segments ..."]:
    """Return the sum of ``values`` over the items of each of ``n`` segments."""
    return values.new_zeros((n, *values.shape[1:])).index_add(0, index, values)


def segment_count(segments: Segments, like: Tensor) -> Float[Tensor, " systems"]:
    """Return the number of items of each segment, in dtype and device of ``like``."""
    ones = like.new_ones(segments.index.shape[0])
    return segment_sum(ones, segments.index, segments.n_segments)
