"""Sum and mean over the atoms of each system."""

from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Segments
from molpool_calc.segments import segment_count, segment_sum


class SumPooling(nn.Module):
    """y = Σ_i x_i: the pooled values of two systems far apart add up."""

    extensive = True
    smooth = True

    def forward(
        self, features: Float[Tensor, "atoms n"], segments: Segments
    ) -> Float[Tensor, "systems n"]:
        """Return the sum over each system."""
        return segment_sum(features, segments.index, segments.n_segments)


class MeanPooling(nn.Module):
    """y = (1/N) Σ_i x_i; zero for a system without atoms."""

    extensive = False
    smooth = True

    def forward(
        self, features: Float[Tensor, "atoms n"], segments: Segments
    ) -> Float[Tensor, "systems n"]:
        """Return the mean over each system."""
        total = segment_sum(features, segments.index, segments.n_segments)
        return total / segment_count(segments, features).clamp(min=1.0)[:, None]
