"""Recipes: what is written is what is got, and every slip is named."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from molpool_calc.training import recipe as recipes
from molpool_calc.training.recipe import (
    Recipe,
    Split,
    TrainingSection,
    load_recipe,
    recipe_digest,
)

TEXT = """
[potential]
name = "painn-ethanol"
description = "Ethanol in the gas phase."
level_of_theory = "B3LYP/def2-SVPD"
license = "MIT"

[data]
file = "frames/ethanol.npz"
keys = { forces = "-gradient" }
units = { energy = "kcal/mol", length = "Angstrom", dipole = "Debye" }
split = { train = 1000, valid = 100, seed = 7 }
reference_energies = { H = -313.5, C = -23750.0, O = -47060.0 }

[network]
kind = "painn"
cutoff = 5.0
n_features = 64
radial_basis = "bessel"

[heads.energy]
pooling = "sum"

[heads.dipole]
n_hidden = 32

[loss]
forces = 20

[training]
epochs = 300
learning_rate = 5e-4
schedule = "plateau"
max_minutes = 30
threads = 2
"""

MINIMAL = """
[potential]
name = "a"
level_of_theory = "PBE"
license = "MIT"
[data]
file = "frames/ethanol.npz"
units = { energy = "eV", length = "Angstrom" }
split = "file"
[network]
kind = "schnet"
[heads.energy]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "ethanol.npz").write_bytes(b"")
    return tmp_path


