"""The training loss and the errors that are reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
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
    prediction: Prediction,
    labels: Labels,
    batch: AtomsBatch,
    objective: Objective,
    shares: Float[Tensor, " properties"] | None = None,
) -> Float[Tensor, ""]:
    """Return Σ_p w_p·mean((predicted − reference)²), per component.

    The squared error of the energy is divided by the number of atoms, so that its
    weight means the same for molecules of any size. Units: eV², (eV/Å)², (e·Å)²,
    (e²Å²/eV)². A scalar property counts in units of its scale, with its absolute
    error where the objective says so.

    Args:
        prediction: of the batch.
        labels: reference values.
        batch: the atoms.
        objective: weights w_p and the like.
        shares: factor of each property of the objective, in its order: the part of
            the labels that this batch has where several processes share one; then
            the sum of their losses is that of the whole.
    """
    total = batch.positions.new_zeros(())
    for place, (name, weight) in enumerate(objective.weights.items()):
        reference, predicted = label_of(labels, name), value_of(prediction, name)
        if weight == 0 or reference is None or predicted is None:
            continue
        labelled = None
        if name in objective.partly_labelled:
            labelled = is_labelled(reference)
            reference = torch.where(reference.isnan(), 0.0, reference)
        error = predicted - reference
        if name in objective.scales:
            error = error / objective.scales[name]
        plain = objective.absolute and name in objective.scales
        term = error.abs() if plain else error**2
        if name == "energy":
            term = term / segment_count(batch.systems, term)
        mean = term.mean() if labelled is None else _mean_where(term, labelled)
        weighted = weight * mean.to(total.dtype)
        total = total + (weighted if shares is None else shares[place] * weighted)
    return total


def is_labelled(reference: Float[Tensor, "systems ..."]) -> Bool[Tensor, " systems"]:
    """Return which frames have a label: those whose rows are not NaN."""
    return ~reference.isnan().reshape(reference.shape[0], -1).any(1)


def _mean_where(
    term: Float[Tensor, "systems ..."], labelled: Bool[Tensor, " systems"]
) -> Float[Tensor, ""]:
    """Return the mean over the labelled frames, 0 if there are none.

    No number of frames is read back from the device, and no shape depends on it.
    """
    rows = term.reshape(term.shape[0], -1).mean(1)
    return torch.where(labelled, rows, 0.0).sum() / labelled.sum().clamp(min=1)


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

    def join(self, others: Sequence["ErrorSum"]) -> None:
        """Take the differences of all others in place of these."""
        joined: dict[str, list[Tensor]] = {}
        for other in others:
            for name, parts in other._parts.items():
                joined.setdefault(name, []).extend(parts)
        self._parts = joined

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
