"""Ensembles from a structure and a network: runs, restarts, refusals, commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import write
from md_models import advance
from small_potentials import crystal, potential_of, small_potential, small_spec

from molpool_calc.atoms import CLOSED_SHELL
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.cli import main
from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.ensembles import Options, integrator_of
from molpool_calc.md.cell import in_moving_cell
from molpool_calc.md.trajectory import read_run
from molpool_calc.neighbors import VerletList
from molpool_calc.replicas import make_replicas, thermal_state
from molpool_calc.storage import save_potential
from molpool_calc.units import BAR

PRESSED = ("npt", "langevin", "flexible")
KINDS = [
    ("nve", "langevin", None),
    ("nvt", "langevin", None),
    ("nvt", "bussi", None),
    ("nvt", "nose-hoover", None),
    ("npt", "langevin", "isotropic"),
    ("npt", "bussi", "flexible"),
    ("npt", "nose-hoover", "isotropic"),
    PRESSED,
]


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("potential")
    save_potential(small_potential(dtype=torch.float64), folder)
    return str(folder)


def job(**changes: object) -> DynamicsJob:
    values = {"ensemble": "nve", "n_steps": 12, "n_replicas": 2, "temperature": 50.0}
    return DynamicsJob(**{**values, "every": 4, "timestep_fs": 0.2, **changes})


def structure(ensemble: str) -> Atoms:
    return crystal() if ensemble == "npt" else molecule("H2O")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("ensemble", "thermostat", "barostat"), KINDS)
def test_a_resumed_run_is_the_run_done_in_one_go(
    potential: str,
    tmp_path: Path,
    ensemble: str,
    thermostat: str,
    barostat: str | None,
    dtype: str,
) -> None:
    kinds = {"ensemble": ensemble, "thermostat": thermostat, "dtype": dtype}
    kinds["barostat"] = barostat
    atoms, whole, parts = structure(ensemble), tmp_path / "whole", tmp_path / "parts"
    run_dynamics(atoms, potential, whole, job(**kinds, n_steps=14))
    run_dynamics(atoms, potential, parts, job(**kinds, n_steps=7))
    run_dynamics(atoms, potential, parts, job(**kinds, n_steps=14), resume=True)
    one, two = read_run(whole), read_run(parts)
    for name in ("positions", "velocities", "energies", "kinetic", "heat", "cells"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    one_end, two_end = (
        (folder / "checkpoint.npz").read_bytes() for folder in (whole, parts)
    )
    assert one_end == two_end
    assert one.ensemble == ensemble
    assert (one.volumes is not None) == (ensemble == "npt")


def test_a_list_with_skin_gives_the_same_run_in_a_moving_cell(potential: str) -> None:
    calculator = MolPoolCalculator(potential, dtype="float64", device="cpu")
    engine = calculator.evaluator.engines[0]
    options = Options(
        barostat="flexible", pressure_bar=2e4, barostat_relaxation_fs=20.0
    )
    integrator = integrator_of(
        "npt", "langevin", options, timestep_fs=1.0, temperature=300.0
    )
    ends, builds = [], []
    for skin in (1.0, 0.0):
        replicas = make_replicas(engine, crystal(), state=CLOSED_SHELL, n_replicas=2)
        replicas.force_field.lists = VerletList(engine.potential.cutoff, skin)
        system = replicas.system(integrator.free)
        state = thermal_state(replicas, system, 300.0, seed=1)
        state = in_moving_cell(system, state, replicas.force_field)
        ends.append(advance(integrator, system, state, replicas.force_field, 40))
        builds.append(replicas.force_field.lists.n_builds)
    assert torch.equal(ends[0].positions, ends[1].positions)
    assert ends[0].cell is not None
    assert ends[1].cell is not None
    assert torch.equal(ends[0].cell, ends[1].cell)
    assert builds[0] < builds[1]
    change = ends[0].cell[0] - torch.as_tensor(crystal().cell.array)
    assert change.abs().max() > 0.02


def test_a_run_begun_by_an_older_version_goes_on(
    potential: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    kinds = {"ensemble": "nvt", "thermostat": "bussi"}
    run_dynamics(molecule("H2O"), potential, folder, job(**kinds))
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    for name in Options(chain_length=1).__dataclass_fields__:
        if name not in {"friction_per_fs", "relaxation_fs"}:
            assert manifest["inputs"].pop(name) is None
    (folder / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    longer = job(**kinds, n_steps=20)
    outcome = run_dynamics(molecule("H2O"), potential, folder, longer, resume=True)
    assert outcome.steps_done == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ensemble": "nph"}, "the ensemble 'nph' is unknown; give nve, nvt, npt"),
        ({"thermostat": "berendsen"}, "the thermostat 'berendsen' is unknown; give la"),
        ({"pressure_bar": 2.0}, "pressure_bar means nothing to nve; leave it out"),
        ({"ensemble": "nvt", "chain_length": 3}, "chain_length means nothing to nvt w"),
        ({"ensemble": "npt", "record": ("dipole_flux",)}, "cell that stays as it is"),
        ({"ensemble": "nvt", "barostat": "flexible"}, "or give ensemble npt"),
    ],
)
def test_jobs_with_misplaced_options_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        job(**changes)


def test_pressure_of_a_molecule_or_without_stress_is_refused(
    potential: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="needs a structure that is periodic in all"):
        run_dynamics(molecule("H2O"), potential, folder, job(ensemble="npt"))
    averaged = tmp_path / "mean"
    spec = small_spec(pooling="mean", heads=("energy",))
    save_potential(potential_of(spec), averaged)
    open_gate = job(ensemble="npt", allow_unsuitable_pooling=True)
    with pytest.raises(ValueError, match=r"pools its energy by mean, .* has no stress"):
        run_dynamics(crystal(), str(averaged), folder, open_gate)
    assert not folder.exists()


def command(potential: str, folder: Path, *more: str) -> list[str]:
    structure = folder.parent / "crystal.xyz"
    write(structure, crystal())
    words = ["md", str(structure), "-p", potential, "--steps", "6", "--temperature"]
    return [*words, "20", "--timestep-fs", "0.2", "--out", str(folder), *more]


def test_the_command_runs_at_constant_pressure(
    potential: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = tmp_path / "run", ["--ensemble", "npt", "--thermostat", "bussi"]
    words += ["--barostat", "flexible", "--pressure-bar", "1000", "--relaxation-fs"]
    words += ["50", "--compressibility-per-bar", "1e-6"]
    assert main([*command(potential, folder, *words), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["mean_volume"][0] == pytest.approx(crystal().cell.volume, rel=0.05)
    run = read_run(folder)
    assert run.pressures is not None
    mean = run.pressures.mean(axis=1) / BAR
    np.testing.assert_allclose(result["mean_pressure_bar"], mean)
    stated = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (
        stated["dynamics"]
        | {
            "integrator": "cell-rescaling",
            "ensemble": "npt",
            "thermostat": "bussi",
            "barostat": "flexible",
            "pressure_bar": 1000.0,
            "relaxation_fs": 50.0,
            "barostat_relaxation_fs": 1000.0,
            "compressibility_per_bar": 1e-6,
        }
        == stated["dynamics"]
    )
    assert stated["mean_volume"] == result["mean_volume"]
    words = command(potential, folder, *words, "--force")
    assert main(words) == 0
    assert "mean volume" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pressure-bar", "2"], "--pressure-bar means nothing to nve; leave it out"),
        (["--thermostat", "bussi"], "or give --ensemble nvt or npt"),
        (["--friction-per-fs", "0.1"], "--friction-per-fs means nothing to nve"),
        (
            ["--ensemble", "nvt", "--relaxation-fs", "9"],
            "--relaxation-fs means nothing to nvt with the thermostat langevin",
        ),
        (
            ["--ensemble", "npt", "--chain-length", "9"],
            "nvt or npt and --thermostat nose-hoover",
        ),
        (["--ensemble", "nvt", "--barostat", "flexible"], "or give --ensemble npt"),
        (
            ["--ensemble", "npt", "--compressibility-per-bar", "-1"],
            "compressibility_per_bar of the barostat is -1.0",
        ),
    ],
)
def test_options_that_mean_nothing_are_refused_in_one_sentence(
    potential: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert main(command(potential, tmp_path / "run", *words)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_friction_of_an_equilibration_before_nve_is_taken(
    potential: str, tmp_path: Path
) -> None:
    words = ["--friction-per-fs", "0.1", "--equilibration-ps", "0.001"]
    assert main(command(potential, tmp_path / "run", *words)) == 0
    assert read_run(tmp_path / "run").inputs["friction_per_fs"] == 0.1
