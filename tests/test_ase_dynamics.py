"""Every integrator of ``ase.md`` by ``molpool md --integrator``, and what it leaves."""

import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import ase.md
import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.io import write
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet
from small_potentials import crystal, small_potential

from molpool_calc.ase_integrators import KINDS, ase_kind
from molpool_calc.ase_settings import Settings
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.cli import main
from molpool_calc.commands.md import ASE_CLASSES
from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.md.trajectory import read_run
from molpool_calc.storage import save_potential
from molpool_calc.units import BAR, BOLTZMANN, FEMTOSECOND

ROWS = [(name, row.ensemble) for name, rows in KINDS.items() for row in rows]
NOT_ALONE = {"MolecularDynamics", "SwitchLangevin", "NPT"}
"""The base, one that needs two calculators, and a deprecated name of MelchionnaNPT."""


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("potential")
    save_potential(small_potential(dtype=torch.float64), folder)
    return str(folder)


def job(name: str, **changes: object) -> DynamicsJob:
    values = {"n_steps": 6, "every": 3, "temperature": 50.0, "timestep_fs": 0.2}
    values |= {"ensemble": ase_kind(name, None).ensemble, "dtype": "float64"}
    return DynamicsJob(**{**values, "ase": name, **changes})


def structure(folder: Path, ensemble: str) -> str:
    if ensemble != "npt":
        return "formaldehyde"
    atoms = crystal()
    scaled = atoms.get_scaled_positions(wrap=False)
    atoms.set_cell(np.triu(atoms.cell.array))
    atoms.set_scaled_positions(scaled)
    write(folder / "crystal.extxyz", atoms)
    return str(folder / "crystal.extxyz")


def test_every_class_of_ase_has_its_row() -> None:
    found = set()
    for module in pkgutil.iter_modules(ase.md.__path__):
        members = vars(importlib.import_module(f"ase.md.{module.name}")).values()
        found |= {
            member.__name__
            for member in members
            if inspect.isclass(member) and issubclass(member, MolecularDynamics)
        }
    assert found == set(KINDS) | NOT_ALONE
    assert tuple(KINDS) == ASE_CLASSES


@pytest.mark.parametrize(("name", "ensemble"), ROWS)
def test_each_class_runs_by_the_command_and_writes_what_a_run_writes(
    potential: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    ensemble: str,
) -> None:
    folder = tmp_path / "run"
    words = ["md", structure(tmp_path, ensemble), "-p", potential, "--steps", "8"]
    words += ["--integrator", f"ase:{name}", "--timestep-fs", "0.2", "--every", "4"]
    words += ["--temperature", "50", "--dtype", "float64", "--out", str(folder)]
    if len(KINDS[name]) > 1:
        words += ["--ensemble", ensemble]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    row = ase_kind(name, ensemble)
    run = read_run(folder)
    assert run.energies.shape == (1, 9)
    assert run.frame_steps.tolist() == [0, 4, 8]
    assert (run.dipoles is None) == (ensemble == "npt")
    assert (run.volumes is None) == (ensemble != "npt")
    assert (result["drift_mev_per_atom_per_ps"] is None) == (row.heat is None)
    stated = json.loads((folder / "run.json").read_text(encoding="utf-8"))["dynamics"]
    assert stated["integrator"] == f"ase:{name}"
    assert stated["ensemble"] == ensemble
    assert row.options <= stated.keys()
    assert np.abs(run.positions[0, -1] - run.positions[0, 0]).max() > 1e-4
    if ensemble == "npt":
        assert run.cells is not None
        assert np.abs(run.cells[0, -1] - run.cells[0, 0]).max() > 1e-9
    if row.heat is not None:
        total = (run.energies + run.kinetic - run.heat)[0]
        assert np.ptp(total) < 0.02 * np.ptp(run.kinetic[0])


def test_the_records_are_those_of_ase_itself(potential: str, tmp_path: Path) -> None:
    first = job("VelocityVerlet", n_replicas=2)
    run_dynamics(molecule("H2O"), potential, tmp_path / "run", first)
    run = read_run(tmp_path / "run")
    assert run.dipoles is not None
    for replica in range(2):
        atoms = molecule("H2O")
        atoms.positions = run.positions[replica, 0]
        atoms.set_velocities(run.velocities[replica, 0].astype(float) / units.fs)
        atoms.calc = MolPoolCalculator(potential, dtype="float64", device="cpu")
        VelocityVerlet(atoms, 0.2 * units.fs).run(6)
        np.testing.assert_allclose(run.positions[replica, 2], atoms.positions, 0, 1e-7)
        energy = atoms.get_potential_energy()
        assert run.energies[replica, 6] == pytest.approx(energy, abs=1e-6)
        dipole = atoms.get_dipole_moment()
        np.testing.assert_allclose(run.dipoles[replica, 6], dipole, 0, 1e-6)
        kinetic = atoms.get_kinetic_energy()
        assert run.kinetic[replica, 6] == pytest.approx(kinetic, rel=1e-5)
    assert np.abs(run.positions[0, 2] - run.positions[1, 2]).max() > 1e-4


