"""Ring polymers of i-PI against exact results for oscillators and free particles."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed
from ring_polymers import (
    MASS,
    STIFFNESS,
    WAVENUMBER,
    gyration,
    mean_square,
    quantum_mean_square,
    run_wells,
)

from molpool_calc.path_integrals.job import RingPolymerJob
from molpool_calc.path_integrals.read import (
    read_extras,
    read_properties,
    ring_dipoles,
)
from molpool_calc.path_integrals.spectrum import quantum_spectrum
from molpool_calc.spectra import peaks, total_integral
from molpool_calc.units import BOLTZMANN, DEBYE

pytest.importorskip("ipi")

BAND_STRENGTH = 42.2561  # km/mol of one harmonic mode with 1 (D/Å)²/amu


def job(beads: int, picoseconds: float, **changes: Any) -> RingPolymerJob:
    chosen = {"replicas": 1, "internal": False, "centroid_fs": 50.0, **changes}
    chosen = {"equilibration_ps": 0.15, **chosen}
    return RingPolymerJob(
        beads=beads, picoseconds=picoseconds, temperature=300.0, **chosen
    )


def properties(folder: Path) -> dict[str, np.ndarray]:
    """The properties of all replicas, one after the other."""
    files = sorted(folder.glob("replica_*/production.properties"))
    tables = [read_properties(path) for path in files]
    return {key: np.concatenate([t[key] for t in tables]) for key in tables[0]}


def test_eight_beads_have_the_energy_of_eight_beads(tmp_path: Path) -> None:
    """Also of a run that was killed: nothing is lost, and nothing is there twice."""
    folder, short = tmp_path / "run", job(8, 0.4)
    # of 2201 calls, the last 1601 are of the production; checkpoints every 500 steps
    with pytest.raises(CalculationFailed, match="ended unexpectedly"):
        run_wells(folder, short, n_atoms=200, fatal_call=900)
    assert 500 in read_steps(folder)
    run_wells(folder, short, n_atoms=200, resume=True)
    assert read_steps(folder) == list(range(0, 1601, 4))
    exact = 1.5 * STIFFNESS * mean_square(8, 300.0)
    found = properties(folder)
    # 600 coordinates at some ten independent times: 2 %
    assert found["potential"].mean() / 200 == pytest.approx(exact, rel=0.06)
    assert found["kinetic_cv"].mean() / 200 == pytest.approx(exact, rel=0.06)
    # far from classical, and not yet that of infinitely many beads
    assert 0.25 * exact > 1.5 * BOLTZMANN * 300
    assert 1.5 * STIFFNESS * quantum_mean_square(300.0) > 1.15 * exact


def read_steps(folder: Path) -> list[int]:
    path = folder / "replica_0" / "production.dipole"
    return read_extras(path, n_beads=8, n_values=3)[0].tolist()


@pytest.mark.slow
def test_a_killed_run_has_the_numbers_of_one_that_was_not(tmp_path: Path) -> None:
    short = job(3, 0.3, equilibration_ps=0.05, centroid_fs=1000.0)
    run_wells(tmp_path / "whole", short, n_atoms=2)
    with pytest.raises(CalculationFailed, match="ended unexpectedly"):
        run_wells(tmp_path / "killed", short, n_atoms=2, fatal_call=800)
    run_wells(tmp_path / "killed", short, n_atoms=2, resume=True)
    whole, resumed = (
        ring_dipoles(tmp_path / name / "replica_0" / "production.dipole", 3)
        for name in ("whole", "killed")
    )
    # checkpoints hold 17 digits, but of the beads and not of their normal modes
    np.testing.assert_allclose(resumed, whole, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_nothing_outlives_the_program_that_started_it(tmp_path: Path) -> None:
    run_wells(tmp_path / "run", job(2, 0.05), n_atoms=1)
    words = ["molpool_calc.path_integrals.child", "free", "1", "production:100000000"]
    child = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=tmp_path / "run" / "replica_0",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert "production 700" in child.stdout.readline()
        child.stdin.close()  # as when the parent is killed
        assert child.wait(timeout=60) == 1


@pytest.mark.slow
def test_the_spectrum_of_an_oscillator_is_its_band(tmp_path: Path) -> None:
    """Position and strength are exact for a harmonic mode, whatever the beads."""
    run_wells(tmp_path / "run", job(8, 1.0, replicas=4), n_atoms=100)
    spectrum = quantum_spectrum(tmp_path / "run")
    top = max(peaks(spectrum), key=lambda peak: peak[1])[0]
    assert top == pytest.approx(WAVENUMBER, abs=6.0)
    # 100 atoms move in three directions with 1 e; but their sum is three oscillators
    # only, in 4 replicas: their energies scatter by 30 %, which is divided out
    strength = 300 * BAND_STRENGTH / DEBYE**2 / MASS
    squares = [
        (ring_dipoles(path, 8) ** 2).mean()
        for path in (tmp_path / "run").glob("replica_*/production.dipole")
    ]
    ratio = np.mean(squares) * STIFFNESS / (100 * BOLTZMANN * 300.0)
    assert total_integral(spectrum).value == pytest.approx(ratio * strength, rel=0.05)
    assert ratio == pytest.approx(1.0, abs=1.0)
    assert spectrum.metadata["beads"] == 8


@pytest.mark.slow
def test_one_bead_is_classical(tmp_path: Path) -> None:
    run_wells(tmp_path / "run", job(1, 1.0, replicas=2), n_atoms=200)
    found = properties(tmp_path / "run")
    thermal = 1.5 * BOLTZMANN * 300.0
    assert found["potential"].mean() / 200 == pytest.approx(thermal, rel=0.05)
    assert found["kinetic_cv"].mean() / 200 == pytest.approx(thermal, rel=0.05)
    spectrum = quantum_spectrum(tmp_path / "run")
    top = max(peaks(spectrum), key=lambda peak: peak[1])[0]
    assert top == pytest.approx(WAVENUMBER, abs=10.0)


@pytest.mark.slow
def test_a_free_particle_has_its_radius_of_gyration(tmp_path: Path) -> None:
    # without forces, the normal modes of a ring move exactly, whatever the step
    free = job(8, 4.0, replicas=2, timestep_fs=1.0)
    run_wells(tmp_path / "run", free, n_atoms=1, stiffness=0.0)
    squares = []
    for k in range(2):
        path = tmp_path / "run" / f"replica_{k}" / "production.dipole"
        _, beads = read_extras(path, n_beads=8, n_values=3)
        away = beads - ring_dipoles(path, 8)[:, None]
        squares.append((away**2).sum(axis=2).mean())
    assert np.sqrt(np.mean(squares)) == pytest.approx(gyration(8, 300.0), rel=0.04)
