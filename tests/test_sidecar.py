"""Forces of another program with dipoles of a potential of MolPool."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from charged_springs import ChargedSprings
from command_line import CommandLine
from small_potentials import small_potential

from molpool_calc import MolPoolCalculator
from molpool_calc.harmonic_file import read_harmonic
from molpool_calc.md.trajectory import read_run
from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.storage import save_potential
from molpool_calc.units import FEMTOSECOND

SPRINGS = "charged_springs:ChargedSprings,k=40.0,length=0.98"
REDUCED = 1.008 * 15.999 / (1.008 + 15.999)
WAVENUMBER = np.sqrt(40.0 / REDUCED) * FEMTOSECOND / (2 * np.pi * CM_PER_FS)


@pytest.fixture
def molpool(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a potential, a bare one, and a structure of two atoms."""
    folder = tmp_path_factory.mktemp("sidecar")
    heads = ("energy", "dipole", "polarizability")
    save_potential(small_potential(heads=heads, name="small"), folder / "p")
    save_potential(small_potential(heads=("energy",), name="bare"), folder / "bare")
    write(folder / "oh.xyz", Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]]))
    return folder


def words(place: Path, out: Path, steps: int, *more: object) -> list[object]:
    start = ["md", place / "oh.xyz", "-p", place / "p", "--out", out, "--steps", steps]
    common = ["--replicas", 3, "--every", 1, "--temperature", 200, "--dtype", "float64"]
    return [*start, *common, "--record", "polarizability", "--json", *more]


