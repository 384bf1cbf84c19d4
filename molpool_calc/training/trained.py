"""What a training gives, or why it gave nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from molpool_calc.potential import NeuralPotential
from molpool_calc.training.dataset import Dataset
from molpool_calc.training.losses import Errors


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number; the checkpoint of the last epoch stands."""


def demand_finite(value: float, norm: float, epoch: int) -> None:
    """Check loss and norm of the gradient before the weights are changed.

    Raises:
        TrainingDiverged: one of them is infinite or NaN.
    """
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise TrainingDiverged(
            f"the loss became {value:g} and its gradient {norm:g} in epoch {epoch}; "
            "lower training.learning_rate or training.gradient_clip and start again, "
            "or look for wrong labels"
        )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training gives.

    Attributes:
        potential: with the weights of the best validation.
        epochs: done.
        best_epoch: of the weights.
        errors: on the test part.
        seconds: of wall-clock time, resumed parts included.
        engine: that gave the gradients, ``compiled`` or ``eager``.
        history: the learning curve.
        examples: a few frames of the test part (of the validation part, where there
            is no test part).
    """

    potential: NeuralPotential
    epochs: int
    best_epoch: int
    errors: Mapping[str, Errors]
    seconds: float
    engine: str
    history: Sequence[Mapping[str, float]]
    examples: Dataset
