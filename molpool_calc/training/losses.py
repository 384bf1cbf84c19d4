"""The training loss and the errors that are reported."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import AtomsBatch, Prediction
from molpool_calc.segments import segment_count
from molpool_calc.training.frames import LABELS, Labels


def loss(
    prediction: Prediction,
    labels: Labels,
    batch: AtomsBatch,
    weights: Mapping[str, float],
) -> Float[Tensor, ""]:
    """Return Σ_p w_p·mean((predicted − reference)²), per component.

    The squared error of the energy is divided by the number of atoms, so that its
    weight means the same for molecules of any size. Units: eV², (eV/Å)², (e·Å)²,
    (e²Å²/eV)².
    """
    total = batch.positions.new_zeros(())
    for name, weight in weights.items():
        reference, predicted = getattr(labels, name), getattr(prediction, name)
        if weight == 0 or reference is None:
            continue
        squared = (predicted - reference) ** 2
        if name == "energy":
            squared = squared / segment_count(batch.systems, squared)
        total = total + weight * squared.mean().to(total.dtype)
    return total


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Errors of one property: mean absolute, root mean square, largest."""

    mae: float
    rmse: float
    max: float


class ErrorSum:
    """Collects the errors of every property over batches."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, prediction: Prediction, labels: Labels) -> None:
        """Add the differences of one batch."""
        for name in LABELS:
            reference, predicted = getattr(labels, name), getattr(prediction, name)
            if reference is not None and predicted is not None:
                difference = (predicted - reference).detach().double().flatten()
                self._parts.setdefault(name, []).append(difference.cpu())

    def result(self) -> dict[str, Errors]:
        """Return the errors by property, per component, in internal units."""
        errors = {}
        for name, parts in self._parts.items():
            difference = torch.cat(parts)
            errors[name] = Errors(
                mae=float(difference.abs().mean()),
                rmse=float(difference.square().mean().sqrt()),
                max=float(difference.abs().max()),
            )
        return errors
