"""The training loop: from a recipe to the best weights, resumable at any epoch."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from molpool_calc.derivatives import evaluate
from molpool_calc.potential import NeuralPotential
from molpool_calc.training.checkpoint import Progress, read_checkpoint, write_checkpoint
from molpool_calc.training.curve import write_curve
from molpool_calc.training.dataset import Dataset
from molpool_calc.training.frames import Frames
from molpool_calc.training.labelled import read_labelled
from molpool_calc.training.losses import Errors, ErrorSum, loss
from molpool_calc.training.recipe import Recipe
from molpool_calc.training.schedule import learning_rate
from molpool_calc.training.specification import build_spec
from molpool_calc.training.splits import split_frames
from molpool_calc.training.start import start_from
from molpool_calc.training.targets import (
    error_unit,
    labelled_properties,
    objective_of,
)

CURVE_FILE = "learning_curve.csv"
VALIDATION_BATCH = 64
N_EXAMPLES = 5

Report = Callable[[int, Mapping[str, float]], None]


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number; the checkpoint of the last epoch stands."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training gives.

    Attributes:
        potential: with the weights of the best validation.
        epochs: done.
        best_epoch: of the weights.
        errors: on the test part.
        seconds: of wall-clock time, resumed parts included.
        history: the learning curve.
        examples: a few frames of the test part (of the validation part, where there
            is no test part).
    """

    potential: NeuralPotential
    epochs: int
    best_epoch: int
    errors: Mapping[str, Errors]
    seconds: float
    history: Sequence[Mapping[str, float]]
    examples: Dataset


