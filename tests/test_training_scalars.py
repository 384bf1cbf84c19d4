"""Training of further molecular properties, each with a pooling of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import DATA, HEADS, write_recipe

from molpool_calc.storage import load_potential, save_potential
from molpool_calc.training.recipe import load_recipe
from molpool_calc.training.train import Trainer

SCALARS = 'scalars = { gap = "Hartree", charge_on_o = "1" }'
GAP = '[heads.gap]\npooling = "softmax"\n'


def labelled(folder: Path) -> Path:
    """Ethanol with a made-up gap, a number without unit, and fractions of atoms."""
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(DATA) as archive:
        arrays = {name: archive[name] for name in archive.files}
    distances = np.linalg.norm(arrays["R"][:, 2] - arrays["R"][:, 1], axis=1)
    fractions = np.zeros(arrays["R"].shape[:2])
    fractions[:, 2], fractions[:, 1] = 0.7, 0.3
    path = folder / "scalars.npz"
    own = {"gap": 0.3 + 0.1 * distances, "charge_on_o": -distances}
    np.savez(path, **arrays, **own, coeff=fractions)
    return path


def trainer(folder: Path, heads: str, units: str = SCALARS, **options) -> Trainer:
    data = labelled(folder)
    recipe = write_recipe(folder, heads=heads, units=units, data=data, **options)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return Trainer(load_recipe(recipe), out)


def test_a_scalar_is_learned_in_ev_and_its_errors_have_a_unit(tmp_path):
    made = trainer(tmp_path, GAP, loss="", epochs=12, learning_rate=2e-2)
    trained = made.run()
    spread = np.std(made.frames.dataset.scalars["gap"])
    assert trained.errors["gap"].mae < 0.6 * spread
    errors = trained.potential.spec.errors
    assert errors["gap"]["unit"] == "eV"
    gap = made.frames.dataset.scalars["gap"]
    assert 10 < gap.mean() < 14  # 0.44 Hartree
    assert "energy" not in trained.potential.properties


def test_every_head_has_its_own_pooling(tmp_path):
    heads = HEADS + (
        '\n[heads.gap]\npooling = { kind = "attention", n_hidden = 8, n_heads = 2, '
        'n_seeds = 1 }\n[heads.charge_on_o]\npooling = "mean"\n'
    )
    units = f'dipole = "e*Angstrom", {SCALARS}'
    potential = trainer(tmp_path, heads, units).run().potential
    assert {"energy", "dipole", "gap", "charge_on_o"} <= potential.properties
    save_potential(potential, tmp_path / "p")
    again = load_potential(tmp_path / "p")
    assert again.spec.heads["gap"]["pooling"]["kind"] == "attention"
    assert again.spec.pooling == "sum"


def test_a_sum_over_atoms_starts_from_what_the_elements_explain(tmp_path):
    head = trainer(tmp_path, '[heads.gap]\npooling = "sum"', loss="").spec.heads["gap"]
    assert set(head["reference_values"]) == {"1", "6", "8"}
    assert "shift" not in head


def test_a_weighted_average_needs_no_fractions(tmp_path):
    heads = '[heads.gap]\npooling = "weighted-average"\n'
    made = trainer(tmp_path, heads, loss="", epochs=1)
    assert set(made.objective.weights) == {"gap"}
    assert made.run().errors.keys() == {"gap"}


def test_the_orbital_average_learns_fractions(tmp_path):
    data = labelled(tmp_path)
    heads = '[heads.gap]\npooling = "orbital-weighted-average"\n'
    recipe = write_recipe(
        tmp_path,
        heads=heads,
        units=SCALARS,
        data=data,
        loss="",
        epochs=40,
        n_features=12,
        learning_rate=2e-2,
    )
    text = recipe.read_text().replace("[data]", '[data]\nkeys.gap_weights = "coeff"')
    recipe.write_text(text)
    (tmp_path / "out").mkdir()
    made = Trainer(load_recipe(recipe), tmp_path / "out")
    assert made.objective.weights["gap_weights"] == 10.0
    trained = made.run()
    assert trained.errors["gap_weights"].mae < 0.08
    assert trained.errors["gap_weights"].max < 0.35


def test_an_orbital_average_without_fractions_is_refused(tmp_path):
    heads = '[heads.gap]\npooling = "orbital-weighted-average"\n'
    with pytest.raises(ValueError, match=r"name them in data\.keys\.gap_weights"):
        trainer(tmp_path, heads, loss="")


def test_fractions_that_do_not_sum_to_one_are_refused(tmp_path):
    data = labelled(tmp_path)
    with np.load(data) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["coeff"][3, 1] = 0.9
    np.savez(data, **arrays)
    recipe = write_recipe(tmp_path, heads=GAP, units=SCALARS, data=data, loss="")
    text = recipe.read_text().replace("[data]", '[data]\nkeys.gap_weights = "coeff"')
    recipe.write_text(text)
    with pytest.raises(ValueError, match=r"sums to 1\.6 in frame 3"):
        Trainer(load_recipe(recipe), tmp_path)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ('scalars = { gap = "a.u." }', r"scalars\.gap = 'a\.u\.' is not allowed"),
        ('scalars = { energy = "eV" }', "for a property other than energy"),
        ('scalars = { spin = "1" }', "states no unit of gap"),
    ],
)
def test_wrong_units_of_scalars_are_refused(tmp_path, units, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, GAP, units, loss="")


def test_training_starts_from_another_potential(tmp_path):
    first = trainer(tmp_path / "a", GAP, loss="")
    save_potential(first.potential, tmp_path / "b" / "first")
    options = {"seed": 5, "start_from": "first"}
    second = trainer(tmp_path / "b", GAP, loss="", **options)
    theirs = second.potential.state_dict()
    for name, value in first.potential.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_a_start_from_another_network_is_refused(tmp_path):
    first = trainer(tmp_path / "a", GAP, loss="", n_features=6)
    save_potential(first.potential, tmp_path / "b" / "first")
    with pytest.raises(ValueError, match=r"its network has no network\."):
        trainer(tmp_path / "b", GAP, loss="", start_from="first")
