"""Raman spectra of harmonic motions with known derivatives of the polarizability."""

import numpy as np
import pytest
import scipy.constants as si
from test_spectra_infrared import angular, thermal_amplitude

from molpool_calc.spectra.estimator import Estimator
from molpool_calc.spectra.files import read_spectrum, write_spectrum
from molpool_calc.spectra.harmonic import harmonic_analysis
from molpool_calc.spectra.raman import (
    Scattering,
    cross_section_factor,
    raman_spectrum,
)
from molpool_calc.spectra.spectrum import band_integral, peaks, total_integral
from molpool_calc.units import COULOMB, FEMTOSECOND

TEMPERATURE = 300.0
ACTIVITY = Scattering(quantity="activity")
# A derivative without any symmetry, in Å²/sqrt(amu).
SLOPE = np.array([[1.3, 0.4, -0.2], [0.4, -0.5, 0.7], [-0.2, 0.7, 0.9]])


def placzek(slope, of_mean, of_anisotropy):
    """Return ``of_mean·a'² + of_anisotropy·γ'²`` from the nine elements."""
    (xx, xy, zx), (_, yy, yz), (_, _, zz) = slope
    squares = (xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2
    anisotropy = 0.5 * squares + 3 * (xy**2 + yz**2 + zx**2)
    return of_mean * ((xx + yy + zz) / 3) ** 2 + of_anisotropy * anisotropy


def tensors_of(modes, *, n_replicas=1, length_fs=12_000.0, timestep_fs=0.5, seed=1):
    """Return polarizabilities (e²Å²/eV) of modes (wavenumber, ∂α/∂Q) of energy kT.

    ∂α/∂Q is in Å²/sqrt(amu).
    """
    time_fs = np.arange(0.0, length_fs, timestep_fs)
    phases = np.random.default_rng(seed).uniform(0, 6.28, (n_replicas, len(modes)))
    tensors = np.zeros((n_replicas, time_fs.size, 3, 3)) + 5.0 * np.eye(3)
    for k, (wavenumber, slope) in enumerate(modes):
        phase = angular(wavenumber) * time_fs + phases[:, k, None]
        motion = thermal_amplitude(wavenumber) * np.cos(phase)
        tensors += motion[..., None, None] * np.asarray(slope) / COULOMB
    return tensors


def spectrum_of(tensors, *, timestep_fs=0.5, **options):
    common = {"timestep_fs": timestep_fs, "temperature": TEMPERATURE}
    return raman_spectrum(tensors, **common, **options)


@pytest.mark.parametrize("wavenumber", [400.0, 1700.0, 3700.0])
@pytest.mark.parametrize("timestep_fs", [0.5, 2.0])
@pytest.mark.parametrize(
    ("polarization", "weights"),
    [
        ("unpolarized", (45, 7)),
        ("parallel", (45, 4)),
        ("perpendicular", (0, 3)),
        ("isotropic", (45, 0)),
        ("anisotropic", (0, 7)),
    ],
)
def test_a_thermal_oscillator_integrates_to_its_activity(
    wavenumber, timestep_fs, polarization, weights
):
    tensors = tensors_of([(wavenumber, SLOPE)], timestep_fs=timestep_fs)
    scattering = Scattering(quantity="activity", polarization=polarization)
    spectrum = spectrum_of(tensors, timestep_fs=timestep_fs, scattering=scattering)
    assert spectrum.unit == "A^4/amu per cm-1"
    exact = placzek(SLOPE, *weights)
    assert total_integral(spectrum).value == pytest.approx(exact, rel=1e-3)
    assert peaks(spectrum)[0][0] == pytest.approx(wavenumber, abs=0.2)


def test_the_dynamics_of_a_triatomic_give_its_harmonic_activities():
    rng = np.random.default_rng(4)
    positions, masses = rng.normal(size=(3, 3)), np.array([16.0, 1.0, 12.0])
    root = np.sqrt(np.repeat(masses, 3))
    basis = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    frequencies = angular(np.linspace(500.0, 3600.0, 9)) / FEMTOSECOND
    hessian = (basis * frequencies**2) @ basis.T * np.outer(root, root)
    slopes = rng.normal(size=(9, 3, 3)) * 0.3
    slopes = slopes + slopes.swapaxes(1, 2)
    harmonic = harmonic_analysis(positions, masses, hessian, np.zeros((9, 3)), slopes)
    along = np.tensordot(harmonic.modes.reshape(3, 9) / root, slopes, axes=1) * COULOMB
    modes = list(zip(harmonic.wavenumbers_cm1.tolist(), along, strict=True))
    tensors = tensors_of(modes, n_replicas=4)
    spectrum = spectrum_of(
        tensors, scattering=ACTIVITY, estimator=Estimator(biased=False)
    )
    for wavenumber, activity in zip(
        harmonic.wavenumbers_cm1.tolist(), harmonic.raman_a4_amu.tolist(), strict=True
    ):
        band = band_integral(spectrum, wavenumber - 30.0, wavenumber + 30.0)
        assert band.value == pytest.approx(activity, rel=0.01)


def test_only_the_mean_polarizability_is_polarized():
    breathing, twisting = 0.8 * np.eye(3), np.diag([1.0, -1.0, 0.0])
    spectrum = spectrum_of(tensors_of([(900.0, breathing), (2200.0, twisting)]))
    ratio = spectrum.components["depolarization_ratio"]
    at = [int(np.argmin(np.abs(spectrum.wavenumbers - x))) for x in (900.0, 2200.0)]
    # 0 but for what the biased estimate of the other mode leaves here
    assert ratio[at[0]] == pytest.approx(0.0, abs=1e-3)
    assert ratio[at[1]] == pytest.approx(0.75, abs=1e-3)
    parts = spectrum.components
    np.testing.assert_allclose(
        parts["parallel"] + parts["perpendicular"], parts["unpolarized"]
    )
    np.testing.assert_allclose(
        parts["isotropic"] + parts["anisotropic"], parts["unpolarized"]
    )


def test_turning_each_replica_changes_nothing():
    rng = np.random.default_rng(2)
    modes = [(700.0, SLOPE), (1500.0, SLOPE @ SLOPE), (3000.0, np.diag([0.1, 0.2, 1]))]
    tensors = tensors_of(modes, n_replicas=5, length_fs=7000.0)
    turns = np.linalg.qr(rng.normal(size=(5, 1, 3, 3)))[0]
    turned = turns @ tensors @ turns.swapaxes(2, 3)
    first, second = (spectrum_of(given) for given in (tensors, turned))
    for name in ("unpolarized", "parallel", "perpendicular", "isotropic"):
        np.testing.assert_allclose(
            second.components[name], first.components[name], rtol=1e-9, atol=1e-12
        )
    np.testing.assert_allclose(second.lower, first.lower, rtol=1e-6, atol=1e-12)


def test_the_classical_cross_section_is_that_of_a_classical_antenna():
    """A dipole α'Q·E radiates at the Stokes side band; everything in SI units."""
    wavenumber, laser_nm, slope = 400.0, 488.0, 0.9
    spectrum = spectrum_of(
        tensors_of([(wavenumber, slope * np.eye(3))]),
        scattering=Scattering(laser_nm=laser_nm),
        correction="classical",
    )
    vibration = 2 * np.pi * si.c * wavenumber * 100
    amplitude_2 = 2 * si.k * TEMPERATURE / vibration**2  # of Q, kg·m²
    # Å²/sqrt(amu) as a volume per length and root mass, then in C·m/V
    induced = slope * 1e-20 / np.sqrt(si.atomic_mass) * 4 * np.pi * si.epsilon_0
    dipole_2 = induced**2 * amplitude_2 / 4  # half the amplitude in each side band
    radiated = 2 * np.pi * si.c / (laser_nm * 1e-9) - vibration
    power = dipole_2 * radiated**4 / (32 * np.pi**2 * si.epsilon_0 * si.c**3)
    intensity = si.epsilon_0 * si.c / 2
    exact = power / intensity * 1e34
    assert spectrum.unit == "1e-30 cm2/sr per cm-1"
    band = band_integral(spectrum, wavenumber - 100.0, wavenumber + 100.0)
    assert band.value == pytest.approx(exact, rel=0.01)
    assert spectrum.metadata["laser_nm"] == laser_nm


def test_the_bose_factor_at_1600_wavenumbers_is_nearly_one():
    warm, cold = (
        float(
            cross_section_factor(np.array([1600.0]), temperature=t, laser_nm=532.0)[0]
        )
        for t in (300.0, 1.0)
    )
    assert warm / cold == pytest.approx(1.0005, abs=5e-5)


def test_a_laser_counts_with_the_fourth_power_of_what_it_leaves():
    blue, red = (
        cross_section_factor(np.array([3000.0]), temperature=300.0, laser_nm=laser)
        for laser in (488.0, 785.0)
    )
    exact = ((1e7 / 488.0 - 3000.0) / (1e7 / 785.0 - 3000.0)) ** 4
    assert float((blue / red)[0]) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("correction", "ratio"),
    # q(x)/q_harmonic(x) at x = hc·2000 cm⁻¹/(k_B·300 K) = 9.5919.
    [("harmonic", 1.0), ("standard", 0.20850), ("classical", 0.10425)],
)
def test_quantum_corrections_are_those_of_infrared_spectra(correction, ratio):
    tensors = tensors_of([(2000.0, SLOPE)], length_fs=7000.0)
    spectrum = spectrum_of(tensors, correction=correction)
    middle = np.argmin(np.abs(spectrum.wavenumbers - 2000.0))
    measured = spectrum.intensity[middle] / spectrum_of(tensors).intensity[middle]
    assert measured == pytest.approx(ratio, rel=2e-3)


