"""Properties that only some frames have: NaN rows that are stated, and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import write_recipe, write_waters

from molpool_calc.commands.frames import frames_of
from molpool_calc.training.data import Units, read_dataset
from molpool_calc.training.losses import ErrorSum, loss
from molpool_calc.training.recipe import load_recipe
from molpool_calc.training.train import Trainer

UNITS = Units(
    energy="eV",
    length="Angstrom",
    dipole="e*Angstrom",
    polarizability="e^2*Angstrom^2/eV",
)
PARTLY = ("polarizability",)


def some_unlabelled(folder: Path, rows: slice, columns: slice = slice(None)) -> Path:
    """Waters of which some frames have no polarizability, or half of one."""
    path = write_waters(folder)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["polarizability"][rows, columns] = np.nan
    np.savez(path, **arrays)
    return path


def trainer_of(data: Path, **training: object) -> Trainer:
    recipe = write_recipe(
        data.parent,
        data=data,
        heads="[heads.energy]\n[heads.dipole]\n[heads.polarizability]",
        units="dipole = 'e*Angstrom', polarizability = 'e^2*Angstrom^2/eV'",
        loss="polarizability = 10.0",
        n_features=8,
        **training,
    )
    text = recipe.read_text()
    line = 'partly_labelled = ["polarizability"]\n'
    recipe.write_text(text.replace("[network]", line + "\n[network]"))
    (data.parent / "run").mkdir()
    return Trainer(load_recipe(recipe), data.parent / "run")


def test_rows_of_nan_are_read_where_the_recipe_allows_them(tmp_path: Path) -> None:
    path = some_unlabelled(tmp_path, slice(10, None))
    dataset = read_dataset(path, units=UNITS, partly_labelled=PARTLY, check_units=False)
    known = np.isfinite(dataset.polarizability).all(axis=(1, 2))
    assert known.tolist() == [True] * 10 + [False] * 30
    frames = list(frames_of(dataset))
    assert ["polarizability" in frame.info for frame in frames] == known.tolist()


@pytest.mark.parametrize(
    ("rows", "columns", "partly", "message"),
    [
        (slice(10, None), slice(None), (), "30 rows of polarizability that are not"),
        (slice(4, 5), slice(0, 1), PARTLY, "1 rows of polarizability that are not"),
        (slice(None), slice(None), PARTLY, "labels no frame with polarizability"),
        (slice(10, None), slice(None), ("dipole",), "30 rows of polarizability"),
    ],
)
def test_any_other_nan_is_refused(tmp_path, rows, columns, partly, message) -> None:
    path = some_unlabelled(tmp_path, rows, columns)
    with pytest.raises(ValueError, match=message):
        read_dataset(path, units=UNITS, partly_labelled=partly, check_units=False)


def test_a_property_that_the_file_lacks_cannot_be_partly_labelled(tmp_path) -> None:
    path = write_waters(tmp_path)
    with np.load(path) as archive:
        arrays = {k: v for k, v in archive.items() if k != "polarizability"}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="partly_labelled names polarizability"):
        trainer_of(path)


def test_unlabelled_frames_leave_loss_and_errors_as_they_are(tmp_path: Path) -> None:
    trainer = trainer_of(some_unlabelled(tmp_path, slice(10, None)))
    potential, frames = trainer.potential, trainer.frames
    labelled, mixed = np.arange(6), np.arange(4, 16)
    values = []
    for indices in (labelled[4:], mixed):
        batch, pairs, labels = frames.batch(indices)
        only = replace(trainer.objective, weights={"polarizability": 1.0})
        prediction = potential(batch, pairs, frozenset({"polarizability"}))
        value = loss(prediction, labels, batch, only)
        errors = ErrorSum()
        errors.add(prediction, labels)
        values.append((float(value.detach()), errors.result()["polarizability"].mae))
    batch, pairs, labels = frames.batch(np.arange(4, 10))
    prediction = potential(batch, pairs, frozenset({"polarizability"}))
    expected = (prediction.polarizability - labels.polarizability).detach()
    assert values[1][0] == pytest.approx(float(expected.square().mean()), rel=1e-5)
    assert values[1][1] == pytest.approx(float(expected.abs().mean()), rel=1e-5)
    assert values[0] != values[1]


def test_a_batch_without_any_label_trains_the_other_properties(tmp_path) -> None:
    trainer = trainer_of(some_unlabelled(tmp_path, slice(10, None)))
    value = trainer._step(np.arange(20, 26))
    assert np.isfinite(value)
    head = trainer.potential.heads["polarizability"]
    assert all(parameter.grad is None for parameter in head.parameters())
    assert torch.isfinite(next(trainer.potential.network.parameters()).grad).all()


def test_training_says_how_many_frames_have_the_property(tmp_path: Path) -> None:
    trained = trainer_of(some_unlabelled(tmp_path, slice(30, None)), epochs=2).run()
    counts = trained.potential.spec.training_data["frames_with_polarizability"]
    assert 0 < counts["train"] <= 16
    assert np.isfinite(trained.errors["polarizability"].mae)


@pytest.mark.parametrize("given", ['"polarizability"', '["energy"]'])
def test_other_values_of_the_key_are_refused(tmp_path: Path, given: str) -> None:
    recipe = write_recipe(tmp_path, data=write_waters(tmp_path))
    text = recipe.read_text().replace(
        "[network]", f"partly_labelled = {given}\n\n[network]"
    )
    recipe.write_text(text)
    with pytest.raises(
        ValueError, match=r"give a list of 'dipole' or 'polarizability'"
    ):
        load_recipe(recipe)
