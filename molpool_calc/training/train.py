"""The training loop: from a recipe to the best weights, resumable at any epoch."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from molpool_calc.derivatives import evaluate
from molpool_calc.potential import NeuralPotential, PotentialSpec
from molpool_calc.training.checkpoint import Progress, read_checkpoint, write_checkpoint
from molpool_calc.training.curve import write_curve
from molpool_calc.training.data import (
    Dataset,
    fit_reference_energies,
    read_dataset,
)
from molpool_calc.training.frames import LABELS, Frames
from molpool_calc.training.losses import Errors, ErrorSum, loss
from molpool_calc.training.recipe import Recipe, TrainingSection
from molpool_calc.training.splits import Parts, split_frames

VALIDATION_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training gives: the best potential and its errors on the test part."""

    potential: NeuralPotential
    epochs: int
    best_epoch: int
    errors: Mapping[str, Errors]
    seconds: float


def build_spec(recipe: Recipe, dataset: Dataset, parts: Parts) -> PotentialSpec:
    """Return the specification of the potential a recipe describes.

    Element energies are those of the recipe, else fitted to the training part.
    """
    heads: dict[str, dict[str, Any]] = {}
    for name in recipe.heads.names:
        section = getattr(recipe.heads, name)
        heads[name] = dict(section.arguments)
    if recipe.heads.energy is not None:
        given = recipe.data.reference_energies_ev
        fitted = given or fit_reference_energies(dataset.select(parts.train))
        heads["energy"]["pooling"] = recipe.heads.energy.pooling
        heads["energy"]["reference_energies"] = {str(z): e for z, e in fitted.items()}
    counts = {name: len(getattr(parts, name)) for name in ("train", "valid", "test")}
    return PotentialSpec(
        name=recipe.potential.name,
        elements=tuple(int(z) for z in np.unique(dataset.numbers)),
        network={"kind": recipe.network.kind, **recipe.network.arguments},
        heads=heads,
        level_of_theory=recipe.potential.level_of_theory,
        description=recipe.potential.description,
        license=recipe.potential.license,
        total_charges=tuple(int(q) for q in np.unique(dataset.charges)),
        training_data={
            "file": Path(recipe.data.file).name,
            "sha256": dataset.sha256,
            **counts,
        },
    )


