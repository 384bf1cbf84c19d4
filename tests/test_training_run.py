"""Trainings are reproducible, resumable, and keep what was best."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import DATA, write_recipe

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.commands.frames import frames_of
from molpool_calc.potential import NeuralPotential
from molpool_calc.storage import WEIGHTS_FILE, save_potential
from molpool_calc.training.recipe import load_recipe
from molpool_calc.training.train import Trained, Trainer, TrainingDiverged


def trainer_in(folder: Path, **options: object) -> Trainer:
    path = write_recipe(folder.parent / "recipe", **options)
    folder.mkdir(exist_ok=True)
    return Trainer(load_recipe(path), folder)


def trained_in(folder: Path, **options: object) -> tuple[Trainer, Trained]:
    trainer = trainer_in(folder, **options)
    return trainer, trainer.run()


def weight_bytes(trained: Trained, folder: Path) -> bytes:
    save_potential(trained.potential, folder)
    return (folder / WEIGHTS_FILE).read_bytes()


def kill_at_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the process die in the middle of an epoch."""
    original = Trainer._step

    def dying(self: Trainer, indices: np.ndarray) -> float:
        if self.progress.step == step:
            raise KeyboardInterrupt
        return original(self, indices)

    monkeypatch.setattr(Trainer, "_step", dying)


def parameters(potential: NeuralPotential) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in potential.parameters()])


COSINE = {"schedule": "cosine", "learning_rate": 0.02}
# too high a rate: epoch 2 is no progress, and epoch 3 halves the rate
PLATEAU = {
    "schedule": "plateau",
    "plateau_patience": 1,
    "plateau_factor": 0.5,
    "learning_rate": 0.1,
    "warmup_steps": 0,
    "ema_decay": 0.0,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("options", "killed_at"),
    # epochs have three steps: the kill is in the middle of the third or fourth
    [(COSINE, 7), (PLATEAU, 7), (PLATEAU, 10)],
    ids=["cosine", "plateau-before-it-falls", "plateau-after-it-fell"],
)
def test_a_killed_and_resumed_training_ends_in_the_same_bytes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    options: dict[str, object],
    killed_at: int,
) -> None:
    options = {**options, "dtype": dtype}
    whole, straight = trained_in(tmp_path / "straight", **options)
    with monkeypatch.context() as patch:
        kill_at_step(patch, killed_at)
        killed = trainer_in(tmp_path / "killed", **options)
        with pytest.raises(KeyboardInterrupt):
            killed.run()
    assert killed.progress.epoch == killed_at // 3
    if options["schedule"] == "plateau":
        state = (killed.progress.stale, killed.progress.rate_factor)
        assert state == ((1, 1.0) if killed_at == 7 else (0, 0.5))
    resumed = trainer_in(tmp_path / "killed", **options)
    resumed.resume()
    again = resumed.run()
    assert resumed.progress.history == whole.progress.history
    assert again.epochs == straight.epochs == 4
    bytes_of_straight = weight_bytes(straight, tmp_path / "a")
    assert weight_bytes(again, tmp_path / "b") == bytes_of_straight
    curves = [tmp_path / run / "learning_curve.csv" for run in ("straight", "killed")]
    assert curves[0].read_text() == curves[1].read_text()


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    runs = [trained_in(tmp_path / str(seed), seed=seed)[1] for seed in (0, 1)]
    assert not torch.equal(*(parameters(run.potential) for run in runs))


def test_a_training_killed_before_its_first_epoch_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at_step(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            trainer_in(tmp_path / "run").run()
    trainer = trainer_in(tmp_path / "run")
    trainer.resume()
    assert trainer.progress.epoch == 0


def test_the_weights_of_the_best_validation_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_in(tmp_path / "run")
    losses, validated = iter([3.0, 1.0, 2.0, 5.0]), []

    def scripted(potential: NeuralPotential, indices: np.ndarray) -> tuple[dict, float]:
        if indices is not trainer.parts.valid:
            return {}, 0.0
        validated.append(parameters(potential))
        return {}, next(losses)

    monkeypatch.setattr(trainer, "_errors", scripted)
    trained = trainer.run()
    assert trained.best_epoch == 2
    assert torch.equal(parameters(trained.potential), validated[1])
    assert not torch.equal(validated[1], validated[3])


def test_without_averaging_the_average_is_the_weights(tmp_path: Path) -> None:
    trainer, _ = trained_in(tmp_path / "run", ema_decay=0.0)
    for name, weight in trainer.potential.named_parameters():
        assert torch.equal(trainer.progress.average[name], weight)


def test_errors_are_those_of_the_calculator_on_the_test_frames(tmp_path: Path) -> None:
    trainer, trained = trained_in(tmp_path / "run")
    test = trainer.frames.dataset.select(trainer.parts.test)
    frames = list(frames_of(test))
    calculator = MolPoolCalculator(trained.potential, device="cpu")
    found = calculator.calculate_many(frames)
    for name in ("energy", "forces", "dipole"):
        difference = np.concatenate(
            [
                np.ravel(results[name] - atoms.calc.results[name])
                for results, atoms in zip(found, frames, strict=True)
            ]
        )
        error = trained.errors[name]
        assert error.mae == pytest.approx(np.abs(difference).mean(), rel=1e-4)
        assert error.rmse == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-4)
        assert error.max == pytest.approx(np.abs(difference).max(), rel=1e-4)
        stated = trained.potential.spec.errors[name]
        assert stated["mae"] == error.mae
    units = {n: e["unit"] for n, e in trained.potential.spec.errors.items()}
    assert units == {"energy": "eV", "forces": "eV/Angstrom", "dipole": "e*Angstrom"}


