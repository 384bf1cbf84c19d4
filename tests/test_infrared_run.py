"""The main job on a small potential: files, refusals, interruption."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from command_line import contents
from small_potentials import WITH_MINIMUM, small_potential

from molpool_calc import infrared
from molpool_calc.cli import main
from molpool_calc.harmonic_file import read_harmonic
from molpool_calc.infrared import run_infrared
from molpool_calc.infrared_job import InfraredJob
from molpool_calc.run_spectrum import spectrum_of_run
from molpool_calc.spectra import read_spectrum
from molpool_calc.storage import save_potential

FILES = {
    *("spectrum.csv", "spectrum_ir.csv", "spectrum.png", "relaxed.xyz"),
    *("trajectory.h5", "run.json", "report.html", "harmonic.json"),
}


def folder_of(
    path: Path,
    heads: tuple[str, ...] = ("energy", "dipole"),
    seed: int = WITH_MINIMUM,
) -> str:
    made = small_potential(dtype=torch.float32, heads=heads, seed=seed)
    save_potential(made, path)
    return str(path)


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> str:
    return folder_of(tmp_path_factory.mktemp("potential"))


def words(potential: str, folder: Path, *more: str) -> list[str]:
    start = ["ir", "formaldehyde", "-p", potential, "--out", str(folder)]
    short = ["--picoseconds", "0.03", "--equilibration-ps", "0.005"]
    # random weights let atoms meet
    return [*start, *short, "--temperature", "10", "--guard", "off", *more]


def test_force_replaces_a_run_and_all_that_came_from_it(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ir"
    assert main(words(potential, folder)) == 0
    (folder / "quantum" / "replica_0").mkdir(parents=True)
    (folder / "quantum" / "run.json").write_text("{}")
    (folder / "spectrum_ir_quantum.csv").write_text("")
    first = (folder / "spectrum.csv").read_bytes()
    assert main(words(potential, folder)) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(words(potential, folder, "--force", "--seed", "1")) == 0
    assert (folder / "spectrum.csv").read_bytes() != first
    assert not (folder / "quantum").exists()
    assert not (folder / "spectrum_ir_quantum.csv").exists()


def test_it_writes_spectrum_picture_and_run(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ir"
    assert main([*words(potential, folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {path.name for path in folder.iterdir()} >= FILES
    assert {"peaks", "integrated_km_mol", "seconds"} <= result.keys()
    assert isinstance(result["drift_mev_per_atom_per_ps"], float)
    vibrations = read_harmonic(folder)
    assert vibrations is not None
    stated = vibrations.spectrum.wavenumbers_cm1.tolist()
    assert stated == result["harmonic_wavenumbers_cm1"]
    assert vibrations.symbols == ("O", "C", "H", "H")
    spectrum = read_spectrum(folder / "spectrum.csv")
    assert spectrum.unit == "km/mol per cm-1"
    assert spectrum.lower is not None
    assert (spectrum.lower <= spectrum.intensity).all()
    # 60 steps cannot resolve 8 cm-1; what they can is stated
    assert spectrum.metadata["resolution_cm1"] > 500


def test_the_spectrum_command_repeats_it(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ir"
    assert main(words(potential, folder)) == 0
    first = (folder / "spectrum_ir.csv").read_bytes()
    assert main(["spectrum", str(folder), "--kind", "ir"]) == 0
    assert (folder / "spectrum_ir.csv").read_bytes() == first
    assert main(["spectrum", str(folder), "--window", "hann", "--unbiased"]) == 0
    assert (folder / "spectrum_ir.csv").read_bytes() != first
    capsys.readouterr()
    assert main(["spectrum", str(folder), "--resolution", "1"]) == 2
    assert "too short" in capsys.readouterr().err


def test_a_resolution_out_of_reach_is_refused_before_the_run(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ir"
    assert main(words(potential, folder, "--resolution", "4")) == 2
    assert "too short for a resolution" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timestep_fs", 0.0),
        ("timestep_fs", float("nan")),
        ("picoseconds", float("inf")),
        ("picoseconds", float("nan")),
        ("equilibration_ps", -1.0),
        ("equilibration_ps", float("inf")),
    ],
)
def test_times_that_are_none_are_refused_in_a_sentence(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*; give a positive number"):
        InfraredJob(**{name: value})


def test_a_potential_without_dipole_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = folder_of(tmp_path / "bare", heads=("energy",))
    assert main(words(bare, tmp_path / "ir")) == 2
    assert "predicts no dipole" in capsys.readouterr().err
    assert not (tmp_path / "ir").exists()


def test_a_structure_without_minimum_is_refused_before_the_run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the weights of seed 0 pull two atoms into each other, and never relax
    endless = folder_of(tmp_path / "endless", seed=0)
    monkeypatch.setattr(infrared, "RELAXATION", 30)
    assert main(words(endless, tmp_path / "ir")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "did not reach 0.0001 eV/Å in 30 steps" in line
    assert "relax the structure first" in line
    assert not (tmp_path / "ir").exists()


def test_a_structure_without_minimum_replaces_no_run(
    potential: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ir"
    assert main(words(potential, folder)) == 0
    before = contents(folder)
    monkeypatch.setattr(infrared, "RELAXATION", 2)
    assert main(words(potential, folder, "--force")) == 2
    assert contents(folder) == before


def test_a_periodic_structure_is_refused(potential: str, tmp_path: Path) -> None:
    atoms = molecule("H2CO", cell=[9.0, 9.0, 9.0], pbc=True)
    with pytest.raises(ValueError, match="periodic"):
        run_infrared(atoms, potential, tmp_path / "ir", InfraredJob(), title="x")


def test_ctrl_c_leaves_everything_readable_and_resumable(
    potential: str, tmp_path: Path
) -> None:
    folder, whole = tmp_path / "ir", tmp_path / "whole"
    long = ["--picoseconds", "0.15", "--no-report"]
    start = [sys.executable, "-m", "molpool_calc", *words(potential, folder, *long)]
    process = subprocess.Popen(start, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    steps = folder / "steps.bin"
    while not (steps.exists() and steps.stat().st_size > 24_000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("the machine was too fast to be interrupted")
    assert process.returncode == 130, errors
    partial = spectrum_of_run(folder)
    assert np.isfinite(partial.intensity).all()
    assert {path.name for path in folder.iterdir()} >= FILES - {"report.html"}
    assert main(words(potential, folder, *long, "--resume")) == 0
    assert main(words(potential, whole, *long)) == 0
    same = (folder / "spectrum.csv").read_bytes() == (
        whole / "spectrum.csv"
    ).read_bytes()
    assert same