class Trainer:
    """Minimises the loss of ``losses.loss`` with Adam on the force-matching graph.

    Weights are averaged exponentially; the average is what is validated and kept.
    Every epoch ends with a checkpoint from which ``resume`` continues bit for bit
    (same machine, same number of threads).

    Args:
        recipe: what to train.
        folder: where checkpoint and learning curve are written.
        base: folder the recipe's data path is relative to.
        report: called after every validation with the row of the learning curve.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        base: Path,
        report: Callable[[Mapping[str, float]], None] = lambda _row: None,
    ) -> None:
        self.recipe, self.folder, self.report = recipe, folder, report
        options = recipe.training
        self.dtype = getattr(torch, options.dtype)
        dataset = read_dataset(
            base / recipe.data.file,
            units=recipe.data.units,
            keys=recipe.data.keys,
            check_units=recipe.data.check_units,
            format=recipe.data.format,
        )
        self.parts = split_frames(recipe.data.split, dataset)
        self.spec = build_spec(recipe, dataset, self.parts)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(options.seed)
            self.potential = NeuralPotential(self.spec).to(self.dtype)
        self.weights = self._loss_weights(dataset)
        self.frames = Frames(
            dataset, self.potential.cutoff, self.dtype, torch.device("cpu")
        )
        self.optimizer = torch.optim.AdamW(
            self.potential.parameters(),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
        )
        self.progress = Progress.start(self.potential, options.seed)

    def _loss_weights(self, dataset: Dataset) -> dict[str, float]:
        """Return the weights of the properties that both heads and data have."""
        available = self.potential.properties | {"forces"}
        weights = {}
        for name in LABELS:
            weight = float(getattr(self.recipe.loss, name))
            if getattr(dataset, name) is None and name in self.recipe.heads.names:
                raise ValueError(
                    f"head {name} has no reference values in {self.recipe.data.file}; "
                    f"state units.{name} and the key, or leave out [heads.{name}]"
                )
            if weight > 0 and name in available and getattr(dataset, name) is not None:
                weights[name] = weight
        return weights

    def resume(self) -> None:
        """Take everything up from the last checkpoint.

        Raises:
            ValueError: no checkpoint, or one of another recipe.
        """
        self.progress = read_checkpoint(
            self.folder, self.recipe, self.potential, self.optimizer
        )

    def run(self, stop: Callable[[], bool] = lambda: False) -> Trained:
        """Train to the end of the schedule (or until ``stop``) and test.

        Returns:
            The potential with the best validated weights.
        """
        options = self.recipe.training
        threads = torch.get_num_threads()
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        try:
            while not self._finished(options) and not stop():
                self._epoch()
            return self._result()
        finally:
            torch.set_num_threads(threads)

    def _finished(self, options: TrainingSection) -> bool:
        state = self.progress
        patience = options.early_stopping_epochs
        return (
            state.epoch >= options.epochs
            or (patience is not None and state.epoch - state.best_epoch > patience)
            or (
                options.max_minutes is not None
                and state.seconds > 60 * options.max_minutes
            )
        )

    def _epoch(self) -> None:
        start, options, state = time.monotonic(), self.recipe.training, self.progress
        order = torch.randperm(len(self.parts.train), generator=state.generator)
        shuffled = self.parts.train[order.numpy()]
        total = 0.0
        for first in range(0, len(shuffled), options.batch_size):
            total += self._step(shuffled[first : first + options.batch_size])
        state.epoch += 1
        due = state.epoch % options.validate_every == 0
        if due or state.epoch == options.epochs:
            n_steps = math.ceil(len(shuffled) / options.batch_size)
            self._validate(total / n_steps)
        state.seconds += time.monotonic() - start
        write_checkpoint(
            self.folder, self.recipe, self.optimizer, self.potential, state
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
            properties=frozenset(self.weights),
            create_graph=True,
        )
        value = loss(prediction, labels, batch, self.weights)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        if options.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(
                self.potential.parameters(), options.gradient_clip
            )
        self.optimizer.step()
        state.step += 1
        self._average_weights()
        return float(value.detach())

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
        options, step = self.recipe.training, self.progress.step
        low, high = options.minimum_learning_rate, options.learning_rate
        if options.warmup_steps and step < options.warmup_steps:
            return high * (step + 1) / options.warmup_steps
        if options.schedule == "plateau":
            return max(low, high * self.progress.rate_factor)
        per_epoch = math.ceil(len(self.parts.train) / options.batch_size)
        last = per_epoch * options.epochs
        done = (step - options.warmup_steps) / max(1, last - options.warmup_steps)
        return low + 0.5 * (high - low) * (1 + math.cos(math.pi * min(1.0, done)))

    def _validate(self, train_loss: float) -> None:
        state, options = self.progress, self.recipe.training
        errors, valid_loss = self._errors(self.averaged(), self.parts.valid)
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
                state.stale, state.rate_factor = (
                    0,
                    (state.rate_factor * options.plateau_factor),
                )
        write_curve(self.folder / "learning_curve.csv", state.history)
        self.report(row)

    def averaged(self) -> NeuralPotential:
        """Return a potential with the averaged weights."""
        return self._with_weights(self.progress.average)

    def _with_weights(self, weights: Mapping[str, torch.Tensor]) -> NeuralPotential:
        copy = NeuralPotential(self.spec).to(self.dtype)
        copy.load_state_dict({**self.potential.state_dict(), **weights})
        return copy.requires_grad_(requires_grad=False)

    def _errors(
        self, potential: NeuralPotential, indices: Int[np.ndarray, " n"]
    ) -> tuple[dict[str, Errors], float]:
        errors, total = ErrorSum(), 0.0
        for first in range(0, len(indices), VALIDATION_BATCH):
            part = indices[first : first + VALIDATION_BATCH]
            batch, pairs, labels = self.frames.batch(part)
            prediction = evaluate(
                potential, batch, pairs, properties=frozenset(self.weights)
            )
            errors.add(prediction, labels)
            total += len(part) * float(loss(prediction, labels, batch, self.weights))
        return errors.result(), total / max(1, len(indices))

    def _result(self) -> Trained:
        best = self._with_weights(self.progress.best)
        errors, _ = self._errors(best, self.parts.test)
        table = {name: asdict(value) for name, value in errors.items()}
        best.spec = replace(self.spec, errors=table)
        return Trained(
            potential=best,
            epochs=self.progress.epoch,
            best_epoch=self.progress.best_epoch,
            errors=errors,
            seconds=self.progress.seconds,
        )
