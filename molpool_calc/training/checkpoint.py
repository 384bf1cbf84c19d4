"""Checkpoints of a training: everything the next epoch depends on."""

import math
import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from pickle import PickleError
from typing import Any

import torch
from torch import Tensor

from molpool_calc.potential import NeuralPotential
from molpool_calc.training.recipe import Recipe, recipe_digest

FILE_NAME = "checkpoint.pt"


@dataclass(kw_only=True)
class Progress:
    """Where a training stands; the only mutable record of the package.

    Attributes:
        generator: of the order of the frames.
        average: exponential moving average of the weights.
        best: averaged weights of the best validation.
        best_loss: their validation loss.
        best_epoch: their epoch.
        rate_factor: by which the plateau schedule has lowered the learning rate.
        stale: validations without progress.
        history: rows of the learning curve.
        seconds: wall-clock time spent so far.
        engine: that gives the gradients, empty before it is chosen; a training keeps
            it to its end.
    """

    generator: torch.Generator
    average: dict[str, Tensor]
    best: dict[str, Tensor]
    best_loss: float = math.inf
    best_epoch: int = 0
    epoch: int = 0
    step: int = 0
    rate_factor: float = 1.0
    stale: int = 0
    seconds: float = 0.0
    engine: str = "eager"
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, potential: NeuralPotential, seed: int) -> "Progress":
        """Return the state before the first step."""
        return cls(
            generator=torch.Generator().manual_seed(seed),
            average=_copy(dict(potential.named_parameters())),
            best=_copy(dict(potential.named_parameters())),
            engine="",
        )

    def take_average(self, potential: NeuralPotential, decay: float) -> None:
        """Move the average towards the weights after a step, by 1 − decay."""
        # a short memory at first, else the random start would linger in the average
        effective = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.values()),
                list(potential.parameters()),
                1.0 - effective,
            )

    def keep_best(self, valid_loss: float) -> None:
        """Note the averaged weights as the best so far."""
        self.best, self.best_loss = _copy(self.average), valid_loss
        self.best_epoch, self.stale = self.epoch, 0


SCALARS = (
    *("best_loss", "best_epoch", "epoch", "step"),
    *("rate_factor", "stale", "seconds", "engine"),
)


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def write_checkpoint(
    folder: Path,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    potential: NeuralPotential,
    progress: Progress,
) -> None:
    """Write the state; a kill at any moment leaves the last complete one."""
    temporary = folder / (FILE_NAME + ".tmp")
    content = {
        "recipe": recipe_digest(recipe),
        "weights": dict(potential.named_parameters()),
        "optimizer": optimizer.state_dict(),
        "generator": progress.generator.get_state(),
        "average": progress.average,
        "best": progress.best,
        "history": progress.history,
        "scalars": {name: getattr(progress, name) for name in SCALARS},
    }
    with temporary.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / FILE_NAME)


def read_checkpoint(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Return the content of the checkpoint, for ``restore``.

    Raises:
        ValueError: there is no checkpoint, it is damaged, or it belongs to another
            recipe.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise ValueError(f"{folder} holds no {FILE_NAME} to resume; leave out --resume")
    content = _load(path)
    if content["recipe"] != recipe_digest(recipe):
        raise ValueError(
            f"{path} belongs to another recipe; resume with the recipe it was started "
            "with, or train into another folder"
        )
    return content


def restore(
    content: dict[str, Any],
    potential: NeuralPotential,
    optimizer: torch.optim.Optimizer,
) -> Progress:
    """Load weights and optimiser in place and return the progress."""
    potential.load_state_dict(content["weights"], strict=False)
    optimizer.load_state_dict(content["optimizer"])
    generator = torch.Generator()
    generator.set_state(content["generator"])
    device = potential.device

    def placed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: weight.to(device) for name, weight in weights.items()}

    return Progress(
        generator=generator,
        average=placed(content["average"]),
        best=placed(content["best"]),
        history=content["history"],
        **content["scalars"],
    )


def with_weights(
    potential: NeuralPotential, weights: Mapping[str, Tensor]
) -> NeuralPotential:
    """Return a frozen copy of a potential with other weights."""
    # a copy: building another would draw random numbers from the global generator
    copy = deepcopy(potential)
    copy.load_state_dict({**copy.state_dict(), **weights})
    return copy.requires_grad_(requires_grad=False).eval()


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, LookupError, PickleError) as error:
        raise ValueError(
            f"{path} is damaged and cannot be resumed ({type(error).__name__}); train "
            "into another folder"
        ) from error
    if not isinstance(content, dict) or "recipe" not in content:
        raise ValueError(f"{path} is no checkpoint of a training; leave out --resume")
    return content
