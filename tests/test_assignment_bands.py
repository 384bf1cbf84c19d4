"""Velocities on normal modes, and bands with the modes and motions that make them."""

import csv
import json

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation
from valence_fields import vibrations

from molpool_calc.assignment import (
    ModeVelocities,
    Reference,
    assign_bands,
    mode_power,
    mode_velocities,
    motion_shares,
)
from molpool_calc.assignment.eckart import to_eckart_frame
from molpool_calc.spectra import (
    Estimator,
    find_bands,
    infrared_spectrum,
    write_assignment,
)
from molpool_calc.spectra.correlation import CM_PER_FS

RNG = np.random.default_rng(7)


def reference_of(atoms):
    coordinates, spectrum = vibrations(atoms)
    return (
        Reference(
            positions=atoms.positions,
            masses=atoms.get_masses(),
            modes=spectrum.modes,
            coordinates=coordinates,
        ),
        spectrum,
    )


@pytest.mark.parametrize("name", ["CH3OH", "CO2"])
def test_velocities_in_the_eckart_frame_are_exact_derivatives(name):
    atoms = molecule(name)
    masses, fixed = atoms.get_masses(), atoms.positions
    wobble = 0.1 * RNG.normal(size=(2, *fixed.shape))

    def moving(time):
        inner = fixed + np.cos(time) * wobble[0] + np.sin(2.0 * time) * wobble[1]
        turn = Rotation.from_rotvec([0.3 + time, -0.4 * time, 0.2]).as_matrix()
        return inner @ turn.T + [2.0 * time, 1.0, 0.0]

    step, now = 1e-5, 0.3
    frames = np.stack([moving(now + n * step) for n in (-1, 0, 1)])
    velocity = (frames[2] - frames[0]) / (2.0 * step)
    velocities = np.stack([velocity] * 3)
    found, rates = to_eckart_frame(frames, velocities, fixed, masses)
    expected = (found[2] - found[0]) / (2.0 * step)
    centred = fixed - masses @ fixed / masses.sum()
    if name == "CO2":  # whose turning about the axis is part of its bends
        axis = centred[1] / np.linalg.norm(centred[1])
        spin = np.cross(axis, found[1])
        part = ((expected - rates[1]) * spin).sum() / (spin**2).sum()
        expected = expected - part * spin
    np.testing.assert_allclose(rates[1], expected, atol=1e-7)
    torque = np.einsum("a,ax->x", masses, np.cross(centred, found[1]))
    np.testing.assert_allclose(torque, 0.0, atol=1e-9)


@pytest.mark.parametrize("name", ["H2O", "CH3CH2OH", "CH3CN", "CO2", "C6H6"])
def test_motion_along_a_mode_has_the_velocity_of_that_mode_only(name):
    """Also while the molecule turns, moves, and lies anywhere."""
    atoms = molecule(name)
    reference, spectrum = reference_of(atoms)
    rates = np.diag(RNG.normal(size=len(spectrum.modes)))
    masses = atoms.get_masses()[:, None]
    velocities = np.einsum("fk,kax->fax", rates, spectrum.modes) / np.sqrt(masses)
    velocities = velocities + np.cross([0.1, -0.7, 0.4], atoms.positions) + 0.5
    turn = Rotation.from_rotvec([0.5, 1.0, -0.8]).as_matrix()
    positions = np.broadcast_to(atoms.positions @ turn.T + 4.0, velocities.shape)
    found = mode_velocities(positions[None], (velocities @ turn.T)[None], reference)
    assert found.projection == "curvilinear"
    values = found.values[0]
    if name == "CO2":  # its two bends turn into each other about the axis
        np.testing.assert_allclose(
            np.hypot(*values[:2, :2].T), np.hypot(*rates[:2, :2].T), atol=1e-8
        )
        values, rates = values[2:, 2:], rates[2:, 2:]
    np.testing.assert_allclose(values, rates, atol=1e-8)
    assert found.kinetic_ratio == pytest.approx(1.0, abs=1e-8)


def test_a_turned_hydroxyl_group_still_stretches():
    """120° about the C-O bond from the reference, moving along its O-H bond."""
    atoms = molecule("CH3OH")
    reference, spectrum = reference_of(atoms)
    turned = atoms.copy()
    carbon, oxygen = 0, 1
    hydrogen = min(range(2, 6), key=lambda n: atoms.get_distance(oxygen, n))
    axis = atoms.positions[oxygen] - atoms.positions[carbon]
    arm = atoms.positions[hydrogen] - atoms.positions[oxygen]
    spin = Rotation.from_rotvec(np.radians(120.0) * axis / np.linalg.norm(axis))
    turned.positions[hydrogen] = atoms.positions[oxygen] + spin.apply(arm)
    along = turned.positions[hydrogen] - turned.positions[oxygen]
    velocities = np.zeros((1, 1, 6, 3))
    velocities[0, 0, hydrogen] = along
    velocities[0, 0, oxygen] = -along * 1.008 / 15.999
    frames = turned.positions[None, None]
    found = mode_velocities(frames, velocities, reference).values[0, 0] ** 2
    assert found[-1] / found.sum() > 0.99, "the O-H stretch is the fastest mode"
    plain = Reference(
        positions=reference.positions,
        masses=reference.masses,
        modes=spectrum.modes,
        coordinates=reference.coordinates[:3],
    )
    fixed = mode_velocities(frames, velocities, plain)
    assert fixed.projection == "rectilinear"
    assert fixed.values[0, 0, -1] ** 2 / (fixed.values**2).sum() < 0.8
    assert fixed.kinetic_ratio == pytest.approx(1.0, abs=1e-8)


