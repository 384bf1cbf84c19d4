import json
from pathlib import Path

import numpy as np
import pytest

from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.spectra.harmonic import harmonic_analysis
from molpool_calc.units import COULOMB, DEBYE, FEMTOSECOND, INVERSE_CM

REFERENCE = Path(__file__).parents[2] / "shared" / "data" / "harmonic_reference.json"
# ASE's average masses, with which the reference was computed.
MASSES = {"H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999}
# sqrt(eV/Å²/amu) in cm⁻¹.
FREQUENCY = FEMTOSECOND / (2 * np.pi * CM_PER_FS)


def rotation():
    q, r = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def diatomic(separation=1.2, stretch=100.0, axis=(0, 0, 1)):
    """Return positions, masses, hessian, dipole derivatives of an HF-like molecule."""
    axis = np.asarray(axis, dtype=float)
    difference = np.concatenate([-axis, axis])
    hessian = stretch * np.outer(difference, difference)
    slopes = np.outer(difference, 0.4 * axis)
    return (
        np.stack([0 * axis, separation * axis]),
        np.array([1.0, 19.0]),
        hessian,
        slopes,
    )


def references():
    if not REFERENCE.exists():
        return []
    return sorted(json.loads(REFERENCE.read_text(encoding="utf-8")))


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference data are not here")
@pytest.mark.parametrize("key", references() or ["none"])
def test_wavenumbers_and_intensities_are_those_of_reference_molecules(key):
    molecule = json.loads(REFERENCE.read_text(encoding="utf-8"))[key]
    masses = np.array([MASSES[symbol] for symbol in molecule["symbols"]])
    positions = np.array(molecule["positions_A"])
    modes = np.array(molecule["modes_massweighted"])
    frequencies = np.array(molecule["freq_cm1"])
    root = np.sqrt(np.repeat(masses, 3))
    curvature = np.sign(frequencies) * (frequencies / FREQUENCY) ** 2
    hessian = (modes.T * curvature) @ modes * np.outer(root, root)
    # What a Hessian has and its vibrations have not: a residual of translations.
    shift = np.tile(np.eye(3), (len(masses), 1)) * root[:, None] ** 2
    hessian += 1e-3 * shift @ shift.T / masses.sum()
    slopes = np.array(molecule["dipole_derivative_e"])

    harmonic = harmonic_analysis(positions, masses, hessian, slopes)

    np.testing.assert_allclose(harmonic.wavenumbers_cm1, frequencies, atol=0.02)
    np.testing.assert_allclose(
        harmonic.ir_km_mol, molecule["ir_km_mol"], rtol=2e-3, atol=2e-2
    )
    real = frequencies[frequencies > 0]
    assert harmonic.zpe_ev == pytest.approx(real.sum() * INVERSE_CM / 2, rel=1e-6)
    assert harmonic.modes.shape == (len(frequencies), len(masses), 3)


def test_one_debye_per_angstrom_and_root_amu_gives_42_2561_km_per_mol():
    positions, masses, hessian, _ = diatomic()
    reduced = masses.prod() / masses.sum()
    slopes = np.zeros((6, 3))
    slopes[2, 2], slopes[5, 2] = -DEBYE, DEBYE
    harmonic = harmonic_analysis(positions, masses, hessian, slopes)
    # ∂µ/∂Q = ∂µ/∂r / sqrt(reduced mass).
    assert harmonic.ir_km_mol[0] * reduced == pytest.approx(42.2561, rel=2e-5)


def test_a_diatomic_has_one_vibration_at_the_textbook_wavenumber():
    # HF: k = 9.655 mdyn/Å = 60.26 eV/Å², ω_e = 4138 cm⁻¹ (Huber & Herzberg 1979).
    positions, _, hessian, slopes = diatomic(0.917, 60.26)
    harmonic = harmonic_analysis(
        positions, np.array([1.00783, 18.9984]), hessian, slopes
    )
    assert harmonic.wavenumbers_cm1 == pytest.approx([4138], abs=2)
    assert harmonic.raman_a4_amu is None


def test_a_single_atom_has_no_vibration():
    harmonic = harmonic_analysis(
        np.zeros((1, 3)), np.ones(1), np.zeros((3, 3)), np.zeros((3, 3))
    )
    assert harmonic.wavenumbers_cm1.shape == (0,)
    assert harmonic.zpe_ev == 0.0


@pytest.mark.parametrize("bend", [0.0, 1e-3])
def test_a_linear_molecule_keeps_both_bends_even_if_relaxed_roughly(bend):
    positions = np.array([[0, bend, -1.16], [0, 0, 0], [0, bend, 1.16]])
    positions = positions + np.array([3.0, 1.0, -2.0])  # far from the origin
    masses = np.array([15.999, 12.011, 15.999])
    harmonic = harmonic_analysis(positions, masses, np.eye(9), np.zeros((9, 3)))
    assert harmonic.wavenumbers_cm1.shape == (4,)


def test_a_bent_molecule_has_three_vibrations():
    positions = np.array([[0, 0.2, -1.16], [0, 0, 0], [0, 0.2, 1.16]])
    masses = np.array([15.999, 12.011, 15.999])
    harmonic = harmonic_analysis(positions, masses, np.eye(9), np.zeros((9, 3)))
    assert harmonic.wavenumbers_cm1.shape == (3,)


def test_modes_neither_move_nor_turn_the_molecule():
    rng = np.random.default_rng(0)
    positions, masses = rng.normal(size=(5, 3)), rng.uniform(1, 16, 5)
    matrix = rng.normal(size=(15, 15))
    harmonic = harmonic_analysis(
        positions, masses, matrix @ matrix.T, np.zeros((15, 3))
    )
    assert harmonic.modes.shape == (9, 5, 3)
    flat = harmonic.modes.reshape(9, 15)
    np.testing.assert_allclose(flat @ flat.T, np.eye(9), atol=1e-12)
    momentum = np.einsum("a,vak->vk", np.sqrt(masses), harmonic.modes)
    np.testing.assert_allclose(momentum, 0.0, atol=1e-12)
    turning = np.cross(positions, np.sqrt(masses)[:, None] * harmonic.modes).sum(axis=1)
    np.testing.assert_allclose(turning, 0.0, atol=1e-11)


def test_imaginary_wavenumbers_are_negative_and_have_no_zero_point_energy():
    positions, masses, hessian, slopes = diatomic()
    stable = harmonic_analysis(positions, masses, hessian, slopes)
    saddle = harmonic_analysis(positions, masses, -hessian, slopes)
    np.testing.assert_allclose(saddle.wavenumbers_cm1, -stable.wavenumbers_cm1)
    assert saddle.zpe_ev == 0.0
    assert stable.zpe_ev == pytest.approx(stable.wavenumbers_cm1[0] * INVERSE_CM / 2)


def test_raman_activity_of_a_diatomic_is_that_of_placzek():
    positions, masses, hessian, slopes = diatomic()
    reduced = masses.prod() / masses.sum()
    parallel, perpendicular = 0.31, 0.12  # ∂α/∂r in e²Å/eV
    change = np.diag([perpendicular, perpendicular, parallel])
    derivatives = np.zeros((6, 3, 3))
    derivatives[2], derivatives[5] = -change, change
    harmonic = harmonic_analysis(positions, masses, hessian, slopes, derivatives)
    # Long 2002, section 5.2, for an axis of symmetry: a = (α∥ + 2α⊥)/3, γ = α∥ - α⊥;
    # e²/(4πε₀) = 14.399645 eV·Å.
    mean = (parallel + 2 * perpendicular) / 3 * 14.399645
    anisotropy = (parallel - perpendicular) * 14.399645
    activity = (45 * mean**2 + 7 * anisotropy**2) / reduced
    assert harmonic.raman_a4_amu[0] == pytest.approx(activity, rel=1e-6)
    ratio = 3 * anisotropy**2 / (45 * mean**2 + 4 * anisotropy**2)
    assert harmonic.depolarization[0] == pytest.approx(ratio, rel=1e-6)
    assert pytest.approx(14.399645, rel=1e-6) == COULOMB


def test_intensities_do_not_depend_on_the_orientation():
    rng = np.random.default_rng(7)
    positions, masses = rng.normal(size=(4, 3)), rng.uniform(1, 16, 4)
    matrix = rng.normal(size=(12, 12))
    hessian, slopes = matrix @ matrix.T, rng.normal(size=(12, 3))
    tensors = rng.normal(size=(12, 3, 3))
    tensors = tensors + tensors.transpose(0, 2, 1)
    turn = rotation()
    block = np.kron(np.eye(4), turn)
    first = harmonic_analysis(positions, masses, hessian, slopes, tensors)
    second = harmonic_analysis(
        positions @ turn.T,
        masses,
        block @ hessian @ block.T,
        block @ slopes @ turn.T,
        np.einsum("xy,ykl,pk,ql->xpq", block, tensors, turn, turn),
    )
    for name in ("wavenumbers_cm1", "ir_km_mol", "raman_a4_amu"):
        np.testing.assert_allclose(
            getattr(second, name), getattr(first, name), rtol=1e-8, atol=1e-8
        )


def test_shapes_that_do_not_belong_together_are_refused():
    positions, masses, hessian, slopes = diatomic()
    with pytest.raises(ValueError, match=r"2 masses came with .* \(3, 3\) and dipole"):
        harmonic_analysis(positions, masses, hessian[:3, :3], slopes[:3])


def test_a_mass_that_is_not_positive_is_refused():
    positions, _, hessian, slopes = diatomic()
    with pytest.raises(ValueError, match="atom 1 has a mass that is not positive"):
        harmonic_analysis(positions, np.array([1.0, 0.0]), hessian, slopes)