def test_forces_are_foreign_and_dipoles_are_of_the_potential(
    molpool: CommandLine, place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    called = molpool(*words(place, out, 400, "--forces", SPRINGS))
    assert called.code == 0, called
    assert max(map(abs, called.json["drift_mev_per_atom_per_ps"])) < 0.1
    data = read_run(out)
    bonds = data.positions[:, :, 1] - data.positions[:, :, 0]
    lengths = np.linalg.norm(bonds, axis=2)
    energies = 0.5 * 40.0 * (lengths - 0.98) ** 2
    np.testing.assert_allclose(data.energies, energies, rtol=0, atol=1e-12)
    calculator = MolPoolCalculator(place / "p", dtype="float64", device="cpu")
    atoms = Atoms("OH", positions=data.positions[2, 17])
    np.testing.assert_allclose(
        data.dipoles[2, 17], calculator.get_dipole_moment(atoms), rtol=0, atol=1e-10
    )
    tensor = calculator.get_property("polarizability", atoms)
    np.testing.assert_allclose(data.polarizabilities[2, 17], tensor, rtol=0, atol=1e-10)
    result = molpool("spectrum", out, "--kind", "vdos", "--json").json
    assert result["peaks"][-1]["wavenumber_cm1"] == pytest.approx(WAVENUMBER, rel=0.01)
    recorded = json.loads((out / "run.json").read_text())["inputs"]
    assert recorded["forces"] == SPRINGS
    assert recorded["forces_versions"] == {}


def test_a_resumed_run_is_the_same_and_keeps_its_forces(
    molpool: CommandLine, place: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert molpool(*words(place, whole, 60, "--forces", SPRINGS)).code == 0
    assert molpool(*words(place, parts, 25, "--forces", SPRINGS)).code == 0
    for other in (("--forces", SPRINGS.replace("40", "41")), ()):
        sentence = molpool.refused(*words(place, parts, 60, "--resume", *other))
        assert "cannot be resumed with another forces" in sentence
    assert molpool(*words(place, parts, 60, "--resume", "--forces", SPRINGS)).code == 0
    one, other = read_run(whole), read_run(parts)
    for name in ("positions", "dipoles", "polarizabilities", "energies"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_ir_relaxes_and_analyses_with_the_foreign_forces(
    molpool: CommandLine, place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ir"
    called = molpool(
        *("ir", place / "oh.xyz", "-p", place / "p", "--out", out, "--json"),
        *("--picoseconds", 0.03, "--equilibration-ps", 0.005, "--temperature", 10),
        *("--replicas", 2, "--forces", SPRINGS),
    )
    assert called.code == 0, called
    found = read_harmonic(out)
    assert found is not None
    # a spring: the difference of forces is exact up to (0.005 Å)² of anharmonicity
    assert found.spectrum.wavenumbers_cm1.tolist() == pytest.approx(
        [WAVENUMBER], rel=1e-3
    )
    length = np.linalg.norm(found.positions[1] - found.positions[0])
    assert length == pytest.approx(0.98, abs=1e-5)
    calculator = MolPoolCalculator(place / "p", dtype="float64", device="cpu")
    atoms = Atoms("OH", positions=found.positions)
    slopes = calculator.get_dipole_derivatives(atoms).reshape(6, 3)
    root = np.repeat(np.sqrt(found.masses), 3)
    exact = found.spectrum.modes.reshape(1, 6) / root @ slopes
    np.testing.assert_allclose(found.spectrum.dipole_slopes, exact, atol=1e-10)


def test_what_has_no_forces_or_no_dipole_is_refused(
    molpool: CommandLine, place: Path, tmp_path: Path
) -> None:
    start = ("md", place / "oh.xyz", "--steps", 5, "--out", tmp_path / "run")
    sentence = molpool.refused(*start, "-p", place / "bare", "--forces", SPRINGS)
    assert "bare has no dipole to add to the forces of charged_springs" in sentence
    sentence = molpool.refused(
        *start, "-p", place / "p", "--forces", "charged_springs:Dipoles"
    )
    assert "gives no energy, only dipole" in sentence
    ase = ("--integrator", "ase:Langevin", "--forces", SPRINGS)
    sentence = molpool.refused(*start, "-p", place / "p", *ase)
    assert "makes its steps with the forces of the potential" in sentence


def test_a_calculator_that_fails_stops_the_run(
    molpool: CommandLine, place: Path, tmp_path: Path
) -> None:
    ChargedSprings.calls[0] = 0
    out = tmp_path / "run"
    called = molpool(*words(place, out, 60, "--forces", f"{SPRINGS},fails_at=31"))
    assert called.code == 3
    assert "failed at a step (the electrons do not converge)" in called.err


def test_a_calculation_that_fails_stops_its_replica_alone(
    molpool: CommandLine, place: Path, tmp_path: Path
) -> None:
    sound, out = tmp_path / "sound", tmp_path / "run"
    assert molpool(*words(place, sound, 40, "--forces", SPRINGS)).code == 0
    ChargedSprings.calls[0] = 0
    # three at the start, then three a step: the middle one of the tenth step
    called = molpool(*words(place, out, 40, "--forces", f"{SPRINGS},fails_at=32"))
    assert called.code == 3
    assert called.json["status"] == "finished"
    (stop,) = called.json["stopped"]
    assert (stop["replica"], stop["step"]) == (1, 10)
    assert "do not converge) in replica 1 at step 10" in stop["reason"]
    assert "change the settings of the calculator" in stop["advice"]
    data, expected = read_run(out), read_run(sound)
    assert data.good_steps.tolist() == [41, 10, 41]
    for name in ("positions", "dipoles", "energies"):
        found, free = getattr(data, name), getattr(expected, name)
        np.testing.assert_array_equal(found[[0, 2]], free[[0, 2]])
        np.testing.assert_array_equal(found[1, :10], free[1, :10])


def test_a_calculation_that_fails_at_the_start_is_told(
    molpool: CommandLine, place: Path, tmp_path: Path
) -> None:
    ChargedSprings.calls[0] = 0
    sentence = molpool.refused(
        *words(place, tmp_path / "run", 9, "--forces", f"{SPRINGS},fails_at=3")
    )
    assert "do not converge) in the first state of replica 2" in sentence
    assert not (tmp_path / "run").exists()
