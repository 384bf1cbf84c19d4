"""What users type is what they get: keys, files, exit codes, and sentences."""

import ast
import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.vibrations import Infrared
from command_line import CommandLine, contents
from small_potentials import small_potential
from tiny_recipes import SpringWater, write_recipe, write_water_recipe

import molpool_calc
from molpool_calc import bundled_names, cli, storage
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.cli import COMMANDS, main
from molpool_calc.commands import evaluate
from molpool_calc.commands.frames import reference_values
from molpool_calc.storage import load_potential, save_potential
from molpool_calc.training.train import Trainer
from molpool_calc.units import COULOMB, DEBYE

PACKAGE = Path(molpool_calc.__file__).parent
NAMES = [command.NAME for command in COMMANDS]


@pytest.fixture
def molpool(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture(scope="session")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A potential of H, C, N, O with random weights, for neutral molecules."""
    folder = tmp_path_factory.mktemp("cli") / "random"
    save_potential(small_potential(total_charges=(0,), name="random"), folder)
    return folder


@pytest.fixture(scope="session")
def water(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A potential trained by the command line on ``SpringWater``."""
    folder = tmp_path_factory.mktemp("cli") / "water"
    recipe = write_water_recipe(folder.parent / "recipe")
    assert main(["train", str(recipe), "--out", str(folder)]) == 0
    return folder


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


@pytest.fixture
def methanol(tmp_path: Path) -> Path:
    path = tmp_path / "methanol.xyz"
    ase.io.write(path, molecule("CH3OH"))
    return path


# --- all commands


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example(
    molpool: CommandLine, name: str
) -> None:
    called = molpool(name, "--help")
    assert called.code == 0
    assert "example" in called.out
    assert f"molpool {name}" in called.out.partition("example")[2]
    assert called.err == ""


def test_the_program_names_all_commands_and_its_version(molpool: CommandLine) -> None:
    for name in NAMES:
        assert f"    {name} " in molpool("--help").out
    assert molpool("--version").out == f"molpool {molpool_calc.__version__}\n"


def test_starting_imports_nothing_heavy() -> None:
    light = {"molpool_calc._version", "molpool_calc.units", "tqdm"}
    for path in [PACKAGE / "cli.py", *sorted((PACKAGE / "commands").glob("*.py"))]:
        if path.name in {"describe.py", "frames.py", "structures.py"}:
            continue  # imported inside run
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                assert (
                    name in light
                    or name.startswith("molpool_calc.commands")
                    or name.partition(".")[0] in sys.stdlib_module_names
                ), f"{path.name} imports {name}"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "the following arguments are required: COMMAND; see molpool --help"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["vib"], "required: SYSTEM; see molpool vib --help"),
        (["vib", "ethanol", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["relax", "ethanol", "--out", "x.xyz", "--fmax", "-1"], "'-1' is not allowed"),
        (["relax", "ethanol", "--out", "x.xyz", "--steps", "0"], "'0' is not allowed"),
        (["eval", "p", "f", "--units", "eV"], "'eV' is not of the form energy=eV"),
    ],
)
def test_wrong_usage_is_one_sentence(
    molpool: CommandLine, words: list[str], part: str
) -> None:
    assert part in molpool.refused(*words)


def test_a_bug_is_not_taken_for_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli.COMMANDS[0], "run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["list"])


def test_ctrl_c_exits_with_130(
    molpool: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli.COMMANDS[0], "run", interrupted)
    called = molpool("list")
    assert (called.code, called.sentence) == (130, "interrupted")


