"""Densities of states of motions whose modes are known."""

import numpy as np
import pytest
from test_spectra_infrared import angular

from molpool_calc.spectra.estimator import Estimator
from molpool_calc.spectra.harmonic import harmonic_analysis
from molpool_calc.spectra.spectrum import band_integral, peaks, total_integral
from molpool_calc.spectra.vibrational_dos import (
    internal_velocities,
    rotations_of,
    vibrational_dos,
)
from molpool_calc.units import FEMTOSECOND

MASSES = np.array([16.0, 1.0, 12.0])
POSITIONS = np.array([[0.0, 0.1, 0.0], [0.9, -0.3, 0.1], [-0.4, 1.0, 0.3]])


def triatomic():
    """Return the harmonic analysis of a molecule with well separated modes."""
    rng = np.random.default_rng(4)
    root = np.sqrt(np.repeat(MASSES, 3))
    basis = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    frequencies = angular(np.linspace(500.0, 3600.0, 9)) / FEMTOSECOND
    hessian = (basis * frequencies**2) @ basis.T * np.outer(root, root)
    return harmonic_analysis(POSITIONS, MASSES, hessian, np.zeros((9, 3)))


def thermal_velocities(harmonic, *, n_replicas=4, length_fs=12_000.0, interval_fs=2.0):
    """Return velocities in which every mode has the same energy."""
    time_fs = np.arange(0.0, length_fs, interval_fs)
    n_modes = len(harmonic.wavenumbers_cm1)
    phases = np.random.default_rng(1).uniform(0, 6.28, (n_replicas, n_modes, 1))
    motion = np.cos(angular(harmonic.wavenumbers_cm1)[:, None] * time_fs + phases)
    displacements = harmonic.modes / np.sqrt(MASSES)[:, None]
    return np.einsum("rkt,kax->rtax", motion, displacements)


def test_every_mode_of_a_molecule_counts_as_one():
    harmonic = triatomic()
    groups = {"O": np.array([0]), "H": np.array([1]), "C": np.array([2])}
    dos = vibrational_dos(
        thermal_velocities(harmonic),
        MASSES,
        degrees_of_freedom=3,
        timestep_fs=2.0,
        groups=groups,
        estimator=Estimator(biased=False),
    )
    assert dos.unit == "modes per cm-1"
    assert total_integral(dos).value == pytest.approx(3.0, rel=2e-3)
    x = dos.wavenumbers
    for wavenumber, mode in zip(
        harmonic.wavenumbers_cm1.tolist(), harmonic.modes, strict=True
    ):
        band = band_integral(dos, wavenumber - 40.0, wavenumber + 40.0)
        assert band.value == pytest.approx(1.0, rel=0.01)
        near = np.abs(x - wavenumber) < 40.0
        for k, name in enumerate(groups):
            # what an atom has of a mode is its part of the normalised eigenvector
            share = np.trapezoid(dos.components[name][near], x[near])
            assert share == pytest.approx(float((mode[k] ** 2).sum()), abs=0.01)
    np.testing.assert_allclose(sum(dos.components.values()), dos.intensity)


def test_rigid_motion_does_not_matter():
    rng = np.random.default_rng(3)
    velocities = thermal_velocities(triatomic(), n_replicas=2, length_fs=400.0)
    positions = POSITIONS + 0.1 * rng.normal(size=velocities.shape)
    shape = (*velocities.shape[:2], 1, 3)
    rigid = rng.normal(size=shape) + np.cross(rng.normal(size=shape), positions)
    first, second = (
        internal_velocities(given, positions, MASSES, rotations=3)
        for given in (velocities, velocities + rigid)
    )
    np.testing.assert_allclose(second, first, atol=1e-12)
    momenta = MASSES[:, None] * first
    assert np.abs(momenta.sum(axis=2)).max() < 1e-12
    assert np.abs(np.cross(positions, momenta).sum(axis=2)).max() < 1e-12


