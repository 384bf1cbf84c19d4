"""Wrong input: one sentence, exit code 2, nothing overwritten."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from command_line import CommandLine, contents
from small_potentials import small_potential
from tiny_recipes import write_recipe

from molpool_calc.storage import load_potential, save_potential


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