def test_the_module_is_the_program() -> None:
    words = [sys.executable, "-m", "molpool_calc", "info", "nothing-of-that-name"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("molpool: there is no potential")


# --- list and info


def test_list_describes_every_bundled_potential(
    molpool: CommandLine, monkeypatch: pytest.MonkeyPatch, water: Path
) -> None:
    monkeypatch.setattr(storage, "bundled_folder", lambda: water.parent)
    result = molpool("list", "--json").json
    (described,) = result["potentials"]
    expected = {"name", "network", "pooling", "elements", "level_of_theory"}
    expected |= {"properties", "errors", "n_parameters"}
    assert described.keys() == expected
    assert (described["network"], described["pooling"]) == ("painn", "sum")
    assert described["elements"] == ["H", "O"]
    assert {"energy", "forces", "dipole"} <= set(described["properties"])
    assert described["errors"]["forces"]["unit"] == "eV/Angstrom"
    assert "ethanol" in result["molecules"]


def test_list_prints_errors_in_the_units_of_its_header(
    molpool: CommandLine, monkeypatch: pytest.MonkeyPatch, water: Path
) -> None:
    monkeypatch.setattr(storage, "bundled_folder", lambda: water.parent)
    lines = molpool("list").out.splitlines()
    assert lines[0].split()[-3:] == ["energy", "forces", "dipole"]
    assert lines[1].split() == ["meV", "meV/Å", "mD"]
    errors = load_potential(water).spec.errors
    shown = [float(word) for word in lines[3].split()[-3:]]
    meant = [1e3 * errors[name]["mae"] for name in ("energy", "forces", "dipole")]
    meant[2] /= DEBYE
    assert shown == pytest.approx(meant, rel=0.006)


def test_list_works_without_potentials(
    molpool: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage, "bundled_folder", lambda: tmp_path)
    assert molpool("list", "--json").json["potentials"] == []
    assert "no bundled potentials" in molpool("list").out


def test_info_says_what_list_says_and_more(molpool: CommandLine, water: Path) -> None:
    called = molpool("info", water, "--json")
    assert called.code == 0
    result = called.json
    on_disk = json.loads((water / "potential.json").read_text())
    assert result["sha256"] == on_disk["sha256"]
    assert result["cutoff"] == 4.0
    assert result["units"]["energy"] == "eV"
    assert result["n_parameters"] == on_disk["n_parameters"]
    assert result["errors"] == on_disk["errors"]
    card = molpool("info", water).out
    assert on_disk["sha256"] in card
    assert "H, O" in card


# --- eval


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


# --- relax and vib


def test_relax_finds_the_minimum(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    out = tmp_path / "relaxed.xyz"
    called = molpool("relax", "water", "-p", water, "--out", out, "--json")
    assert (called.code, called.err) == (0, "")
    result = called.json
    assert result["converged"]
    assert result["fmax"] < 0.01
    assert result["n_steps"] > 0
    relaxed = ase.io.read(out)
    exact = SpringWater().minimum().get_all_distances()
    np.testing.assert_allclose(relaxed.get_all_distances(), exact, atol=0.02)
    assert relaxed.get_potential_energy() == pytest.approx(result["energy_ev"])
    calculator = MolPoolCalculator(water, device="cpu", dtype="float64")
    forces = calculator.get_forces(relaxed)
    assert np.linalg.norm(forces, axis=1).max() == pytest.approx(
        result["fmax"], abs=1e-5
    )


def test_relax_says_so_where_it_did_not_converge(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    out = tmp_path / "relaxed.xyz"
    called = molpool(
        *("relax", "water", "-p", water, "--out", out, "--json"),
        *("--fmax", "1e-9", "--steps", "1"),
    )
    assert called.code == 0
    assert not called.json["converged"]
    assert called.json["n_steps"] == 1
    assert called.sentence.startswith("not converged")
    assert out.exists()


def test_vib_agrees_with_finite_differences_of_ase(
    molpool: CommandLine, water: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--fmax", "1e-6", "--out", "w.extxyz"]
    assert molpool("relax", "water", "-p", water, *options).code == 0
    called = molpool("vib", "w.extxyz", "-p", water, "--no-relax", "--json")
    assert (called.code, called.err) == (0, "")
    result = called.json
    atoms = ase.io.read("w.extxyz")
    atoms.calc = MolPoolCalculator(water, device="cpu", dtype="float64")
    infrared = Infrared(atoms, delta=0.002, nfree=4)
    infrared.run()
    expected = infrared.get_frequencies().real[6:]
    np.testing.assert_allclose(result["wavenumbers_cm1"], expected, rtol=1e-4)
    # (D/Å)²/amu to km/mol
    strengths = 42.2561 * infrared.intensities[6:]
    np.testing.assert_allclose(result["ir_km_mol"], strengths, rtol=1e-3, atol=0.01)
    moment = np.linalg.norm(atoms.get_dipole_moment()) / DEBYE
    assert result["dipole_debye"] == pytest.approx(moment, rel=1e-6)
    zero_point = 0.5 * expected.sum() * 1.2398419739e-4
    assert result["zpe_ev"] == pytest.approx(zero_point, rel=1e-4)


def test_vib_resembles_what_was_learned(molpool: CommandLine, water: Path) -> None:
    result = molpool("vib", "water", "-p", water, "--json").json
    exact = SpringWater().harmonic()
    np.testing.assert_allclose(
        result["wavenumbers_cm1"], exact.wavenumbers_cm1, rtol=0.15
    )
    assert sum(result["ir_km_mol"]) == pytest.approx(exact.ir_km_mol.sum(), rel=0.5)
    # the breathing of all three springs dominates the Raman spectrum
    assert np.argmax(result["raman_a4_amu"]) == 2
    assert result["fmax"] <= 1e-4


def test_vib_prints_a_table_with_the_measured_fundamentals(
    molpool: CommandLine, water: Path
) -> None:
    lines = molpool("vib", "water", "-p", water).out.splitlines()
    header = next(line for line in lines if line.startswith("mode"))
    assert header.split() == ["mode", "wavenumber", "infrared", "Raman", "experiment"]
    rows = [line.split() for line in lines if line.startswith("   ")][1:]
    assert [row[-1] for row in rows] == ["1595", "3657", "3756"]
    assert any("Shimanouchi" in line for line in lines)


def test_vib_gives_imaginary_wavenumbers_as_negative_numbers(
    molpool: CommandLine, potential: Path, methanol: Path
) -> None:
    called = molpool("vib", methanol, "-p", potential, "--no-relax", "--json")
    assert called.code == 0
    result = called.json
    assert len(result["wavenumbers_cm1"]) == len(result["ir_km_mol"]) == 12
    assert result["raman_a4_amu"] is None
    assert min(result["wavenumbers_cm1"]) < 0
    first, second = called.err.splitlines()
    assert "imaginary" in first
    assert "leave out --no-relax" in second


def test_vib_is_stopped_where_there_is_no_minimum_to_be_found(
    molpool: CommandLine, potential: Path, methanol: Path
) -> None:
    called = molpool("vib", methanol, "-p", potential, "--steps", "1", "--json")
    assert called.code == 3
    assert called.json["status"] == "stopped"
    assert called.sentence.startswith("the relaxation did not reach 0.0001 eV/Å")


def test_vib_without_a_dipole_head_has_wavenumbers_only(
    molpool: CommandLine, tmp_path: Path
) -> None:
    save_potential(
        small_potential(heads=("energy",), total_charges=(0,)), tmp_path / "p"
    )
    words = ["vib", "methanol", "-p", tmp_path / "p", "--no-relax"]
    result = molpool(*words, "--json").json
    assert len(result["wavenumbers_cm1"]) == 12
    assert result["ir_km_mol"] is None
    assert result["dipole_debye"] is None
    assert "infrared" not in molpool(*words).out


def test_a_molecule_never_seen_in_training_gets_a_remark(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    atoms = molecule("H2")
    ase.io.write(tmp_path / "h2.xyz", atoms)
    called = molpool("vib", tmp_path / "h2.xyz", "-p", water, "--no-relax", "--json")
    assert "trained on H2O and has never seen H2" in called.err.splitlines()[0]


# --- train


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
    recipe = write_recipe(tmp_path / "recipe", epochs=100_000)
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


# --- wrong input: one sentence, exit code 2, nothing overwritten


def bad_structure(kind: str) -> Atoms:
    atoms = molecule("H2O")
    if kind == "charged":
        atoms.info["charge"] = 1
    elif kind == "element":
        atoms = molecule("CH3Cl")
    elif kind == "nan":
        atoms.positions[1, 2] = np.nan
    elif kind == "radical":
        atoms.info["num_unpaired"] = 1
    elif kind == "periodic":
        atoms.center(3.0)
        atoms.pbc = True
    return Atoms() if kind == "empty" else atoms


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("charged", "the system has the charge 1, but random was trained on charges 0"),
        ("element", "element 17 (Cl) is not covered by random, which knows H, C, N, O"),
        ("nan", "atom 1 is at"),
        ("radical", "1 unpaired electrons"),
        ("empty", "has no atoms"),
        ("periodic", "the system is periodic, but vib is for molecules"),
    ],
)
@pytest.mark.parametrize("command", ["relax", "vib", "eval"])
def test_unfit_structures_are_refused(
    molpool: CommandLine,
    potential: Path,
    tmp_path: Path,
    kind: str,
    part: str,
    command: str,
) -> None:
    if kind == "periodic" and command != "vib":
        pytest.skip("only vib refuses periodic systems")
    path = tmp_path / "bad.traj"
    ase.io.write(path, bad_structure(kind))
    words = {
        "relax": ["relax", path, "-p", potential, "--out", tmp_path / "out.xyz"],
        "vib": ["vib", path, "-p", potential],
        "eval": ["eval", potential, path, "--out", tmp_path / "out.xyz"],
    }
    assert part in molpool.refused(*words[command])
    assert [p.name for p in tmp_path.iterdir()] == ["bad.traj"]


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        ("missing", "there is no potential"),
        ("no weights", "weights.safetensors cannot be read"),
        ("cut weights", "weights.safetensors has the SHA-256"),
        ("other weights", "weights.safetensors has the SHA-256"),
        ("not JSON", "potential.json cannot be read as JSON"),
        ("unknown key", "potential.json has the unknown key 'colour'"),
    ],
)
def test_damaged_potentials_are_refused(
    molpool: CommandLine, potential: Path, tmp_path: Path, damage: str, part: str
) -> None:
    folder = tmp_path / "p"
    save_potential(load_potential(potential), folder)
    weights, spec = folder / "weights.safetensors", folder / "potential.json"
    content = json.loads(spec.read_text())
    if damage == "missing":
        folder = tmp_path / "nowhere"
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif damage == "other weights":
        changed = bytearray(weights.read_bytes())
        changed[-1] ^= 1
        weights.write_bytes(bytes(changed))
    elif damage == "not JSON":
        spec.write_text("{")
    else:
        spec.write_text(json.dumps({**content, "colour": "blue"}))
    for words in (["info", folder], ["vib", "water", "-p", folder]):
        assert part in molpool.refused(*words)


@pytest.mark.parametrize("command", ["relax", "vib"])
def test_unknown_systems_are_refused(
    molpool: CommandLine, potential: Path, tmp_path: Path, command: str
) -> None:
    out = ["--out", tmp_path / "x.xyz"] if command == "relax" else []
    sentence = molpool.refused(command, "ethanole", "-p", potential, *out)
    assert sentence.startswith("there is no structure 'ethanole'")
    assert "ethanol-gauche" in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_a_potential_of_its_own_needs_one(
    molpool: CommandLine,
) -> None:
    assert "add -p" in molpool.refused("vib", "ammonia")


def test_a_potential_without_energy_cannot_relax(
    molpool: CommandLine, tmp_path: Path
) -> None:
    save_potential(small_potential(heads=("dipole",)), tmp_path / "p")
    sentence = molpool.refused("vib", "water", "-p", tmp_path / "p")
    assert "predicts dipole but no energy" in sentence


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_unknown_devices_are_refused(
    molpool: CommandLine, potential: Path, device: str
) -> None:
    sentence = molpool.refused("vib", "water", "-p", potential, "--device", device)
    assert f"device '{device}'" in sentence


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("taken.xyz", "taken.xyz exists already"),
        ("folder", "folder is a folder"),
        ("nowhere/x.xyz", "there is no folder"),
        ("taken.xyz/x.xyz", "there is no folder"),
    ],
)
@pytest.mark.parametrize("command", ["relax", "eval"])
def test_files_that_cannot_be_written_are_refused_before_any_work(
    molpool: CommandLine,
    potential: Path,
    methanol: Path,
    tmp_path: Path,
    name: str,
    part: str,
    command: str,
) -> None:
    (tmp_path / "taken.xyz").write_text("precious")
    (tmp_path / "folder").mkdir()
    words = {
        "relax": ["relax", methanol, "-p", potential],
        "eval": ["eval", potential, methanol],
    }
    before = contents(tmp_path)
    assert part in molpool.refused(*words[command], "--out", tmp_path / name)
    assert contents(tmp_path) == before


