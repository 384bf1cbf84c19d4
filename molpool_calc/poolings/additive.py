"""Sum and mean over the atoms of each system."""

from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Segments
from molpool_calc.poolings.layers import require_same_width
from molpool_calc.poolings.padded import is_filled, sum_atoms, to_padded
from molpool_calc.segments import segment_count, segment_sum


class SumPooling(nn.Module):
    """y = Σ_i x_i: the pooled values of two systems far apart add up.

    Args:
        n_in: width of the features.
        n_out: the same.

    Raises:
        ValueError: the widths differ.
    """

    extensive = True
    smooth = True
    learned = False

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        require_same_width(n_in, n_out, "sum")

    def forward(
        self, features: Float[Tensor, "atoms n"], segments: Segments
    ) -> Float[Tensor, "systems n"]:
        """Return the sum over each system."""
        return sum_atoms(features, segments)


class MeanPooling(nn.Module):
    """y = (1/N) Σ_i x_i; zero for a system without atoms.

    Args:
        n_in: width of the features.
        n_out: the same.

    Raises:
        ValueError: the widths differ.
    """

    extensive = False
    smooth = True
    learned = False

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        require_same_width(n_in, n_out, "mean")

    def forward(
        self, features: Float[Tensor, "atoms n"], segments: Segments
    ) -> Float[Tensor, "systems n"]:
        """Return the mean over each system."""
        if is_filled(segments) and segments.max_size > 0:
            return to_padded(features, segments, segments.max_size).mean(1)
        total = segment_sum(features, segments.index, segments.n_segments)
        return total / segment_count(segments, features).clamp(min=1.0)[:, None]
