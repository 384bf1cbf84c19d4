"""Poolings led by the largest values: a smooth stand-in for the maximum.

The maximum itself is not offered: its gradient jumps where another atom takes over.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Segments
from molpool_calc.poolings.layers import require_same_width
from molpool_calc.poolings.padded import is_filled, to_padded
from molpool_calc.segments import segment_sum


class LogSumExpPooling(nn.Module):
    """y = (1/β) ln Σ_i e^{βx_i}, for each feature: the maximum for large β.

    It exceeds the maximum by at most (1/β) ln N, and depends on the number of atoms by
    as much: two copies of a system have y + (1/β) ln 2.

    Args:
        n_in: width of the features.
        n_out: the same.
        sharpness: β, in the inverse unit of the features.

    Raises:
        ValueError: the widths differ, or the sharpness is not positive.
    """

    extensive = False
    smooth = True
    learned = False

    def __init__(self, n_in: int, n_out: int, *, sharpness: float = 1.0) -> None:
        super().__init__()
        require_same_width(n_in, n_out, "log-sum-exp")
        if not sharpness > 0:
            raise ValueError(f"sharpness is {sharpness!r}, but must be positive")
        self.sharpness = float(sharpness)

    def forward(
        self, features: Float[Tensor, "atoms n"], segments: Segments
    ) -> Float[Tensor, "systems n"]:
        """Return the smooth maximum over each system."""
        scaled = features * self.sharpness
        if is_filled(segments):
            rows = to_padded(scaled, segments, segments.max_size)
            return torch.logsumexp(rows, 1) / self.sharpness
        largest = segment_max(scaled, segments)
        powers = torch.exp(scaled - largest.index_select(0, segments.index))
        total = segment_sum(powers, segments.index, segments.n_segments)
        return (torch.log(total) + largest) / self.sharpness


def segment_max(
    values: Float[Tensor, "atoms n"], segments: Segments
) -> Float[Tensor, "systems n"]:
    """Return the largest value in each system, as a constant without gradient.

    Meant to be subtracted in an exponential and added again, which changes nothing but
    the size of the numbers, so that leaving out its gradient is exact.
    """
    with torch.no_grad():
        index = segments.index[:, None].expand_as(values)
        start = values.new_full(
            (segments.n_segments, values.shape[1]), torch.finfo(values.dtype).min
        )
        return start.scatter_reduce(0, index, values, "amax")
