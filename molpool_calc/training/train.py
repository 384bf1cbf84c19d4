"""The training loop: from a recipe to the best weights, resumable at any epoch."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from molpool_calc.engine import resolve_device
from molpool_calc.potential import NeuralPotential
from molpool_calc.training.checkpoint import (
    Progress,
    read_checkpoint,
    restore,
    with_weights,
    write_checkpoint,
)
from molpool_calc.training.choice import choose_step
from molpool_calc.training.curve import write_curve
from molpool_calc.training.frames import Frames
from molpool_calc.training.labelled import read_labelled
from molpool_calc.training.losses import Errors
from molpool_calc.training.processes import ALONE, Processes
from molpool_calc.training.recipe import Recipe
from molpool_calc.training.schedule import learning_rate
from molpool_calc.training.specification import build_spec
from molpool_calc.training.splits import some_frames, split_frames
from molpool_calc.training.start import start_from
from molpool_calc.training.step_request import Example
from molpool_calc.training.steps import EagerStep, Step
from molpool_calc.training.targets import (
    error_unit,
    label_shares,
    labelled_properties,
    objective_of,
)
from molpool_calc.training.trained import Trained, TrainingDiverged, demand_finite
from molpool_calc.training.validation import errors_of

CURVE_FILE = "learning_curve.csv"

__all__ = ["Trained", "Trainer", "TrainingDiverged"]

Report = Callable[[int, Mapping[str, float]], None]


class Trainer:
    """Minimises the loss of ``losses.loss`` with AdamW on the force-matching graph.

    Weights are averaged exponentially; the average is what is validated and kept.
    Every epoch ends with a checkpoint from which ``resume`` continues bit for bit
    (same machine, engine, number of threads and of processes; on the CPU).

    Args:
        recipe: what to train.
        folder: where checkpoint and learning curve are written; must exist.
        processes: that train together, each a part of every batch.

    Raises:
        ValueError: recipe and data do not go together.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, processes: Processes = ALONE
    ) -> None:
        self.recipe, self.folder, self.processes = recipe, folder, processes
        options = recipe.training
        self.dtype: torch.dtype = getattr(torch, options.dtype)
        device = processes.own(
            resolve_device(options.device), torch.cuda.device_count()
        )
        dataset = read_labelled(
            recipe.data_path,
            units=recipe.data.units,
            keys=recipe.data.keys,
            format=recipe.data.format,
            check_units=recipe.data.check_units,
            partly_labelled=recipe.data.partly_labelled,
        )
        self.parts = split_frames(recipe.data.split, dataset)
        processes.demand_work(min(options.batch_size, len(self.parts.train)))
        self.spec = build_spec(recipe, dataset, self.parts)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(options.seed)
            self.potential = NeuralPotential(self.spec).to(self.dtype)
        if options.start_from is not None:
            start_from(self.potential, options.start_from, recipe.folder)
        self.potential.to(device)
        self.labelled = labelled_properties(self.potential, dataset)
        self.objective = objective_of(recipe, self.spec, self.labelled)
        self.frames = Frames(dataset, self.potential.cutoff, self.dtype, device)
        self.optimizer = torch.optim.AdamW(
            self.potential.parameters(),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.progress = Progress.start(self.potential, options.seed)
        self.step: Step = EagerStep(self.potential, self.objective)

    def resume(self) -> None:
        """Take everything up from the last checkpoint.

        Raises:
            ValueError: no checkpoint, a damaged one, or one of another recipe.
        """
        content = self.processes.from_first(
            lambda: read_checkpoint(self.folder, self.recipe)
        )
        self.progress = restore(content, self.potential, self.optimizer)

    def run(
        self,
        report: Report = lambda _epoch, _row: None,
        waiting: Callable[[], None] = lambda: None,
    ) -> Trained:
        """Train to the end of the schedule and test.

        Args:
            report: called after every epoch with its number and the last row of the
                learning curve, empty before the first validation.
            waiting: called before the step is compiled, which takes minutes.

        Raises:
            TrainingDiverged: the loss became infinite or NaN.
            ValueError: resumed with compiled code that cannot be had here.
        """
        threads = torch.get_num_threads()
        if self.recipe.training.threads is not None:
            torch.set_num_threads(self.recipe.training.threads)
        try:
            if self.progress.epoch == 0:  # for who interrupts the compiler
                self._write_checkpoint()
            if not self._finished():
                self._choose_step(waiting)
            while not self._finished():
                self._epoch()
                history = self.progress.history
                report(self.progress.epoch, history[-1] if history else {})
            return self.result()
        finally:
            torch.set_num_threads(threads)

    def _choose_step(self, waiting: Callable[[], None]) -> None:
        self.step = choose_step(
            EagerStep(self.potential, self.objective),
            self._example(self.parts.train[: self.recipe.training.batch_size]),
            self.recipe.training.compile,
            kept=self.progress.engine or None,
            n_steps=self._steps_per_epoch() * self.recipe.training.epochs,
            processes=self.processes,
            waiting=waiting,
        )
        self.progress.engine = self.step.name
        if self.progress.epoch == 0:
            self._write_checkpoint()

    def _finished(self) -> bool:
        state, options = self.progress, self.recipe.training
        patience, minutes = options.early_stopping_epochs, options.max_minutes
        # counted in validated epochs: the others cannot be progress
        validated = int(state.history[-1]["epoch"]) if state.history else 0
        # clocks differ between processes
        return self.processes.from_first(
            lambda: (
                state.epoch >= options.epochs
                or (patience is not None and validated - state.best_epoch > patience)
                or (minutes is not None and state.seconds > 60 * minutes)
            )
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
        if self.processes.is_first:
            write_checkpoint(
                self.folder, self.recipe, self.optimizer, self.potential, self.progress
            )

    def _example(self, indices: Int[np.ndarray, " n"]) -> Example:
        """Return what this process has of a batch, and its share of the labels."""
        own = self.processes.part(indices)
        batch, pairs, labels = self.frames.batch(own)
        shares = label_shares(self.frames.dataset, own, indices, self.objective)
        return batch, pairs, labels, batch.positions.new_tensor(shares)

    def _step(self, indices: Int[np.ndarray, " n"]) -> float:
        state = self.progress
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        parameters = list(self.potential.parameters())
        if len(self.processes.part(indices)):
            own = self.step(*self._example(indices))
        else:  # the last batch of an epoch may have fewer frames than processes
            own = [parameters[0].new_zeros(()), *map(torch.zeros_like, parameters)]
        value, *gradients = self.processes.add(own)
        partly = bool(self.objective.partly_labelled)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # the fused optimiser takes the memory of a gradient as that of its weight;
            # weights that no label of the batch reaches are left as they are
            is_reached = not partly or bool(gradient.any())
            parameter.grad = gradient.contiguous() if is_reached else None
        norm = torch.nn.utils.clip_grad_norm_(
            parameters, self.recipe.training.gradient_clip or math.inf
        )
        # both in one transfer from the device
        loss_now, norm_now = torch.stack([value, norm.to(value.dtype)]).tolist()
        demand_finite(loss_now, norm_now, state.epoch + 1)
        self.optimizer.step()
        state.step += 1
        state.take_average(self.potential, self.recipe.training.ema_decay)
        return float(loss_now)

    def _learning_rate(self) -> float:
        options, state = self.recipe.training, self.progress
        return learning_rate(
            options,
            state.step,
            last_step=self._steps_per_epoch() * options.epochs,
            rate_factor=state.rate_factor,
        )

    def _steps_per_epoch(self) -> int:
        return math.ceil(len(self.parts.train) / self.recipe.training.batch_size)

    def _validate(self, train_loss: float) -> None:
        state, options = self.progress, self.recipe.training
        average = with_weights(self.potential, state.average)
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
        if self.processes.is_first:
            write_curve(self.folder / CURVE_FILE, state.history)

    def _errors(
        self, potential: NeuralPotential, indices: Int[np.ndarray, " n"]
    ) -> tuple[dict[str, Errors], float]:
        """Return the errors of all labelled properties, and the loss."""
        how = (self.labelled, self.objective, self.processes)
        return errors_of(potential, self.frames, indices, *how)

    def result(self) -> Trained:
        """Return the best potential so far and its errors on the test part."""
        state = self.progress
        # stopped before the first validation: nothing is better than the average
        chosen = state.best if state.history else state.average
        best = with_weights(self.potential, chosen)
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
        return Trained(
            potential=best,
            epochs=state.epoch,
            best_epoch=best_epoch,
            errors=errors,
            seconds=state.seconds,
            engine=state.engine,
            history=state.history,
            examples=some_frames(self.frames.dataset, self.parts),
        )