STRENGTH = {4: 1.0, 5: 0.4, 11: 0.7}
"""Of methanol's modes: the square of their dipole derivative, e²/amu."""


def trajectory(wavenumbers, n_steps=12_000, interval_fs=2.0):
    """Small oscillations of three modes of methanol with k_BT each, and dipoles."""
    atoms = molecule("CH3OH")
    reference, spectrum = reference_of(atoms)
    time = interval_fs * np.arange(n_steps)
    shape = (1, n_steps, 6, 3)
    positions, velocities = np.zeros(shape), np.zeros(shape)
    dipoles = np.zeros((1, n_steps, 3))
    root = np.sqrt(atoms.get_masses())[:, None]
    for axis, (mode, strength) in enumerate(STRENGTH.items()):
        omega = 2.0 * np.pi * CM_PER_FS * wavenumbers[mode]
        # ½ω²Q² averages to ½k_BT: amplitudes in Å·sqrt(amu), 1 eV = 9648.5 amu Å²/ps²
        size = np.sqrt(2.0 * 8.617333e-5 * 1.0 * 9648.533e-6) / omega
        angle = omega * time + 1.0 + mode
        along = spectrum.modes[mode] / root
        positions[0] += size * np.cos(angle)[:, None, None] * along
        velocities[0] -= size * omega * np.sin(angle)[:, None, None] * along
        dipoles[0, :, axis] = np.sqrt(strength) * size * np.cos(angle)
    return reference, positions + atoms.positions, velocities, dipoles


def assigned(wavenumbers, interval_fs=2.0):
    reference, positions, velocities, dipoles = trajectory(wavenumbers)
    estimator = Estimator(resolution=8.0, maximum=4000.0, highest_wavenumber=4000.0)
    spectrum = infrared_spectrum(
        dipoles, timestep_fs=interval_fs, temperature=1.0, estimator=estimator
    )
    power = mode_power(
        mode_velocities(positions, velocities, reference),
        interval_fs=interval_fs,
        estimator=estimator,
    )
    strengths = np.zeros(12)
    strengths[list(STRENGTH)] = list(STRENGTH.values())
    motions = motion_shares(
        reference.coordinates, reference.positions, reference.masses, reference.modes
    )
    bands = find_bands(spectrum.wavenumbers, spectrum.intensity, width=20.0)
    harmonic = np.linspace(100.0, 1200.0, 12)
    harmonic[list(STRENGTH)] = [1300.0, 1450.0, 3700.0]
    return assign_bands(
        spectrum,
        bands,
        power,
        wavenumbers=harmonic,
        strengths=strengths,
        motions=motions,
    )


def test_every_band_is_given_to_the_mode_that_makes_it():
    """With the area N_A/(12ε₀c²)·|∂µ/∂Q|²: 974.88 km/mol per e²/amu."""
    bands = assigned({4: 1300.0, 5: 1450.0, 11: 3700.0})
    assert [round(band.position_cm1, -1) for band in bands] == [1300, 1450, 3700]
    for band, (mode, strength) in zip(bands, STRENGTH.items(), strict=True):
        assert band.modes[0].number == mode + 1
        assert band.modes[0].share > 0.95
        assert band.area_km_mol == pytest.approx(974.88 * strength, rel=0.06)
        assert band.reliability > 0.95
        assert sum(motion.share for motion in band.motions) > 0.9
    assert bands[2].label == "O–H stretch"


def test_modes_share_a_band_by_their_strengths():
    first, _ = assigned({4: 1300.0, 5: 1304.0, 11: 3700.0})
    shares = {mode.number: mode.share for mode in first.modes}
    assert shares[5] == pytest.approx(1.0 / 1.4, abs=0.03)
    assert shares[6] == pytest.approx(0.4 / 1.4, abs=0.03)


def test_motion_far_from_the_harmonic_wavenumber_is_not_reliable():
    *_, last = assigned({4: 1300.0, 5: 3000.0, 11: 3700.0})[1:]
    moved = assigned({4: 1300.0, 5: 3000.0, 11: 3700.0})[1]
    assert moved.modes[0].number == 6
    assert moved.reliability < 0.1
    assert last.reliability > 0.95


def test_the_file_lists_bands_modes_and_motions(tmp_path):
    bands = assigned({4: 1300.0, 5: 1304.0, 11: 3700.0})
    path = tmp_path / "assignment.csv"
    write_assignment(bands, path, {"projection": "curvilinear"})
    comment, *lines = path.read_text(encoding="utf-8").splitlines()
    assert comment.startswith("# unit: cm-1 and km/mol, shares are fractions")
    assert json.loads(comment.partition("; metadata: ")[2])["projection"]
    rows = list(csv.DictReader(lines))
    assert len(rows) == len(bands) == 2
    assert rows[0]["modes"].split(";")[:2] == ["5", "6"]
    shares = [float(share) for share in rows[0]["mode_shares"].split(";")]
    assert shares[0] == pytest.approx(bands[0].modes[0].share, abs=1e-3)
    assert float(rows[0]["low_cm-1"]) < 1300.0 < float(rows[0]["high_cm-1"])
    assert rows[1]["motions"].split(";")[0] == rows[1]["label"] == "O–H stretch"


def test_power_of_modes_needs_frames_that_are_close_enough():
    velocities = ModeVelocities(
        values=np.zeros((1, 500, 2)), projection="curvilinear", kinetic_ratio=1.0
    )
    with pytest.raises(ValueError, match="would fold 4500"):
        mode_power(velocities, interval_fs=10.0, estimator=Estimator())
