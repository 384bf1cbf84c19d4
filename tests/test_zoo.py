"""Every bundled potential: whole, reproducible, and as accurate as its card says."""

import hashlib
import json

import ase.io
import numpy as np
import pytest
from ase import Atoms

from molpool_calc import MolPoolCalculator, bundled_names, load_potential
from molpool_calc.storage import bundled_folder, read_json
from molpool_calc.training.recipe import load_recipe
from molpool_calc.units import COULOMB

TOLERANCES = {"energy": 1e-5, "forces": 1e-6, "dipole": 1e-6, "polarizability": 1e-6}
"""In eV, eV/Å, e·Å, e²Å²/eV: the digits an extxyz file keeps; float64 is finer."""

MARGIN = 4.0
"""A handful of frames may have this times the mean error of the whole test part."""

if not bundled_names():
    pytest.skip("there is no bundled potential yet", allow_module_level=True)


@pytest.fixture(params=bundled_names())
def name(request) -> str:
    return request.param


def card(name: str) -> str:
    path = bundled_folder() / name / "README.md"
    if not path.is_file():
        pytest.skip(f"{name} has no card yet")
    return path.read_text(encoding="utf-8")


def reference_frames(name: str) -> list[Atoms]:
    path = bundled_folder() / name / "reference.extxyz"
    if not path.is_file():
        pytest.skip(f"{name} has no reference frames yet")
    return ase.io.read(path, ":")


def results_of(frame: Atoms) -> dict[str, object]:
    """What its calculator says; properties that ASE has no name for are in info."""
    return {} if frame.calc is None else frame.calc.results


def test_the_folder_loads_and_bears_its_name(name):
    """Loading checks the hash, the keys and every tensor."""
    potential = load_potential(name)
    assert potential.spec.name == name
    assert potential.spec.elements
    assert potential.spec.license not in {"", "not stated"}
    assert potential.spec.level_of_theory not in {"", "not stated"}
    assert potential.spec.description.endswith(".")


def test_the_folder_holds_data_only(name):
    allowed = {".json", ".safetensors", ".md", ".csv", ".svg", ".extxyz", ".toml"}
    allowed |= {".npz"}  # the frames it was trained on, where they are ours
    folder = bundled_folder() / name
    assert {path.suffix for path in folder.iterdir()} <= allowed
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6e6


def test_nothing_in_the_folder_names_a_place_of_the_machine_it_was_made_on(name):
    for path in (bundled_folder() / name).iterdir():
        if path.suffix not in {".safetensors", ".npz"}:
            text = path.read_text(encoding="utf-8")
            for place in ("/home/", "/root/", "/tmp/", "/work/", "/Users/"):
                assert place not in text, f"{path.name} holds {place}"


def test_training_frames_beside_a_potential_are_those_it_was_trained_on(name):
    """So that ``molpool train`` repeats the recipe from the folder alone."""
    folder = bundled_folder() / name
    stored = list(folder.glob("*.npz"))
    if not stored:
        pytest.skip(f"{name} was trained on data that are not shipped")
    recipe = load_recipe(folder / "recipe.toml")
    trained_on = read_json(folder)["training_data"]
    assert stored == [recipe.data_path]
    digest = hashlib.sha256(recipe.data_path.read_bytes()).hexdigest()
    assert digest == trained_on["sha256"]
    assert recipe.data_path.name == trained_on["file"]


@pytest.mark.parametrize("mode", ["never", "now"])
def test_the_predictions_of_its_release_are_reproduced(name, mode, native_builds):
    frames = reference_frames(name)
    assert len(frames) >= 3
    scalars = dict.fromkeys(load_potential(name).scalars, 1e-5)
    tolerances = {**TOLERANCES, **scalars}
    calc = MolPoolCalculator(name, device="cpu", dtype="float64", compile=mode)
    for number, frame in enumerate(frames):
        atoms = frame.copy()
        atoms.calc = calc
        expected = {**results_of(frame), **frame.info}
        compared = expected.keys() & tolerances.keys()
        assert {"energy", "forces"} <= compared or compared in ({"dipole"}, {*scalars})
        for key in compared:
            np.testing.assert_allclose(
                calc.get_property(key, atoms),
                expected[key],
                rtol=0,
                atol=tolerances[key],
                err_msg=f"{key} of frame {number}",
            )


