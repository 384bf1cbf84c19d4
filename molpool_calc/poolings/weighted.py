"""Weighted averages over atoms: softmax pooling and learned weights.

Weighted average and orbital-weighted average after Chen et al. (OE62 frontier
orbitals), as in the published code of Buterez et al., Commun. Chem. 2023:

==================  =====================================================
ε_i                 ``value`` of each atom, a pyramid F → F/2 → … → n_out
s_i                 ``score`` of each atom, a pyramid F → F/2 → … → 1
w_i                 e^{s_i} / Σ_j e^{s_j} over the atoms of the system
y                   Σ_i w_i ε_i
==================  =====================================================

Unlike there, the largest score of a system is subtracted before the exponential.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Segments
from molpool_calc.poolings.layers import (
    KINKED,
    Pyramid,
    require_counts,
    require_same_width,
)
from molpool_calc.poolings.ordered import segment_max
from molpool_calc.poolings.padded import is_filled, sum_atoms, to_padded
from molpool_calc.segments import segment_sum


def segment_softmax(
    scores: Float[Tensor, "atoms n"], segments: Segments
) -> Float[Tensor, "atoms n"]:
    """Return e^{s_i} / Σ_j e^{s_j} over the atoms of each system, for each column."""
    if is_filled(segments):
        rows = to_padded(scores, segments, segments.max_size)
        return torch.softmax(rows, 1).reshape(scores.shape)
    largest = segment_max(scores, segments).index_select(0, segments.index)
    powers = torch.exp(scores - largest)
    total = segment_sum(powers, segments.index, segments.n_segments)
    return powers / total.index_select(0, segments.index)


class SoftmaxPooling(nn.Module):
    """y = Σ_i x_i e^{x_i} / Σ_i e^{x_i}, for each feature.

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
        require_same_width(n_in, n_out, "softmax")

    def forward(
        self, features: Float[Tensor, "atoms n"], segments: Segments
    ) -> Float[Tensor, "systems n"]:
        """Return the average of each system, weighted by e^x."""
        return sum_atoms(segment_softmax(features, segments) * features, segments)


class WeightedAveragePooling(nn.Module):
    """y = Σ_i w_i ε_i, with learned weights w_i that sum to 1 over each system.

    Args:
        n_in: width of the features.
        n_out: width of the pooled rows.
        n_layers: of each of the two pyramids.
        activation: between their layers; ``"relu"`` makes the pooling not smooth.

    Raises:
        ValueError: a width or ``n_layers`` is not positive, or an unknown activation.
    """

    extensive = False
    learned = True
    supervised = False
    """Whether the weights have reference values: fractions of a frontier orbital."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_layers: int = 4,
        activation: str = "shifted-softplus",
    ) -> None:
        super().__init__()
        require_counts(n_in=n_in, n_out=n_out, n_layers=n_layers)
        self.value = Pyramid(n_in, n_out, n_layers, activation)
        self.score = Pyramid(n_in, 1, n_layers, activation)
        self.smooth = activation not in KINKED

    def forward(
        self, features: Float[Tensor, "atoms n_in"], segments: Segments
    ) -> Float[Tensor, "systems n_out"]:
        """Return the weighted average of the values of each system."""
        weights = segment_softmax(self.score(features), segments)
        return sum_atoms(weights * self.value(features), segments)

    def weights(
        self, features: Float[Tensor, "atoms n_in"], segments: Segments
    ) -> Float[Tensor, " atoms"]:
        """Return w_i, which sums to 1 over the atoms of each system."""
        return segment_softmax(self.score(features), segments)[:, 0]


class OrbitalWeightedAveragePooling(WeightedAveragePooling):
    """The same function, its weights trained on fractions of a frontier orbital.

    The published loss is 0.1·MSE(y) + MSE(w_i, c_i), c_i the fraction on atom i.
    """

    supervised = True
