"""Poolings turn atoms into molecules: ``(features, segments) -> pooled``.

A pooling sees no positions and no elements. It declares ``extensive`` and ``smooth``.
"""

from typing import Any

from molpool_calc.poolings.additive import MeanPooling, SumPooling
from molpool_calc.poolings.attention import AttentionPooling
from molpool_calc.poolings.ordered import LogSumExpPooling
from molpool_calc.poolings.weighted import (
    OrbitalWeightedAveragePooling,
    SoftmaxPooling,
    WeightedAveragePooling,
)

POOLINGS: dict[str, type[Any]] = {
    "sum": SumPooling,
    "mean": MeanPooling,
    "log-sum-exp": LogSumExpPooling,
    "softmax": SoftmaxPooling,
    "weighted-average": WeightedAveragePooling,
    "orbital-weighted-average": OrbitalWeightedAveragePooling,
    "attention": AttentionPooling,
}
"""The closed table of poolings: ``pooling`` in a potential or a recipe → class.

Each is constructed with ``n_in`` and ``n_out``, then its own options.
"""

__all__ = [
    "POOLINGS",
    "AttentionPooling",
    "LogSumExpPooling",
    "MeanPooling",
    "OrbitalWeightedAveragePooling",
    "SoftmaxPooling",
    "SumPooling",
    "WeightedAveragePooling",
]