def test_correcting_the_verlet_shift_keeps_activities():
    tensors = tensors_of([(3500.0, SLOPE)], timestep_fs=1.0)
    plain, moved = (
        spectrum_of(
            tensors, timestep_fs=1.0, scattering=ACTIVITY, correct_verlet_shift=correct
        )
        for correct in (False, True)
    )
    expected = 2 / angular(1.0) * np.sin(angular(3500.0) / 2)
    assert peaks(moved)[0][0] == pytest.approx(expected, abs=0.2)
    assert total_integral(moved).value == pytest.approx(
        total_integral(plain).value, rel=1e-3
    )


def test_the_file_keeps_the_four_columns_first_and_the_components_after(tmp_path):
    tensors = tensors_of([(1000.0, SLOPE)], n_replicas=4, length_fs=3000.0)
    spectrum = spectrum_of(tensors, estimator=Estimator(resolution=20.0))
    assert spectrum.wavenumbers[0] >= 20.0
    write_spectrum(spectrum, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0].startswith("# unit: 1e-30 cm2/sr per cm-1;")
    assert lines[1] == (
        "wavenumber_cm-1,intensity,lower,upper,unpolarized,parallel,perpendicular,"
        "isotropic,anisotropic,depolarization_ratio,activity_A^4/amu"
    )
    again = read_spectrum(tmp_path / "a.csv")
    assert again.upper is not None
    for name, values in spectrum.components.items():
        np.testing.assert_allclose(again.components[name], values, rtol=1e-9)
    np.testing.assert_array_equal(again.intensity, again.components["unpolarized"])


def test_a_laser_without_wavelength_is_refused():
    with pytest.raises(ValueError, match="wavelength of -1 nm; give a positive"):
        Scattering(laser_nm=-1.0)


def test_a_laser_of_too_little_energy_is_refused():
    tensors = np.random.default_rng(0).normal(size=(1, 2000, 3, 3))
    with pytest.raises(ValueError, match=r"3333 cm-1, which cannot lose 4\d+ cm-1"):
        spectrum_of(
            tensors,
            scattering=Scattering(laser_nm=3000.0),
            estimator=Estimator(resolution=60.0),
        )