def load(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def test_recipe_says_what_the_file_says(folder):
    recipe = load(folder, TEXT)
    assert recipe.potential.name == "painn-ethanol"
    assert recipe.potential.level_of_theory == "B3LYP/def2-SVPD"
    assert recipe.data.units.energy == "kcal/mol"
    assert recipe.data.units.forces is None
    assert recipe.data.keys == {"forces": "-gradient"}
    assert recipe.data.split == Split(train=1000, valid=100, test=None, seed=7)
    assert recipe.data_path == folder / "frames" / "ethanol.npz"
    assert recipe.network.kind == "painn"
    assert recipe.network.arguments == {
        "cutoff": 5.0,
        "n_features": 64,
        "radial_basis": "bessel",
    }
    assert recipe.heads.names == ("energy", "dipole")
    assert recipe.heads.energy.pooling == "sum"
    assert recipe.heads.dipole.arguments == {"n_hidden": 32}
    assert recipe.heads.polarizability is None
    assert recipe.loss.forces == 20.0
    assert isinstance(recipe.loss.forces, float)
    assert recipe.training.schedule == "plateau"
    assert recipe.training.max_minutes == 30.0
    assert recipe.training.threads == 2


def test_what_is_left_out_takes_its_default(folder):
    recipe = load(folder, MINIMAL)
    assert recipe.training == TrainingSection()
    assert recipe.training.dtype == "float32"
    assert recipe.data.split == "file"
    assert recipe.data.check_units
    assert recipe.data.reference_energies_ev is None
    assert recipe.network.arguments == {}


def test_reference_energies_are_given_in_the_unit_of_the_file(folder):
    energies = load(folder, TEXT).data.reference_energies_ev
    assert energies == pytest.approx(
        {z: e * 0.0433641043 for z, e in {1: -313.5, 6: -23750.0, 8: -47060.0}.items()}
    )


def test_example_of_the_documentation_is_a_recipe(folder):
    text = recipes.__doc__.split("::\n", 1)[1]
    (folder / "ethanol.npz").write_bytes(b"")
    recipe = load(folder, "\n".join(line[8:] for line in text.splitlines()))
    assert recipe.training.epochs == 500


@pytest.mark.parametrize("key", [field.name for field in fields(TrainingSection)])
def test_every_key_of_training_is_documented(key):
    assert f"        {key}: " in TrainingSection.__doc__


SLIPS = [
    ("epochs = 300", "epoch = 300", r"'epoch' is no key of \[training\]; its keys are"),
    ("forces = 20", "force = 20", r"'force' is no key of \[loss\]; .*energy, forces"),
    ("[loss]", "[losses]", r"'losses' is no key of the recipe; its keys are potential"),
    (
        "[heads.dipole]",
        "[heads.spin]",
        r"scalars states no unit of spin; add it, or write one of energy",
    ),
    ("valid = 100", "val = 100", r"'val' is no key of \[data\.split\]"),
    ("dipole =", "mu =", r"'mu' is no key of \[data\.units\]"),
    ('license = "MIT"', "", r"\[potential\] lacks the key 'license'"),
    ('kind = "painn"', "", r"\[network\] lacks the key 'kind'"),
    ("[network]", "[heads.polarizability]", "the recipe lacks the key 'network'"),
    ("epochs = 300", "epochs = 300.5", r"training\.epochs = 300\.5 .*a whole number"),
    ("epochs = 300", "epochs = true", r"training\.epochs = True .*a whole number"),
    ("learning_rate = 5e-4", 'learning_rate = "5e-4"', "is not allowed; give a number"),
    ('"plateau"', '"step"', r"training\.schedule = 'step' .*'cosine' or 'plateau'"),
    ('kind = "painn"', 'kind = "egnn"', "'egnn' is not allowed; give 'painn' or"),
    ("{ train = 1000, valid = 100, seed = 7 }", "5", "give 'file' or a table with"),
    ('"-gradient"', "3", r"data\.keys\.forces = 3 is not allowed; give text"),
    ('"kcal/mol"', '"kcal"', r"\[data\.units\]: units\.energy = 'kcal' is not known"),
    ("H = -313.5", "Hh = -313.5", r"\[data\]: 'Hh' is no chemical symbol"),
    (', dipole = "Debye"', "", r"\[heads\.dipole\] needs labels, but \[data\.units\]"),
    ("epochs = 300", "epochs = 0", r"\[training\]: epochs = 0 must be above 0"),
    ("epochs = 300", "ema_decay = 1.0", r"ema_decay = 1\.0 must lie in 0 … 1"),
    ("epochs = 300", "plateau_factor = 1.5", r"plateau_factor = 1\.5 must lie in"),
    ("epochs = 300", "warmup_steps = -1", "warmup_steps = -1 must not be below 0"),
    ("epochs = 300", "minimum_learning_rate = 1.0", "exceeds learning_rate"),
    ("forces = 20", "forces = nan", "forces = nan must not be below 0"),
    ("train = 1000", "train = 0", r"\[data\.split\]: train = 0 must be above 0"),
    ("ethanol.npz", "absent.npz", r"data\.file = 'frames/absent\.npz' is not at"),
    ("[loss]", "[loss", r"recipe\.toml: "),
]


@pytest.mark.parametrize(("right", "wrong", "message"), SLIPS)
def test_slip_is_named_with_what_is_allowed(folder, right, wrong, message):
    assert right in TEXT
    with pytest.raises(ValueError, match=message):
        load(folder, TEXT.replace(right, wrong, 1))


def test_recipe_without_heads_is_refused(folder):
    text = MINIMAL.replace("[heads.energy]", "[heads]")
    with pytest.raises(ValueError, match=r"\[heads\]: it names no head"):
        load(folder, text)


def test_missing_recipe_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no recipe"):
        load_recipe(tmp_path / "absent.toml")


def test_digest_ignores_form_place_and_budget_only(folder, tmp_path):
    digest = recipe_digest(load(folder, TEXT))
    same = TEXT.replace("[loss]", "# weights\n[loss]\nenergy = 1.0")
    same = same.replace("max_minutes = 30", "max_minutes = 90").replace(
        "threads = 2", ""
    )
    assert recipe_digest(load(folder, same)) == digest
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "frames").mkdir(parents=True)
    (elsewhere / "frames" / "ethanol.npz").write_bytes(b"")
    assert recipe_digest(load(elsewhere, TEXT)) == digest
    changes = [("n_features = 64", "n_features = 65"), ("seed = 7", "seed = 8")]
    for right, wrong in [*changes, ("forces = 20", "forces = 21")]:
        assert recipe_digest(load(folder, TEXT.replace(right, wrong))) != digest


def test_recipe_is_frozen(folder):
    recipe = load(folder, MINIMAL)
    with pytest.raises(AttributeError):
        recipe.training.epochs = np.int64(3)