def test_force_replaces_a_file(
    molpool: CommandLine, potential: Path, methanol: Path
) -> None:
    out = methanol.with_name("out.extxyz")
    out.write_text("old")
    words = ["eval", potential, methanol, "--out", out]
    assert "--force" in molpool.refused(*words)
    assert out.read_text() == "old"
    assert molpool(*words, "--force").code == 0
    assert len(ase.io.read(out)) == 6


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("x.abc", "ASE cannot write"),
        ("x", "is not known"),
        ("x.gen.nothing", "ASE cannot write"),
    ],
)
def test_formats_that_ase_cannot_write_are_refused(
    molpool: CommandLine, potential: Path, tmp_path: Path, name: str, part: str
) -> None:
    words = ["relax", "water", "-p", potential, "--out", tmp_path / name]
    assert part in molpool.refused(*words)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("{file} ", "does not say what units it is in"),
        ("{file} --units energy=eV", "states no unit of length"),
        ("{file} --units length=Angstrom mass=amu", "a unit of 'mass', which is no"),
        ("{file} --units length=Angstrom energy=erg", "units.energy = 'erg' is not k"),
        ("{file} --units length=Bohr energy=eV", "length"),
        ("{file} --units length=Angstrom energy=eV --split nix", "no part 'nix'"),
        ("{folder}/no.npz --units length=Angstrom", "there is no file"),
        ("{folder}/damaged.npz --units length=Angstrom", "is no npz file, or damaged"),
        ("{folder}/damaged.h5 --units length=Angstrom", "damaged.h5 cannot be read"),
        ("{folder}/damaged.db --units length=Angstrom", "damaged.db cannot be read"),
        ("{folder}/damaged.xyz", "frame 0 of"),
        ("{folder}/empty.xyz", "cannot be read (Empty file"),
    ],
)
def test_data_that_cannot_be_read_are_refused(
    molpool: CommandLine, potential: Path, tmp_path: Path, words: str, part: str
) -> None:
    recipe = write_recipe(tmp_path)
    for suffix in (".npz", ".h5", ".db", ".xyz"):
        (tmp_path / f"damaged{suffix}").write_text("3\n\nthis is no structure\n")
    (tmp_path / "empty.xyz").write_text("")
    file = recipe.with_name("ethanol_120.npz")
    filled = words.format(file=file, folder=tmp_path).split()
    assert part in molpool.refused("eval", potential, *filled)


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("epochs =", "epoch =", "'epoch' is no key of [training]"),
        ('energy = "eV"', 'energy = "erg"', "units.energy = 'erg' is not known"),
        ('kind = "painn"', 'kind = "gnn"', "give 'painn' or 'schnet'"),
        ("n_features = 4", "n_feature = 4", "network painn"),
        ("[heads.dipole]", "[heads.charm]", "'charm' is no key of [heads]"),
        ("ethanol_120", "ethanol_121", "ethanol_121.npz"),
        ("[data]", "[data", "tiny.toml"),
        ("train = 16", "train = 1600", "the data has 120"),
    ],
)
def test_wrong_recipes_are_refused(
    molpool: CommandLine, tmp_path: Path, old: str, new: str, part: str
) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new, 1))
    assert part in molpool.refused("train", recipe, "--out", tmp_path / "p")
    assert not (tmp_path / "p" / "potential.json").exists()


