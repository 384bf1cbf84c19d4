"""Runs of replicas: what they write, how they resume, what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule
from small_potentials import crystal, small_potential

from molpool_calc import dynamics
from molpool_calc.atoms import CLOSED_SHELL
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.cli import main
from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.md.integrators import Langevin
from molpool_calc.md.state import MDState, temperature
from molpool_calc.md.trajectory import read_run
from molpool_calc.replicas import equilibrate, make_replicas, thermal_state
from molpool_calc.storage import save_potential


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("potential")
    save_potential(small_potential(dtype=torch.float32), folder)
    return str(folder)


def job(**changes: object) -> DynamicsJob:
    values = {"ensemble": "nve", "n_steps": 12, "n_replicas": 3, "temperature": 50.0}
    return DynamicsJob(**{**values, "every": 4, **changes})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_replicas_in_one_pass_are_the_molecules_one_by_one(
    potential: str, dtype: str
) -> None:
    atoms = molecule("CH3OH")
    calculator = MolPoolCalculator(potential, dtype=dtype, device="cpu")
    engine = calculator.evaluator.engines[0]
    replicas = make_replicas(engine, atoms, state=CLOSED_SHELL, n_replicas=3)
    generator = np.random.default_rng(0)
    moved = replicas.positions.numpy() + generator.normal(0, 0.05, (18, 3))
    response = replicas.force_field(torch.as_tensor(moved))
    tolerance = 1e-10 if dtype == "float64" else 2e-4
    for replica in range(3):
        atoms.positions = moved[6 * replica : 6 * replica + 6]
        own = slice(6 * replica, 6 * replica + 6)
        expected = calculator.get_forces(atoms)
        assert abs(response.forces[own].numpy() - expected).max() < tolerance
        dipole = calculator.get_dipole_moment(atoms)
        assert response.dipole is not None
        assert abs(response.dipole[replica].numpy() - dipole).max() < tolerance


@pytest.mark.parametrize(
    ("ensemble", "thermostat"),
    [("nve", "langevin"), ("nvt", "langevin"), ("nvt", "bussi")],
)
def test_a_resumed_run_is_the_run_done_in_one_go(
    potential: str, tmp_path: Path, ensemble: str, thermostat: str
) -> None:
    atoms = molecule("H2O")
    kinds = {"ensemble": ensemble, "thermostat": thermostat}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_dynamics(atoms, potential, whole, job(**kinds, n_steps=20))
    run_dynamics(atoms, potential, parts, job(**kinds, n_steps=10))
    run_dynamics(atoms, potential, parts, job(**kinds, n_steps=20), resume=True)
    one, two = read_run(whole), read_run(parts)
    for name in ("positions", "velocities", "dipoles", "energies", "kinetic"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


def test_dipoles_are_recorded_at_every_step(potential: str, tmp_path: Path) -> None:
    outcome = run_dynamics(molecule("H2O"), potential, tmp_path / "run", job())
    run = read_run(tmp_path / "run")
    assert outcome.status == "finished"
    assert run.dipoles is not None
    assert run.dipoles.shape == (3, 13, 3)
    assert run.positions.shape == (3, 4, 3, 3)
    assert run.inputs["temperature"] == 50.0
    assert len(run.inputs["sha256"]) == 64


def test_equilibration_leaves_each_replica_at_rest_and_warm(potential: str) -> None:
    calculator = MolPoolCalculator(potential, dtype="float64", device="cpu")
    atoms = molecule("H2O")
    engine = calculator.evaluator.engines[0]
    replicas = make_replicas(engine, atoms, state=CLOSED_SHELL, n_replicas=4)
    free = replicas.system("all")
    state = thermal_state(replicas, free, 100.0, seed=1)
    thermostat = Langevin(timestep_fs=0.2, temperature=100.0, friction_per_fs=0.1)
    state = equilibrate(replicas, state, thermostat, 50)
    momenta = state.momenta.view(4, 3, 3)
    arms = state.positions.view(4, 3, 3)
    masses = replicas.masses.view(4, 3, 1)
    arms = arms - (masses * arms).sum(1, keepdim=True) / masses.sum(1, keepdim=True)
    assert float(momenta.sum(1).abs().max()) < 1e-10
    assert float(torch.linalg.cross(arms, momenta).sum(1).abs().max()) < 1e-10
    warm = temperature(replicas.system("internal"), state.momenta)
    assert 5 < float(warm.mean()) < 500


def test_different_seeds_give_different_runs(potential: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        run_dynamics(
            molecule("H2O"), potential, tmp_path / str(seed), job(seed=seed, n_steps=2)
        )
    first, second = (read_run(tmp_path / str(seed)).dipoles for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_periodic_systems_move_without_dipole(potential: str, tmp_path: Path) -> None:
    run_dynamics(crystal(), potential, tmp_path / "run", job(n_steps=2, n_replicas=2))
    assert read_run(tmp_path / "run").dipoles is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "n_steps is 0"),
        ({"n_replicas": 0}, "n_replicas is 0"),
        ({"temperature": 0.0}, "temperature is 0 K"),
    ],
)
def test_impossible_jobs_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        job(**changes)


def command(potential: str, folder: Path, *more: str) -> list[str]:
    words = ["md", "formaldehyde", "-p", potential, "--steps", "6"]
    return [
        *words,
        "--replicas",
        "2",
        "--temperature",
        "20",
        "--out",
        str(folder),
        *more,
    ]


def test_the_command_writes_what_the_contract_says(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main([*command(potential, folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["status"] == "finished"
    assert len(result["drift_mev_per_atom_per_ps"]) == 2
    assert {"trajectory.h5", "run.json"} <= {path.name for path in folder.iterdir()}
    stated = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert {"versions", "inputs", "potential", "machine"} <= stated.keys()


def test_a_folder_in_use_is_not_touched(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(command(potential, folder)) == 0
    before = (folder / "trajectory.h5").read_bytes()
    assert main(command(potential, folder)) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (folder / "trajectory.h5").read_bytes() == before
    assert main(command(potential, folder, "--force")) == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_that_cannot_begin_replaces_nothing(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(command(potential, folder)) == 0
    before = contents(folder)
    unknown = command(potential, folder, "--force", "--record", "nonsense")
    assert main(unknown) == 2
    assert "nonsense" in capsys.readouterr().err
    assert contents(folder) == before
    hot = ["--guard-force", "1e-6", "--equilibration-ps", "0"]
    assert main(command(potential, folder, "--force", *hot)) in (2, 3)
    assert contents(folder) == before


def test_a_run_that_replaces_another_is_equilibrated_before(
    potential: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = tmp_path / "run", []

    def watched(*arguments: Any, **options: Any) -> MDState:
        seen.append(contents(folder))
        return equilibrate(*arguments, **options)

    assert main(command(potential, folder)) == 0
    (folder / "report.html").write_text("of the old run")
    before = contents(folder)
    monkeypatch.setattr(dynamics, "equilibrate", watched)
    short = ["--equilibration-ps", "0.002", "--seed", "5"]
    assert main(command(potential, folder, "--force", *short)) == 0
    assert seen == [before]
    assert not (folder / "report.html").exists()
    assert (folder / "trajectory.h5").read_bytes() != before["trajectory.h5"]


def test_resuming_with_another_seed_names_the_difference(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(command(potential, folder)) == 0
    assert main(command(potential, folder, "--resume", "--seed", "7")) == 2
    assert "seed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["checkpoint.npz", "trajectory.h5", "run.json"])
def test_resuming_from_a_torn_file_is_one_sentence(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = tmp_path / "run"
    assert main(command(potential, folder)) == 0
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert main(command(potential, folder, "--resume", "--steps", "9")) == 2
    error = capsys.readouterr().err
    assert name in error
    assert "Traceback" not in error
    assert (folder / name).read_bytes() == content[: len(content) // 2]


def test_an_unknown_ensemble_is_one_sentence(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(potential, tmp_path / "run", "--ensemble", "nph")) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_that_the_guard_stops_has_exit_code_3(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main([*command(potential, folder, "--guard-drift", "1e-12"), "--json"]) == 3
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["status"] == "stopped"
    assert [stop["replica"] for stop in result["stopped"]] == [0, 1]
    assert "2 of 2 replicas stopped, first: the conserved energy drifts by" in err
    assert "shorter time step than 0.5 fs" in err
    stated = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert stated["inputs"]["guard"]["drift"] == 1e-12
    assert stated["inputs"]["guard"]["force"] == 50.0


def test_a_limit_of_a_guard_that_is_off_is_refused(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(potential, tmp_path / "run", "--guard", "off", "--guard-force", "9")
    assert main(words) == 2
    assert "--guard off was given together with a limit" in capsys.readouterr().err
