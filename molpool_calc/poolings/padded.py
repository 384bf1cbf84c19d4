"""Atoms of each system in rows: ``[atoms, …]`` to ``[systems, slots, …]`` and back.

Systems of one size are a view, which is what makes a single molecule (and replicas of
one) fast; they stand one after another, as in every ``AtomsBatch``. Otherwise the rows
that no atom fills are zero, and a mask says which they are.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import Segments
from molpool_calc.segments import segment_sum


def is_filled(segments: Segments) -> bool:
    """Whether all systems have the same size, so that no slot stays empty."""
    return segments.n_segments * segments.max_size == segments.index.shape[0]


def to_padded(
    features: Float[Tensor, "atoms f"], segments: Segments, n_slots: int
) -> Float[Tensor, "systems slots f"]:
    """Return the atoms of each system in ``n_slots`` rows, zero where there is none."""
    n, width = segments.n_segments, features.shape[1]
    if is_filled(segments):
        rows = features.reshape(n, segments.max_size, width)
        missing = n_slots - segments.max_size
        return add_rows(rows, missing) if missing else rows
    empty = features.new_zeros(n * n_slots, width)
    return empty.index_copy(0, _places(segments, n_slots), features).view(
        n, n_slots, width
    )


def sum_atoms(
    values: Float[Tensor, "atoms n"], segments: Segments
) -> Float[Tensor, "systems n"]:
    """Return the sum over the atoms of each system."""
    if is_filled(segments):
        return to_padded(values, segments, segments.max_size).sum(1)
    return segment_sum(values, segments.index, segments.n_segments)


def add_rows(
    rows: Float[Tensor, "systems slots f"], missing: int
) -> Float[Tensor, "systems more_slots f"]:
    """Return the rows with ``missing`` zero rows after those of each system."""
    return torch.nn.functional.pad(rows, (0, 0, 0, missing))


def from_padded(
    rows: Float[Tensor, "systems slots"], segments: Segments
) -> Float[Tensor, " atoms"]:
    """Return the values of the slots that atoms fill, in the order of the atoms."""
    if is_filled(segments):
        return rows[:, : segments.max_size].reshape(-1)
    return rows.reshape(-1).index_select(0, _places(segments, rows.shape[1]))


def empty_slots(
    segments: Segments, like: Tensor
) -> Float[Tensor, "systems 1 slots"] | None:
    """Return what to add to scores so that empty slots get no weight, if there are any.

    Finite, so that not even a system without atoms gives NaN.
    """
    if is_filled(segments):
        return None
    n, n_slots = segments.n_segments, segments.max_size
    lowest = 0.5 * torch.finfo(like.dtype).min
    scores = like.new_full((n * n_slots,), lowest)
    return scores.index_fill(0, _places(segments, n_slots), 0.0).view(n, 1, n_slots)


def _places(segments: Segments, n_slots: int) -> Tensor:
    return segments.index * n_slots + segments.slot