def test_float32_is_as_good_as_the_errors_that_are_stated(name):
    """Rounding must stay far below the error against the level of theory."""
    single = MolPoolCalculator(name, device="cpu", dtype="float32")
    double = MolPoolCalculator(name, device="cpu", dtype="float64")
    errors = read_json(bundled_folder() / name)["errors"]
    frames = [frame.copy() for frame in reference_frames(name)]
    for a, b in zip(
        single.calculate_many(frames), double.calculate_many(frames), strict=True
    ):
        for key in errors.keys() & a.keys():
            difference = np.abs(np.asarray(a[key]) - b[key]).max()
            assert difference < 0.1 * errors[key]["mae"], key


def test_errors_of_the_reference_frames_are_of_the_size_that_is_stated(name):
    errors = read_json(bundled_folder() / name)["errors"]
    differences: dict[str, list[float]] = {}
    for frame in reference_frames(name):
        results = {**frame.info, **frame.arrays, **results_of(frame)}
        for key in errors.keys() & results.keys():
            true = results.get(f"reference_{key}")
            if true is not None:
                found = np.abs(np.asarray(results[key]) - true).ravel()
                differences.setdefault(key, []).extend(found)
    if not differences:
        pytest.skip(f"{name} may not ship reference values of others")
    assert differences.keys() == errors.keys()
    for key, found in differences.items():
        assert np.mean(found) < MARGIN * errors[key]["mae"], key


def test_the_card_names_what_the_potential_is_and_its_errors(name):
    text, content = card(name), read_json(bundled_folder() / name)
    assert text.startswith(f"# {name}\n")
    assert content["description"].split()[0] in text
    for entry in ("level_of_theory", "license", "sha256"):
        assert str(content[entry]) in text, entry
    for symbol in content["elements"]:
        assert symbol in text
    shown_in = {"eV": 1000.0, "eV/Angstrom": 1000.0, "e^2*Angstrom^2/eV": COULOMB}
    for key, error in content["errors"].items():
        shown = f"{shown_in.get(error['unit'], 1.0) * error['mae']:.4g}"
        assert shown in text, f"{key}: {shown}"


def test_errors_are_positive_and_in_units_of_the_package(name):
    units = {
        "energy": "eV",
        "forces": "eV/Angstrom",
        "dipole": "e*Angstrom",
        "polarizability": "e^2*Angstrom^2/eV",
        **load_potential(name).scalars,
    }
    for key, error in read_json(bundled_folder() / name)["errors"].items():
        assert error["unit"] == units[key]
        assert 0 < error["mae"] <= error["rmse"] <= error["max"]


def test_the_learning_curve_is_there_where_we_trained_it(name):
    content = read_json(bundled_folder() / name)
    if content.get("source"):
        pytest.skip("imported weights have no learning curve")
    path = bundled_folder() / name / "learning_curve.csv"
    if not path.is_file():
        pytest.skip(f"{name} has no learning curve yet")
    lines = path.read_text().splitlines()
    assert len(lines) > 2
    assert "epoch" in lines[0]


def test_the_sizes_of_all_folders_together_stay_small():
    total = sum(p.stat().st_size for p in bundled_folder().rglob("*") if p.is_file())
    assert total < 20e6


def test_names_in_the_list_are_those_of_the_folders():
    folders = sorted(p.name for p in bundled_folder().iterdir() if p.is_dir())
    assert bundled_names() == folders
    for name in folders:
        text = (bundled_folder() / name / "potential.json").read_text()
        assert json.loads(text)["name"] == name