class Trainer:
    """Minimises the loss of ``losses.loss`` with AdamW on the force-matching graph.

    Weights are averaged exponentially; the average is what is validated and kept.
    Every epoch ends with a checkpoint from which ``resume`` continues bit for bit
    (same machine, same number of threads).

    Args:
        recipe: what to train.
        folder: where checkpoint and learning curve are written; must exist.

    Raises:
        ValueError: recipe and data do not go together.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        options = recipe.training
        self.dtype: torch.dtype = getattr(torch, options.dtype)
        dataset = read_labelled(
            recipe.data_path,
            units=recipe.data.units,
            keys=recipe.data.keys,
            format=recipe.data.format,
            check_units=recipe.data.check_units,
            partly_labelled=recipe.data.partly_labelled,
        )
        self.parts = split_frames(recipe.data.split, dataset)
        self.spec = build_spec(recipe, dataset, self.parts)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(options.seed)
            self.potential = NeuralPotential(self.spec).to(self.dtype)
        if options.start_from is not None:
            start_from(self.potential, options.start_from, recipe.folder)
        self.labelled = labelled_properties(self.potential, dataset)
        self.objective = objective_of(recipe, self.spec, self.labelled)
        device = torch.device("cpu")
        self.frames = Frames(dataset, self.potential.cutoff, self.dtype, device)
        self.optimizer = torch.optim.AdamW(
            self.potential.parameters(),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
        )
        self.progress = Progress.start(self.potential, options.seed)

    def resume(self) -> None:
        """Take everything up from the last checkpoint.

        Raises:
            ValueError: no checkpoint, a damaged one, or one of another recipe.
        """
        self.progress = read_checkpoint(
            self.folder, self.recipe, self.potential, self.optimizer
        )

    def run(self, report: Report = lambda _epoch, _row: None) -> Trained:
        """Train to the end of the schedule and test.

        Args:
            report: called after every epoch with its number and the last row of the
                learning curve, empty before the first validation.

        Raises:
            TrainingDiverged: the loss became infinite or NaN.
        """
        threads = torch.get_num_threads()
        if self.recipe.training.threads is not None:
            torch.set_num_threads(self.recipe.training.threads)
        try:
            if self.progress.epoch == 0:
                self._write_checkpoint()
            while not self._finished():
                self._epoch()
                history = self.progress.history
                report(self.progress.epoch, history[-1] if history else {})
            return self.result()
        finally:
            torch.set_num_threads(threads)

    def _finished(self) -> bool:
        state, options = self.progress, self.recipe.training
        patience, minutes = options.early_stopping_epochs, options.max_minutes
        # counted in validated epochs: the others cannot be progress
        validated = int(state.history[-1]["epoch"]) if state.history else 0
        return (
            state.epoch >= options.epochs
            or (patience is not None and validated - state.best_epoch > patience)
            or (minutes is not None and state.seconds > 60 * minutes)
        )

    def _epoch(self) -> None:
        start, options, state = time.monotonic(), self.recipe.training, self.progress
        order = torch.randperm(len(self.parts.train), generator=state.generator)
        shuffled = self.parts.train[order.numpy()]
        losses = [
            self._step(shuffled[first : first + options.batch_size])
            for first in range(0, len(shuffled), options.batch_size)
        ]
        state.epoch += 1
        if state.epoch % options.validate_every == 0 or state.epoch == options.epochs:
            self._validate(sum(losses) / len(losses))
        state.seconds += time.monotonic() - start
        self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        write_checkpoint(
            self.folder, self.recipe, self.optimizer, self.potential, self.progress
        )

    def _step(self, indices: Int[np.ndarray, " n"]) -> float:
        state, options = self.progress, self.recipe.training
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        batch, pairs, labels = self.frames.batch(indices)
        prediction = evaluate(
            self.potential,
            batch,
            pairs,
            properties=frozenset(self.objective.weights),
            create_graph=True,
        )
        value = loss(prediction, labels, batch, self.objective)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(
            self.potential.parameters(), options.gradient_clip or math.inf
        )
        self._demand_finite(float(value.detach()), float(norm))
        self.optimizer.step()
        state.step += 1
        self._average_weights()
        return float(value.detach())

    def _demand_finite(self, value: float, norm: float) -> None:
        if math.isfinite(value) and math.isfinite(norm):
            return
        raise TrainingDiverged(
            f"the loss became {value:g} and its gradient {norm:g} in epoch "
            f"{self.progress.epoch + 1}; lower training.learning_rate or "
            "training.gradient_clip and start again, or look for wrong labels"
        )

    def _average_weights(self) -> None:
        decay, step = self.recipe.training.ema_decay, self.progress.step
        # a short memory at first, else the random start would linger in the average
        effective = min(decay, (1 + step) / (10 + step))
        with torch.no_grad():
            averages = list(self.progress.average.values())
            torch._foreach_lerp_(
                averages, list(self.potential.parameters()), 1.0 - effective
            )

    def _learning_rate(self) -> float:
        options, state = self.recipe.training, self.progress
        per_epoch = math.ceil(len(self.parts.train) / options.batch_size)
        return learning_rate(
            options,
            state.step,
            last_step=per_epoch * options.epochs,
            rate_factor=state.rate_factor,
        )

    def _validate(self, train_loss: float) -> None:
        state, options = self.progress, self.recipe.training
        average = self._with_weights(state.average)
        errors, valid_loss = self._errors(average, self.parts.valid)
        row: dict[str, float] = {
            "epoch": float(state.epoch),
            "learning_rate": self._learning_rate(),
            "train_loss": train_loss,
            "valid_loss": valid_loss,
        }
        row |= {f"{name}_mae": value.mae for name, value in errors.items()}
        state.history.append(row)
        if valid_loss < state.best_loss:
            state.keep_best(valid_loss)
        else:
            state.stale += 1
        if state.stale > options.plateau_patience:
            state.stale = 0
            state.rate_factor *= options.plateau_factor
        write_curve(self.folder / CURVE_FILE, state.history)

    def _with_weights(self, weights: Mapping[str, torch.Tensor]) -> NeuralPotential:
        # a copy: building another would draw random numbers from the global generator
        copy = deepcopy(self.potential)
        copy.load_state_dict({**copy.state_dict(), **weights})
        return copy.requires_grad_(requires_grad=False).eval()

    def _errors(
        self, potential: NeuralPotential, indices: Int[np.ndarray, " n"]
    ) -> tuple[dict[str, Errors], float]:
        """Return the errors of all labelled properties, and the loss."""
        errors, total = ErrorSum(), 0.0
        for first in range(0, len(indices), VALIDATION_BATCH):
            part = indices[first : first + VALIDATION_BATCH]
            batch, pairs, labels = self.frames.batch(part)
            prediction = evaluate(potential, batch, pairs, properties=self.labelled)
            errors.add(prediction, labels)
            total += len(part) * float(loss(prediction, labels, batch, self.objective))
        return errors.result(), total / max(1, len(indices))

    def result(self) -> Trained:
        """Return the best potential so far and its errors on the test part."""
        state = self.progress
        # stopped before the first validation: nothing is better than the average
        best = self._with_weights(state.best if state.history else state.average)
        errors, _ = self._errors(best, self.parts.test)
        best_epoch = state.best_epoch if state.history else state.epoch
        best.spec = replace(
            self.spec,
            errors={
                name: {**asdict(value), "unit": error_unit(self.recipe, name)}
                for name, value in errors.items()
            },
            training_data={
                **self.spec.training_data,
                "epochs": state.epoch,
                "best_epoch": best_epoch,
            },
        )
        test = self.parts.test if len(self.parts.test) else self.parts.valid
        chosen = np.linspace(0, len(test) - 1, min(len(test), N_EXAMPLES))
        return Trained(
            potential=best,
            epochs=state.epoch,
            best_epoch=best_epoch,
            errors=errors,
            seconds=state.seconds,
            history=state.history,
            examples=self.frames.dataset.select(test[chosen.astype(int)]),
        )