def test_the_same_seed_gives_the_same_run_and_another_does_not(
    potential: str, tmp_path: Path
) -> None:
    runs = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        changes = {"seed": seed, "friction_per_fs": 0.5}
        run_dynamics(molecule("H2O"), potential, folder, job("Langevin", **changes))
        runs.append(read_run(folder).energies)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2])[:, 1:].min() > 0.0


def test_options_reach_the_constructors_in_the_units_of_ase() -> None:
    settings = Settings(
        timestep_fs=0.5,
        temperature=300.0,
        friction_per_fs=0.02,
        relaxation_fs=100.0,
        chain_length=4,
        barostat="flexible",
        pressure_bar=1000.0,
        barostat_relaxation_fs=2000.0,
        compressibility_per_bar=1e-5,
        n_atoms=8,
        rng=np.random.default_rng(0),
    )
    atoms = crystal()
    atoms.set_momenta(np.ones((5, 3)))
    atoms.calc = MolPoolCalculator(small_potential(), device="cpu")

    def made(name: str, ensemble: str | None = None) -> object:
        return ase_kind(name, ensemble).make(name, atoms, settings)

    langevin = made("Langevin")
    assert langevin.fr == pytest.approx(0.02 / units.fs)
    assert langevin.temp == pytest.approx(300 * units.kB, rel=1e-6)
    assert langevin.dt == pytest.approx(0.5 * units.fs)
    assert made("Andersen").andersen_prob == pytest.approx(0.01)
    assert made("LangevinBAOAB").gamma == pytest.approx(0.02 / units.fs)
    assert made("Bussi").taut == pytest.approx(100 * units.fs)
    berendsen = made("NPTBerendsen")
    assert berendsen.pressure == pytest.approx(1e8 * units.Pascal)
    assert berendsen.compressibility == pytest.approx(1e-10 / units.Pascal)
    assert berendsen.taup == pytest.approx(2000 * units.fs)
    atoms.set_momenta(np.zeros((5, 3)))
    melchionna = made("MelchionnaNPT")
    stress = -1e8 * units.Pascal * np.array([1, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(melchionna.externalstress, stress, 1e-6)
    modulus = 1e10 * units.Pascal  # a bulk modulus of 1e5 bar
    period = 2000 * units.fs
    assert melchionna.pfactor_given == pytest.approx(period**2 * modulus)
    mtk = made("MTKNPT")
    assert mtk._pressure_au == pytest.approx(1e8 * units.Pascal)
    assert mtk._thermostat._tchain == 4
    baoab = made("LangevinBAOAB", "npt")
    np.testing.assert_allclose(
        baoab.externalstress, -1e8 * units.Pascal * np.eye(3), 1e-6
    )
    assert not baoab.hydrostatic
    assert pytest.approx(1e5 * units.Pascal) == BAR
    assert pytest.approx(units.kB) == BOLTZMANN
    assert pytest.approx(units.fs) == FEMTOSECOND


def test_the_mass_of_the_cell_is_the_estimate_of_ase_itself() -> None:
    settings = Settings(
        timestep_fs=0.5,
        temperature=300.0,
        friction_per_fs=0.02,
        relaxation_fs=100.0,
        chain_length=3,
        barostat="isotropic",
        pressure_bar=1.0,
        barostat_relaxation_fs=1500.0,
        compressibility_per_bar=1e-5,
        n_atoms=5,
        rng=np.random.default_rng(0),
    )
    atoms = crystal()
    atoms.set_momenta(np.ones((5, 3)))
    atoms.calc = MolPoolCalculator(small_potential(), device="cpu")
    with pytest.warns(UserWarning, match="heuristic P_mass"):
        own = LangevinBAOAB(
            atoms,
            0.5 * units.fs,
            temperature_K=300.0,
            externalstress=0.0,
            hydrostatic=True,
            T_tau=1.0,
            P_tau=1500 * units.fs,
            rng=0,
        )
    made = ase_kind("LangevinBAOAB", "npt").make("LangevinBAOAB", atoms, settings)
    assert made.barostat_mass == pytest.approx(own.barostat_mass, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verlet"], "the integrator 'verlet' is unknown; give ase: and one of Veloci"),
        (["ase:Verlet"], "the integrator ase:Verlet is unknown; give ase: and one of"),
        (["ase:NPT"], "the integrator ase:NPT is unknown"),
        (["ase:Langevin", "--ensemble", "nve"], "makes the ensemble nvt, but nve was"),
        (
            ["ase:Langevin", "--thermostat", "bussi"],
            "--thermostat means nothing to as",
        ),
        (["ase:Bussi", "--chain-length", "2"], "which takes --relaxation-fs; leave it"),
        (["ase:VelocityVerlet", "--pressure-bar", "2"], "no option of these; leave"),
        (["ase:MTKNPT"], "needs a structure that is periodic in all three directions"),
        (["ase:Langevin", "--resume"], "cannot be resumed, since ASE keeps thermostat"),
    ],
)
def test_what_ase_cannot_do_is_refused_in_one_sentence(
    potential: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    folder = tmp_path / "run"
    start = ["md", "formaldehyde", "-p", potential, "--steps", "4", "--out"]
    assert main([*start, str(folder), "--integrator", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not folder.exists()


def test_a_cell_that_melchionna_cannot_take_is_refused(
    potential: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="needs a triangular cell, but this one is no"):
        run_dynamics(crystal(), potential, tmp_path / "run", job("MelchionnaNPT"))