def test_examples_are_test_frames(tmp_path: Path) -> None:
    trainer, trained = trained_in(tmp_path / "run", epochs=1)
    test = trainer.frames.dataset.select(trainer.parts.test)
    assert len(trained.examples) == 5
    assert set(trained.examples.energy) <= set(test.energy)
    assert not set(trained.examples.energy) & set(
        trainer.frames.dataset.select(trainer.parts.train).energy
    )


def test_the_specification_says_what_the_data_cover(tmp_path: Path) -> None:
    trainer, trained = trained_in(tmp_path / "run", epochs=1)
    data = trained.potential.spec.training_data
    assert data["formulas"] == ["C2H6O"]
    assert (data["train"], data["valid"], data["test"]) == (16, 6, 7)
    assert (data["epochs"], data["best_epoch"], data["periodic"]) == (1, 1, False)
    energies = trainer.frames.dataset.select(trainer.parts.train).energy
    reach = data["energies_above_lowest_ev"]["largest"]
    assert reach == pytest.approx(np.ptp(energies), abs=1e-4)


def test_early_stopping_counts_epochs_without_progress(tmp_path: Path) -> None:
    # a rate below the rounding of the weights: nothing after the first is progress
    frozen = {"learning_rate": 1e-30, "minimum_learning_rate": 0.0}
    _, trained = trained_in(
        tmp_path / "run", epochs=50, early_stopping_epochs=2, **frozen
    )
    assert (trained.best_epoch, trained.epochs) == (1, 4)


def test_early_stopping_waits_for_a_validation(tmp_path: Path) -> None:
    _, trained = trained_in(
        tmp_path / "run", epochs=4, early_stopping_epochs=1, validate_every=4
    )
    assert trained.best_epoch == trained.epochs == 4


def test_time_that_ends_before_a_validation_leaves_trained_weights(
    tmp_path: Path,
) -> None:
    trainer = trainer_in(tmp_path / "run", max_minutes=1e-9, validate_every=9, epochs=9)
    start = parameters(trainer.potential).clone()
    trained = trainer.run()
    assert trained.epochs == trained.best_epoch == 1
    assert not torch.equal(parameters(trained.potential), start)


def test_a_diverging_training_stops_with_its_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    options = {"learning_rate": 1e9, "warmup_steps": 0, "gradient_clip": 0.0}
    trainer = trainer_in(tmp_path / "run", **options)
    with pytest.raises(TrainingDiverged, match=r"epoch 1; lower .*learning_rate"):
        trainer.run()
    again = trainer_in(tmp_path / "run", **options)
    again.resume()
    assert bool(torch.isfinite(parameters(again.potential)).all())


def test_global_state_of_torch_and_numpy_stays(tmp_path: Path) -> None:
    before, legacy = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    trained_in(tmp_path / "run", epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002


def test_the_report_comes_after_every_epoch_with_the_last_validation(
    tmp_path: Path,
) -> None:
    seen = []
    trainer = trainer_in(tmp_path / "run", validate_every=2)
    trainer.run(lambda epoch, row: seen.append((epoch, row.get("epoch"))))
    assert seen == [(1, None), (2, 2.0), (3, 2.0), (4, 4.0)]


def test_the_learning_curve_is_written_as_csv(tmp_path: Path) -> None:
    trained_in(tmp_path / "run", epochs=2)
    with (tmp_path / "run" / "learning_curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"train_loss", "valid_loss", "energy_mae", "forces_mae"} <= rows[0].keys()


def test_a_dipole_alone_can_be_trained_on_data_that_have_forces(tmp_path: Path) -> None:
    _, trained = trained_in(
        tmp_path / "run", heads="[heads.dipole]", loss="dipole = 1.0", epochs=1
    )
    assert set(trained.errors) == {"dipole"}


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("dipole = 0.0", r"loss.dipole = 0 would leave the head dipole at random"),
        ("energy = 0.0\nforces = 0.0", r"loss.energy = 0 would leave the head energy"),
    ],
)
def test_a_head_that_would_stay_random_is_refused(
    tmp_path: Path, loss: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        trainer_in(tmp_path / "run", loss=loss)


def test_forces_alone_train_the_energy(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path / "run", loss="energy = 0.0\ndipole = 1.0")
    assert set(trainer.objective.weights) == {"forces", "dipole"}


def test_a_head_without_reference_values_is_refused(tmp_path: Path) -> None:
    with np.load(DATA) as archive:
        kept = {name: archive[name] for name in archive.files if name != "D"}
    bare = tmp_path / "bare.npz"
    np.savez(bare, **kept)
    with pytest.raises(ValueError, match=r"head dipole has no reference values"):
        trainer_in(tmp_path / "run", data=bare)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    trained_in(tmp_path / "run", epochs=1)
    other = trainer_in(tmp_path / "run", epochs=2, name="other.toml")
    with pytest.raises(ValueError, match=r"belongs to another recipe"):
        other.resume()


@pytest.mark.parametrize("damage", [b"abc", b"PK\x03\x04 but no archive", b""])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: bytes) -> None:
    trainer = trainer_in(tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(damage)
    with pytest.raises(ValueError, match=r"checkpoint.pt is damaged"):
        trainer.resume()


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no checkpoint.pt to resume"):
        trainer_in(tmp_path / "run").resume()