def test_a_bent_linear_molecule_keeps_the_turning_about_its_axis():
    """Both bends of a linear molecule, at once, turn it about its own axis."""
    masses = np.array([16.0, 12.0, 16.0])
    straight = np.array([[0.0, 0, -1.16], [0, 0, 0], [0, 0, 1.16]])
    assert rotations_of(straight, masses) == 2
    assert rotations_of(POSITIONS, MASSES) == 3
    assert rotations_of(np.zeros((1, 3)), masses[:1]) == 0
    bend = np.array([1.0, -2 * 16.0 / 12.0, 1.0])[:, None]
    positions = (straight + 0.05 * bend * [1.0, 0, 0])[None, None]
    velocities = (bend * [0.0, 1.0, 0])[None, None]
    kept = internal_velocities(velocities, positions, masses, rotations=2)
    # of second order in the bend, since the axis of inertia is not quite z
    np.testing.assert_allclose(kept, velocities, atol=0.02)
    lost = internal_velocities(velocities, positions, masses, rotations=3)
    assert np.abs(lost).max() < 1e-6


def test_atoms_of_a_crystal_lose_their_common_motion_only():
    rng = np.random.default_rng(0)
    velocities, positions = rng.normal(size=(2, 1, 4, 3, 3))
    kept = internal_velocities(velocities, positions, MASSES, rotations=0)
    drift = np.einsum("a,rtax->rtx", MASSES, velocities)[:, :, None] / MASSES.sum()
    np.testing.assert_allclose(kept, velocities - drift, atol=1e-12)


def test_modes_of_velocity_verlet_are_put_right_on_request():
    step_fs, wavenumbers = 1.0, np.array([800.0, 3500.0])
    squares = angular(wavenumbers) ** 2
    velocities = np.zeros((24_000, 2))
    x, v = 1.0 / angular(wavenumbers), np.zeros(2)  # equal potential energies
    for k in range(len(velocities)):
        velocities[k] = v
        v = v - 0.5 * step_fs * squares * x
        x = x + step_fs * v
        v = v - 0.5 * step_fs * squares * x
    along = np.zeros((1, 12_000, 2, 3))
    along[0, :, :, 0] = velocities[::2]
    settings = {
        "degrees_of_freedom": 2,
        "timestep_fs": 2.0,
        "verlet_timestep_fs": step_fs,
        "estimator": Estimator(biased=False),
    }
    plain = vibrational_dos(along, np.ones(2), **settings)
    right = vibrational_dos(along, np.ones(2), **settings, correct_verlet_shift=True)
    colder = 1 - squares[1] / 4
    low = band_integral(plain, 700.0, 900.0).value
    high = band_integral(plain, 3400.0, 3700.0).value
    assert high / low == pytest.approx(colder / (1 - squares[0] / 4), rel=2e-3)
    for wavenumber in wavenumbers.tolist():
        band = band_integral(right, wavenumber - 100.0, wavenumber + 100.0)
        assert band.value == pytest.approx(1.0, rel=5e-3)
    found = [position for position, _ in peaks(right)]
    assert found == pytest.approx(wavenumbers.tolist(), abs=0.2)


def test_a_gas_of_free_modes_has_a_band():
    velocities = np.random.default_rng(0).normal(size=(4, 4000, 2, 3))
    dos = vibrational_dos(velocities, np.ones(2), degrees_of_freedom=6, timestep_fs=2.0)
    assert dos.lower is not None
    # white noise: 6 modes evenly up to the Nyquist wavenumber of 8339 cm⁻¹
    mean = total_integral(dos).value / dos.wavenumbers[-1]
    assert mean == pytest.approx(6.0 / 8339.1, rel=0.02)
    assert dos.components == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": {"a": np.array([0])}}, "groups hold the atoms"),
        ({"degrees_of_freedom": 0}, "0 degrees of freedom do not vibrate"),
        ({"timestep_fs": 4.0}, "samples every 4 fs resolve up to 4170 cm-1"),
        ({"velocities": np.zeros((1, 4000, 2, 3))}, "nothing moves in any frame"),
    ],
)
def test_what_gives_no_density_of_states_is_refused(change, message):
    velocities = np.random.default_rng(0).normal(size=(1, 4000, 2, 3))
    given = {"velocities": velocities, "degrees_of_freedom": 1, "timestep_fs": 2.0}
    with pytest.raises(ValueError, match=message):
        vibrational_dos(masses=np.ones(2), **{**given, **change})
