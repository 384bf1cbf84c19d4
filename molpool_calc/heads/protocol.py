"""What every head is."""

from typing import Protocol, runtime_checkable

from molpool_calc.interfaces import AtomFeatures, AtomsBatch, Prediction


@runtime_checkable
class Head(Protocol):
    """Features in, prediction fields out."""

    properties: frozenset[str]
    needs_vectors: bool

    def __call__(
        self, features: AtomFeatures, batch: AtomsBatch, prediction: Prediction
    ) -> Prediction:
        """Return ``prediction`` with this head's fields filled."""
        ...
