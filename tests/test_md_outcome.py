import json

import numpy as np
import pytest

from molpool_calc.md.manifest import Manifest
from molpool_calc.md.outcome import RunOutcome, energy_drift, measure
from molpool_calc.md.records import step_layout
from molpool_calc.units import BOLTZMANN

MANIFEST: Manifest = {
    "dynamics": {
        "timestep_fs": 0.5,
        "atomic_numbers": [8, 1, 1],
        "degrees_of_freedom": [3.0, 3.0],
    }
}


def test_drift_is_the_slope_in_mev_per_atom_and_picosecond() -> None:
    steps = np.arange(2001)
    picoseconds = steps * 0.5e-3
    wiggle = 1e-4 * np.cos(2.0 * np.pi * steps / 2000.0 * 40.0)
    conserved = np.stack([-4e3 + 0.006 * picoseconds + wiggle, -4e3 + wiggle], axis=1)
    drift = energy_drift(steps, conserved, timestep_fs=0.5, n_atoms=3)
    np.testing.assert_allclose(drift, [2.0, 0.0], atol=1e-3)


def test_heat_from_the_thermostat_is_no_drift() -> None:
    records = np.zeros(100, step_layout(2, ["energy", "kinetic", "heat"]))
    records["step"] = np.arange(100)
    rng = np.random.default_rng(0)
    records["heat"] = rng.normal(size=(100, 2)).cumsum(axis=0)
    records["kinetic"] = 0.1 + records["heat"]
    records["energy"] = -7.0
    assert measure(records, MANIFEST)["drift_mev_per_atom_per_ps"] == pytest.approx(
        (0.0, 0.0), abs=1e-9
    )


def test_mean_temperature_counts_the_degrees_of_freedom() -> None:
    records = np.zeros(10, step_layout(2, ["energy", "kinetic", "heat"]))
    records["step"] = np.arange(10)
    records["kinetic"] = 1.5 * BOLTZMANN * np.array([300.0, 400.0])
    assert measure(records, MANIFEST)["mean_temperature"] == pytest.approx((300, 400))


def test_a_single_record_has_no_drift() -> None:
    records = np.zeros(1, step_layout(2, ["energy", "kinetic", "heat"]))
    assert measure(records, MANIFEST)["drift_mev_per_atom_per_ps"] is None


def test_an_outcome_is_ready_for_json() -> None:
    outcome = RunOutcome(
        status="stopped",
        reason="because",
        steps_done=7,
        drift_mev_per_atom_per_ps=(0.1,),
        mean_temperature=(300.0,),
        seconds=1.5,
    )
    described = json.loads(json.dumps(outcome.describe()))
    assert described["status"] == "stopped"
    assert described["drift_mev_per_atom_per_ps"] == [0.1]
