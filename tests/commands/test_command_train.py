"""``molpool train``: the folder, its card, interruption and resumption."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import CommandLine, contents
from tiny_recipes import write_recipe

from molpool_calc.storage import load_potential
from molpool_calc.training.train import Trainer
from molpool_calc.units import COULOMB, DEBYE


def test_train_writes_the_folder(water: Path) -> None:
    assert {path.name for path in water.iterdir()} == {
        *("potential.json", "weights.safetensors", "README.md", "recipe.toml"),
        *("learning_curve.csv", "learning_curve.svg", "reference.extxyz"),
        "checkpoint.pt",
    }
    recipe = water.parent / "recipe" / "tiny.toml"
    assert (water / "recipe.toml").read_bytes() == recipe.read_bytes()


def test_training_learns_every_property(water: Path) -> None:
    with (water / "learning_curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    errors = load_potential(water).spec.errors
    for name in ("energy", "forces", "dipole", "polarizability"):
        first, last = (float(rows[k][f"{name}_mae"]) for k in (0, -1))
        assert last < 0.4 * first, name
        assert errors[name]["mae"] < 0.4 * first, name


def test_the_reference_frames_are_reproduced(molpool: CommandLine, water: Path) -> None:
    path = water / "reference.extxyz"
    errors = molpool("eval", water, path, "--dtype", "float64", "--json").json["errors"]
    assert errors["energy"]["n_frames"] == 5
    for name in ("energy", "forces", "dipole", "polarizability"):
        assert errors[name]["max"] < 1e-7, name


def test_the_card_shows_the_measured_errors(molpool: CommandLine, water: Path) -> None:
    card = (water / "README.md").read_text(encoding="utf-8")
    errors = molpool("info", water, "--json").json["errors"]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in card.splitlines()
        if line.startswith("|")
    ]
    units = {
        "meV": 1e3,
        "meV/Å": 1e3,
        "e·Å": 1.0,
        "D": 1 / DEBYE,
        "e²Å²/eV": 1.0,
        "Å³": COULOMB,
    }
    shown = {(row[0], row[1]): row[2:] for row in rows[2:]}
    assert len(shown) == 6
    for (name, unit), numbers in shown.items():
        meant = [errors[name][kind] * units[unit] for kind in ("mae", "rmse", "max")]
        assert [float(x) for x in numbers] == pytest.approx(meant, rel=1e-3)
    for words in ("H2O", "gas phase", "MIT", "waters.npz", "40 epochs", "7 test"):
        assert words in " ".join(card.split()), words


def test_an_interrupted_training_goes_on_to_the_same_bytes(
    molpool: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert molpool("train", recipe, "--out", whole).code == 0
    original = Trainer._epoch

    def interrupted(self: Trainer) -> None:
        if self.progress.epoch == 2:
            signal.raise_signal(signal.SIGINT)
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", interrupted)
        called = molpool("train", recipe, "--out", parts, "--json")
    assert called.code == 130
    assert called.json["status"] == "interrupted"
    assert called.sentence.startswith("interrupted in epoch 3 of 4; continue with --re")
    assert not (parts / "potential.json").exists()
    finished = molpool("train", recipe, "--out", parts, "--resume", "--json")
    assert finished.code == 0
    assert finished.json["epochs"] == 4
    for name in ("weights.safetensors", "potential.json", "reference.extxyz"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_training_that_diverges_is_stopped(
    molpool: CommandLine, tmp_path: Path
) -> None:
    options = {"learning_rate": 1e9, "warmup_steps": 0, "gradient_clip": 0.0}
    recipe = write_recipe(tmp_path / "recipe", **options)
    called = molpool("train", recipe, "--out", tmp_path / "p", "--json")
    assert called.code == 3
    assert called.json["status"] == "stopped"
    assert "lower training.learning_rate" in called.sentence


def test_force_starts_anew(molpool: CommandLine, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe", epochs=1)
    out = tmp_path / "p"
    assert molpool("train", recipe, "--out", out).code == 0
    (out / "notes.txt").write_text("mine")
    before = contents(out)
    assert molpool("train", recipe, "--out", out, "--force").code == 0
    assert contents(out)["notes.txt"] == before["notes.txt"]
    assert contents(out)["weights.safetensors"] == before["weights.safetensors"]


def test_a_signal_ends_a_training_within_an_epoch(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe", epochs=100_000, compile="never")
    words = [sys.executable, "-c", WATCHED, "train", str(recipe)]
    words += ["--out", str(tmp_path / "p"), "--json"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "an epoch is done\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "interrupted"
    assert "--resume" in err.splitlines()[-1]
    assert (tmp_path / "p" / "checkpoint.pt").exists()


WATCHED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from molpool_calc import cli
from molpool_calc.training import train
write = train.write_checkpoint
def watched(*arguments):
    write(*arguments)
    if arguments[-1].epoch == 1:
        print("an epoch is done", file=sys.stderr, flush=True)
train.write_checkpoint = watched
sys.exit(cli.main())
"""
