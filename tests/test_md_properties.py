"""Scalar properties, such as a gap, followed along a trajectory."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from ase.build import molecule
from small_potentials import potential_of, small_spec

from molpool_calc import MolPoolCalculator
from molpool_calc.atoms import CLOSED_SHELL
from molpool_calc.dynamics import DynamicsJob, run_dynamics
from molpool_calc.engine import EagerEngine
from molpool_calc.md.trajectory import read_run
from molpool_calc.replicas import make_replicas
from molpool_calc.storage import save_potential


@pytest.fixture
def folder(tmp_path):
    spec = small_spec(heads=("energy", "dipole"))
    attention = {"kind": "attention", "n_hidden": 8, "n_heads": 2, "n_seeds": 1}
    gap = {"kind": "scalar", "unit": "eV", "pooling": attention, "shift": 9.0}
    spec = replace(spec, heads={**spec.heads, "gap": gap})
    save_potential(potential_of(spec), tmp_path / "potential")
    return tmp_path / "potential"


def job(n_steps: int, **options: object) -> DynamicsJob:
    common = {"temperature": 100.0, "n_replicas": 2, "every": 1, "dtype": "float64"}
    return DynamicsJob(ensemble="nve", n_steps=n_steps, **{**common, **options})


def test_the_recorded_gap_is_that_of_the_recorded_positions(folder, tmp_path):
    atoms = molecule("H2O")
    run_dynamics(atoms, str(folder), tmp_path / "run", job(4, record=("gap",)))
    data = read_run(tmp_path / "run")
    calculator = MolPoolCalculator(folder, dtype="float64")
    gaps = np.empty((2, 5))
    for replica, step in np.ndindex(2, 5):
        atoms.positions = data.positions[replica, step]
        gaps[replica, step] = calculator.get_property("gap", atoms)
    np.testing.assert_allclose(data.others["gap"], gaps, rtol=0, atol=1e-10)
    assert np.ptp(gaps) > 1e-6
    with h5py.File(tmp_path / "run" / "trajectory.h5") as file:
        assert file["observables/gap/value"].attrs["unit"] == "eV"


def test_a_resumed_run_records_the_same(folder, tmp_path):
    options = {"record": ("gap",)}
    atoms = molecule("H2O")
    run_dynamics(atoms, str(folder), tmp_path / "one", job(6, **options))
    run_dynamics(atoms, str(folder), tmp_path / "two", job(3, **options))
    run_dynamics(atoms, str(folder), tmp_path / "two", job(6, **options), resume=True)
    one, two = read_run(tmp_path / "one"), read_run(tmp_path / "two")
    np.testing.assert_array_equal(one.others["gap"], two.others["gap"])


def test_what_is_no_scalar_property_is_refused(folder):
    calculator = MolPoolCalculator(folder, device="cpu")
    engine: EagerEngine = calculator.evaluator.engines[0]
    with pytest.raises(ValueError, match="scalar properties of small are gap"):
        make_replicas(
            engine,
            molecule("H2O"),
            state=CLOSED_SHELL,
            n_replicas=1,
            record=("dipole",),
        )


def test_weights_of_the_atoms_can_be_asked_for(folder):
    calculator = MolPoolCalculator(folder, dtype="float64")
    weights = calculator.get_property("gap_weights", molecule("CH3OH"))
    assert weights.shape == (6,)
    assert weights.sum() == pytest.approx(1.0)
