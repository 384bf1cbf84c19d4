"""``molpool eval``: errors of known size are found, predictions are written."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from command_line import CommandLine
from tiny_recipes import SpringWater, write_recipe

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.commands import evaluate
from molpool_calc.commands.frames import reference_values


@pytest.fixture
def frames(tmp_path: Path, potential: Path) -> tuple[Path, list[Atoms]]:
    """Frames whose reference values lie beside the predictions by known amounts."""
    calculator = MolPoolCalculator(potential, device="cpu", dtype="float64")
    structures = [molecule(name) for name in ("CH3CH2OH", "H2O", "CH4", "HCN", "CO")]
    for atoms in structures:
        atoms.positions = atoms.positions.round(8)  # as extended XYZ holds them
    for k, atoms in enumerate(structures):
        (results,) = calculator.calculate_many([atoms])
        sign = 1 if k % 2 else -1
        atoms.info["tag"] = f"frame-{k}"
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=results["energy"] + sign * 0.1 * (k + 1),
            forces=results["forces"] + sign * 0.02,
            dipole=results["dipole"] + [0.03, 0.0, 0.0],
        )
    path = tmp_path / "frames.extxyz"
    ase.io.write(path, structures)
    return path, structures


def test_eval_finds_the_known_differences(
    molpool: CommandLine, potential: Path, frames: tuple[Path, list[Atoms]]
) -> None:
    called = molpool("eval", potential, frames[0], "--dtype", "float64", "--json")
    assert (called.code, called.err) == (0, "")
    result = called.json
    assert result["n_frames"] == len(result["energy_ev"]) == 5
    energy, forces, dipole = (
        result["errors"][name] for name in ("energy", "forces", "dipole")
    )
    offsets = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert energy["mae"] == pytest.approx(offsets.mean(), rel=1e-6)
    assert energy["rmse"] == pytest.approx(np.sqrt((offsets**2).mean()), rel=1e-6)
    assert energy["max"] == pytest.approx(0.5, rel=1e-6)
    assert [forces[k] for k in ("mae", "rmse", "max")] == pytest.approx([0.02] * 3)
    assert dipole["mae"] == pytest.approx(0.01)
    assert dipole["max"] == pytest.approx(0.03)


def test_eval_reads_reference_values_from_info_and_arrays_too(
    molpool: CommandLine, potential: Path, tmp_path: Path
) -> None:
    atoms = molecule("H2O")
    calculator = MolPoolCalculator(potential, device="cpu")
    (results,) = calculator.calculate_many([atoms])
    atoms.info["energy"] = results["energy"] - 0.25
    path = tmp_path / "water.traj"
    ase.io.write(path, atoms)
    errors = molpool("eval", potential, path, "--json").json["errors"]
    assert errors.keys() == {"energy"}
    assert errors["energy"]["mae"] == pytest.approx(0.25, rel=1e-5)
    atoms.arrays["forces"] = np.ones((3, 3))
    atoms.info["dipole"] = [1.0, 0.0, 0.0]
    assert reference_values(atoms).keys() == {"energy", "forces", "dipole"}


def test_dipoles_of_ions_are_not_compared() -> None:
    atoms = molecule("H2O")
    atoms.info |= {"dipole": [1.0, 0.0, 0.0], "charge": 1}
    assert reference_values(atoms) == {}


def test_eval_writes_the_predictions_beside_the_reference_values(
    molpool: CommandLine,
    potential: Path,
    frames: tuple[Path, list[Atoms]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluate, "FRAMES_PER_CHUNK", 2)  # 5 frames, three chunks
    path, given = frames
    out = tmp_path / "predicted.extxyz"
    options = ["--dtype", "float64", "--json", "--out", out]
    result = molpool("eval", potential, path, *options).json
    written = ase.io.read(out, index=":")
    assert [atoms.info["tag"] for atoms in written] == [a.info["tag"] for a in given]
    calculator = MolPoolCalculator(potential, device="cpu", dtype="float64")
    for energy, before, after in zip(result["energy_ev"], given, written, strict=True):
        (expected,) = calculator.calculate_many([after])
        assert after.get_potential_energy() == pytest.approx(energy, abs=1e-9)
        assert after.get_potential_energy() == pytest.approx(expected["energy"])
        np.testing.assert_allclose(after.get_forces(), expected["forces"], atol=1e-7)
        assert after.info["reference_energy"] == before.get_potential_energy()
        np.testing.assert_allclose(
            after.arrays["reference_forces"], before.get_forces(), atol=1e-7
        )
    again = molpool("eval", potential, out, "--dtype", "float64", "--json").json
    assert again["errors"]["energy"]["max"] < 1e-6
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, out.name]


def test_eval_of_the_training_file_repeats_the_errors_of_the_card(
    molpool: CommandLine, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "recipe", epochs=1)
    data = recipe.parent / "ethanol_120.npz"
    text = recipe.read_text().replace(
        "split = { train = 16, valid = 6, test = 7, seed = 3 }", 'split = "file"'
    )
    recipe.write_text(text)
    trained = molpool("train", recipe, "--out", tmp_path / "p", "--json").json
    units = ["length=Angstrom", "energy=eV", "dipole=e*Angstrom"]
    errors = molpool(
        *("eval", tmp_path / "p", data, "--split", "test", "--json"),
        *("--units", *units),
    ).json["errors"]
    for name, error in trained["errors"].items():
        assert errors[name]["mae"] == pytest.approx(error["mae"], rel=1e-4)


def test_eval_includes_polarizabilities(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    atoms = SpringWater().minimum()
    atoms.info["polarizability"] = SpringWater().labels(atoms.positions)[
        "polarizability"
    ]
    ase.io.write(tmp_path / "w.extxyz", atoms)
    errors = molpool("eval", water, tmp_path / "w.extxyz", "--json").json["errors"]
    assert 0 < errors["polarizability"]["mae"] < 0.1


def test_eval_names_the_frame_it_cannot_compute(
    molpool: CommandLine, potential: Path, tmp_path: Path
) -> None:
    path = tmp_path / "some.xyz"
    ase.io.write(path, [molecule("H2O"), molecule("CH4"), molecule("CH3Cl")])
    sentence = molpool.refused("eval", potential, path, "--out", tmp_path / "o.xyz")
    assert sentence.startswith("frame 2: element 17 (Cl) is not covered by random")
    assert not (tmp_path / "o.xyz").exists()
    assert len(list(tmp_path.iterdir())) == 1
