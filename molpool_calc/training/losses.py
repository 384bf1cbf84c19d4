"""The training loss and the errors that are reported."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import AtomsBatch, Prediction
from molpool_calc.segments import segment_count
from molpool_calc.training.frames import LABELS, Labels
from molpool_calc.training.named_arrays import WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is minimised.

    Attributes:
        weights: of each property; ``homo_weights`` stands for the weights that the
            pooling of ``homo`` gives the atoms.
        scales: by which the errors of scalar properties are divided.
        absolute: take |error| of scalar properties in place of its square.
        partly_labelled: properties that count in the frames that have them only.
    """

    weights: Mapping[str, float]
    scales: Mapping[str, float] = field(default_factory=dict)
    absolute: bool = False
    partly_labelled: frozenset[str] = frozenset()


def loss(
    prediction: Prediction, labels: Labels, batch: AtomsBatch, objective: Objective
) -> Float[Tensor, ""]:
    """Return Σ_p w_p·mean((predicted − reference)²), per component.

    The squared error of the energy is divided by the number of atoms, so that its
    weight means the same for molecules of any size. Units: eV², (eV/Å)², (e·Å)²,
    (e²Å²/eV)². A scalar property counts in units of its scale, with its absolute
    error where the objective says so.
    """
    total = batch.positions.new_zeros(())
    for name, weight in objective.weights.items():
        reference, predicted = label_of(labels, name), value_of(prediction, name)
        if weight == 0 or reference is None or predicted is None:
            continue
        if name in objective.partly_labelled:
            predicted, reference = _where_labelled(predicted, reference)
            if not len(reference):
                continue
        error = predicted - reference
        if name in objective.scales:
            error = error / objective.scales[name]
        plain = objective.absolute and name in objective.scales
        term = error.abs() if plain else error**2
        if name == "energy":
            term = term / segment_count(batch.systems, term)
        total = total + weight * term.mean().to(total.dtype)
    return total


def _where_labelled(
    predicted: Float[Tensor, "systems ..."],
    reference: Float[Tensor, "systems ..."],
) -> tuple[Float[Tensor, "labelled ..."], Float[Tensor, "labelled ..."]]:
    """Return both for the frames that have a label: the rows that are not NaN."""
    labelled = ~reference.isnan().flatten(1).any(1)
    return predicted[labelled], reference[labelled]


def value_of(prediction: Prediction, name: str) -> Tensor | None:
    """Return a predicted property by its name, ``None`` where there is none."""
    if name in LABELS:
        value: Tensor | None = getattr(prediction, name)
        return value
    if name.endswith(WEIGHTS):
        return (prediction.weights or {}).get(name.removesuffix(WEIGHTS))
    return (prediction.others or {}).get(name)


def label_of(labels: Labels, name: str) -> Tensor | None:
    """Return the reference values of a property, ``None`` where there are none."""
    if name in LABELS:
        value: Tensor | None = getattr(labels, name)
        return value
    if name.endswith(WEIGHTS):
        return labels.weights.get(name.removesuffix(WEIGHTS))
    return labels.scalars.get(name)


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
        weights = [name + WEIGHTS for name in labels.weights]
        for name in (*LABELS, *labels.scalars, *weights):
            reference, predicted = label_of(labels, name), value_of(prediction, name)
            if reference is not None and predicted is not None:
                difference = (predicted - reference).detach().double().flatten()
                # a reference that is NaN stands for a frame without this label
                difference = difference[~reference.isnan().flatten()]
                self._parts.setdefault(name, []).append(difference.cpu())

    def result(self) -> dict[str, Errors]:
        """Return the errors by property, per component, in internal units."""
        errors = {}
        for name, parts in self._parts.items():
            difference = torch.cat(parts)
            if not len(difference):  # no frame of this part has the label
                continue
            errors[name] = Errors(
                mae=float(difference.abs().mean()),
                rmse=float(difference.square().mean().sqrt()),
                max=float(difference.abs().max()),
            )
        return errors
