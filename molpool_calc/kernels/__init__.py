"""Messages between atoms in one pass over the pairs, for large systems on a GPU.

The networks compute messages as products of pairs × features, which reach memory a
dozen times. Here one program per atom goes through its pairs, evaluates the filter,
gathers the neighbor, multiplies and sums in registers, so that beside the features of
atoms only a few numbers of each pair are stored. The gradient is a second such pass
over the pairs, sorted by neighbor. No two programs add to
the same number: messages are the same bits in every run.

On the CPU, ``blocks`` do the same for PaiNN, some hundred pairs at a time.

``filters``: a filter of the distance in polynomial pieces. ``pairs``: the pairs by
center and by neighbor, and when kernels are used at all. ``messages``, ``attention``:
what networks call, differentiable. ``triton_*``, ``attention_ops``: the kernels, which
are imported when first used.
"""

from molpool_calc.kernels.attention import InvariantFilter, PairSums
from molpool_calc.kernels.blocks import blocks_of_pairs
from molpool_calc.kernels.blocks_painn import painn_in_blocks
from molpool_calc.kernels.filters import DistanceFilter
from molpool_calc.kernels.messages import painn_messages, schnet_messages
from molpool_calc.kernels.pairs import SortedPairs, sorted_pairs

__all__ = [
    "DistanceFilter",
    "InvariantFilter",
    "PairSums",
    "SortedPairs",
    "blocks_of_pairs",
    "painn_in_blocks",
    "painn_messages",
    "schnet_messages",
    "sorted_pairs",
]