def test_missing_recipes_are_refused(molpool: CommandLine, tmp_path: Path) -> None:
    words = ["train", tmp_path / "no.toml", "--out", tmp_path / "p"]
    assert "there is no recipe" in molpool.refused(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ([], "is not empty; give another folder, --resume to continue, or --force"),
        (["--resume", "--force"], "give one of the two"),
    ],
)
def test_a_folder_in_use_is_left_as_it_is(
    molpool: CommandLine, water: Path, options: list[str], part: str
) -> None:
    before = contents(water)
    recipe = water.parent / "recipe" / "tiny.toml"
    assert part in molpool.refused("train", recipe, "--out", water, *options)
    assert contents(water) == before


def test_resuming_needs_something_to_resume(
    molpool: CommandLine, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    words = ["train", recipe, "--out", tmp_path / "p", "--resume"]
    assert "holds no checkpoint.pt to resume" in molpool.refused(*words)
    assert not (tmp_path / "p").exists()


def test_resuming_with_another_recipe_is_refused(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    other = write_water_recipe(tmp_path, epochs=41)
    before = contents(water)
    words = ["train", other, "--out", water, "--resume"]
    assert "belongs to another recipe" in molpool.refused(*words)
    assert contents(water) == before


@pytest.mark.parametrize("name", ["file.txt", "file.txt/below"])
def test_a_folder_that_cannot_be_made_is_refused(
    molpool: CommandLine, tmp_path: Path, name: str
) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    (tmp_path / "file.txt").write_text("precious")
    sentence = molpool.refused("train", recipe, "--out", tmp_path / name)
    assert "is a file" in sentence or "cannot be made" in sentence
    assert (tmp_path / "file.txt").read_text() == "precious"


# --- import


def test_import_writes_a_potential_that_computes(
    molpool: CommandLine, tmp_path: Path
) -> None:
    raw = Path(__file__).parents[2] / "shared" / "weights" / "raw"
    file = raw / "schnetpack_painn_rmd17_ethanol_1.best_model"
    if not file.is_file():
        pytest.skip("the published weights are not here")
    out = tmp_path / "spk"
    words = ["import", "schnetpack", file, "--out", out]
    assert "unit" in molpool.refused(*words)
    assert not (out / "potential.json").exists()
    elements = ["--elements", "H", "C", "O"]
    called = molpool(*words, "--unit", "kcal/mol", *elements, "--json")
    assert called.code == 0
    assert called.json["name"] == "spk"
    assert called.json["elements"] == ["H", "C", "O"]
    assert called.json["sha256"] == molpool("info", out, "--json").json["sha256"]
    assert (out / "README.md").is_file()
    assert "--force" in molpool.refused(*words, "--unit", "kcal/mol")
    vibrations = molpool("vib", "ethanol", "-p", out, "--json").json
    assert len(vibrations["wavenumbers_cm1"]) == 21
    assert 3600 < vibrations["wavenumbers_cm1"][-1] < 4000


def test_import_refuses_what_is_no_model(molpool: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "best_model"
    words = ["import", "schnetpack", file, "--unit", "eV", "--out", tmp_path / "p"]
    assert "there is no file" in molpool.refused(*words)
    file.write_bytes(b"no model")
    assert "best_model" in molpool.refused(*words)
    assert not (tmp_path / "p" / "potential.json").exists()


# --- the bundled potentials, against the literature


@pytest.mark.skipif(
    "painn-formaldehyde" not in bundled_names(), reason="not bundled yet"
)
def test_formaldehyde_has_the_harmonic_wavenumbers_of_the_literature(
    molpool: CommandLine,
) -> None:
    result = molpool("vib", "formaldehyde", "--json").json
    # CCSD(T)/cc-pVQZ, Martin, Lee & Taylor, J. Mol. Spectrosc. 160, 105 (1993)
    expected = [1187, 1269, 1544, 1778, 2937, 3010]
    np.testing.assert_allclose(result["wavenumbers_cm1"], expected, atol=20)
    assert result["dipole_debye"] == pytest.approx(2.41, abs=0.03)
