"""Poolings turn atoms into molecules: ``(features, segments) -> pooled``.

A pooling sees no positions and no elements. It declares ``extensive`` and ``smooth``.
"""

from molpool_calc.poolings.additive import MeanPooling, SumPooling

POOLINGS: dict[str, type[SumPooling] | type[MeanPooling]] = {
    "sum": SumPooling,
    "mean": MeanPooling,
}
"""The closed table of poolings: ``pooling`` in a potential or a recipe → class."""

__all__ = ["POOLINGS", "MeanPooling", "SumPooling"]
