import numpy as np
import pytest

from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.spectra.estimator import Estimator
from molpool_calc.spectra.harmonic import harmonic_analysis
from molpool_calc.spectra.infrared import infrared_spectrum
from molpool_calc.spectra.spectrum import band_integral, peaks, total_integral
from molpool_calc.spectra.verlet import true_wavenumbers
from molpool_calc.units import BOLTZMANN, DEBYE, FEMTOSECOND

TEMPERATURE = 300.0
KT = BOLTZMANN * TEMPERATURE
# N_A/(12ε₀c²) in km/mol per (D/Å)²/amu.
BAND_STRENGTH = 42.2561


def angular(wavenumber):
    """Return the angular frequency in rad/fs."""
    return 2 * np.pi * CM_PER_FS * wavenumber


def thermal_amplitude(wavenumber):
    """Return the amplitude in Å·sqrt(amu) of a mode of energy kT."""
    return np.sqrt(2 * KT) * FEMTOSECOND / angular(wavenumber)


def modes_at_temperature(modes, *, n_replicas=1, length_fs=12_000.0, timestep_fs=0.5):
    """Return dipoles of modes (wavenumber, ∂µ/∂Q in e/sqrt(amu)) of energy kT each."""
    time_fs = np.arange(0.0, length_fs, timestep_fs)
    phases = np.random.default_rng(1).uniform(0, 6.28, (n_replicas, len(modes)))
    dipoles = np.zeros((n_replicas, time_fs.size, 3))
    for k, (wavenumber, slope) in enumerate(modes):
        phase = angular(wavenumber) * time_fs + phases[:, k, None]
        motion = thermal_amplitude(wavenumber) * np.cos(phase)
        dipoles += motion[..., None] * np.asarray(slope)
    return dipoles


@pytest.mark.parametrize("wavenumber", [400.0, 1700.0, 3700.0])
@pytest.mark.parametrize("timestep_fs", [0.5, 2.0])
def test_a_thermal_oscillator_integrates_to_its_band_strength(wavenumber, timestep_fs):
    # ∂µ/∂r = 2 D/Å along (0, 3, 4)/5 with an effective mass of 1.7 amu.
    slope = 2 * DEBYE * np.array([0.0, 0.6, 0.8]) / np.sqrt(1.7)
    dipoles = modes_at_temperature([(wavenumber, slope)], timestep_fs=timestep_fs)
    spectrum = infrared_spectrum(
        dipoles, timestep_fs=timestep_fs, temperature=TEMPERATURE
    )
    exact = BAND_STRENGTH * 4 / 1.7
    assert total_integral(spectrum).value == pytest.approx(exact, rel=1e-3)
    assert peaks(spectrum)[0][0] == pytest.approx(wavenumber, abs=0.2)


def test_the_static_dipole_does_not_matter():
    dipoles = modes_at_temperature([(1000.0, [0.1, 0.0, 0.0])])
    first, second = (
        infrared_spectrum(moved, timestep_fs=0.5, temperature=TEMPERATURE).intensity
        for moved in (dipoles, dipoles + np.array([0.0, 0.4, 0.2]))
    )
    np.testing.assert_allclose(second, first, rtol=1e-6, atol=1e-9)


def test_two_modes_of_different_polarisation_keep_their_ratio():
    # A peer normalises each component on its own and finds 0.996 instead of 0.09.
    modes = [(1000.0, [0.1, 0.0, 0.0]), (2000.0, [0.0, 0.03, 0.0])]
    spectrum = infrared_spectrum(
        modes_at_temperature(modes, n_replicas=4),
        timestep_fs=0.5,
        temperature=TEMPERATURE,
    )
    strong = band_integral(spectrum, 900.0, 1100.0).value
    weak = band_integral(spectrum, 1900.0, 2100.0).value
    assert weak / strong == pytest.approx(0.09, rel=2e-3)


@pytest.mark.parametrize(
    "window", ["hann", "cosine-squared", "blackman-harris", "gaussian", "exponential"]
)
@pytest.mark.parametrize("biased", [True, False])
def test_band_strengths_do_not_depend_on_the_estimator(window, biased):
    dipoles = modes_at_temperature([(1700.0, [0.0, 0.0, DEBYE])], n_replicas=4)
    spectrum = infrared_spectrum(
        dipoles,
        timestep_fs=0.5,
        temperature=TEMPERATURE,
        estimator=Estimator(window=window, biased=biased, resolution=10.0),
    )
    assert total_integral(spectrum).value == pytest.approx(BAND_STRENGTH, rel=1e-2)
    shown = spectrum.intensity > spectrum.intensity.max() / 2
    width = np.ptp(spectrum.wavenumbers[shown])
    assert width == pytest.approx(10.0, abs=2.6)  # ± one bin at each side


def test_the_dynamics_of_a_molecule_give_its_harmonic_spectrum():
    rng = np.random.default_rng(4)
    positions, masses = rng.normal(size=(4, 3)), np.array([1.0, 12.0, 16.0, 1.0])
    root = np.sqrt(np.repeat(masses, 3))
    basis = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    frequencies = angular(np.linspace(500.0, 3600.0, 12)) / FEMTOSECOND
    hessian = (basis * frequencies**2) @ basis.T * np.outer(root, root)
    slopes = rng.normal(size=(12, 3)) * 0.2
    harmonic = harmonic_analysis(positions, masses, hessian, slopes)
    mode_slopes = (harmonic.modes.reshape(-1, 12) / root) @ slopes
    modes = list(zip(harmonic.wavenumbers_cm1.tolist(), mode_slopes, strict=True))
    spectrum = infrared_spectrum(
        modes_at_temperature(modes, n_replicas=4),
        timestep_fs=0.5,
        temperature=TEMPERATURE,
        estimator=Estimator(biased=False),
    )
    assert np.diff(harmonic.wavenumbers_cm1).min() > 60
    for wavenumber, strength in zip(
        harmonic.wavenumbers_cm1.tolist(), harmonic.ir_km_mol.tolist(), strict=True
    ):
        band = band_integral(spectrum, wavenumber - 30.0, wavenumber + 30.0)
        assert band.value == pytest.approx(strength, rel=0.01, abs=0.03)


@pytest.mark.parametrize(
    ("correction", "ratio"),
    # q(x)/q_harmonic(x) at x = hc·2000 cm⁻¹/(k_B·300 K) = 9.5919.
    [
        ("harmonic", 1.0),
        ("standard", 0.20850),
        ("schofield", 12.6156),
        ("classical", 0.10425),
    ],
)
def test_quantum_corrections_scale_a_band_and_are_recorded(correction, ratio):
    dipoles = modes_at_temperature([(2000.0, [0.0, 0.0, DEBYE])])
    spectrum = infrared_spectrum(
        dipoles, timestep_fs=0.5, temperature=TEMPERATURE, correction=correction
    )
    middle = np.argmin(np.abs(spectrum.wavenumbers - 2000.0))
    plain = infrared_spectrum(dipoles, timestep_fs=0.5, temperature=TEMPERATURE)
    measured = spectrum.intensity[middle] / plain.intensity[middle]
    assert measured == pytest.approx(ratio, rel=2e-3)
    assert spectrum.metadata["quantum_correction"] == correction


def test_the_verlet_shift_of_an_integrated_oscillator_is_removed_on_request():
    step_fs, wavenumber = 1.0, 3500.0
    positions = np.zeros(24_000)
    square = angular(wavenumber) ** 2
    x, v = 1.0, 0.0
    for k in range(positions.size):
        positions[k] = x
        v -= 0.5 * step_fs * square * x
        x += step_fs * v
        v -= 0.5 * step_fs * square * x
    # Sampled every second step: the interval is not the time step.
    dipoles = np.zeros((1, positions.size // 2, 3))
    dipoles[0, :, 0] = 0.1 * positions[::2]
    settings = {
        "timestep_fs": 2.0,
        "temperature": TEMPERATURE,
        "verlet_timestep_fs": step_fs,
    }
    shifted = infrared_spectrum(dipoles, **settings)
    corrected = infrared_spectrum(dipoles, **settings, correct_verlet_shift=True)
    relative = angular(wavenumber) ** 2 * step_fs**2 / 24
    found = peaks(shifted)[0][0]
    # The next order of ω(1 + ω²Δt²/24 + …) is 3·(ωΔt)⁴/640.
    assert found / wavenumber - 1 == pytest.approx(relative, rel=0.06)
    assert peaks(corrected)[0][0] == pytest.approx(wavenumber, abs=0.2)
    assert total_integral(corrected).value == pytest.approx(
        total_integral(shifted).value, rel=1e-3
    )
    assert shifted.metadata["verlet_shift_at_3000_cm1"] == pytest.approx(
        3000 * (angular(3000) ** 2 / 24 + 3 * angular(3000) ** 4 / 640), abs=0.1
    )
    assert shifted.metadata["verlet_shift_corrected"] is False
    assert corrected.metadata["verlet_shift_corrected"] is True


def test_true_wavenumbers_solve_the_verlet_relation():
    observed = np.array([500.0, 2000.0, 3800.0])
    true = true_wavenumbers(observed, 1.5)
    np.testing.assert_allclose(
        np.sin(angular(observed) * 0.75), angular(true) * 0.75, rtol=1e-12
    )


@pytest.mark.parametrize("step_fs", [0.0, 0.6])
def test_a_time_step_that_cannot_be_is_refused(step_fs):
    with pytest.raises(ValueError, match=r"integration time step is .* 0\.5 fs; give"):
        infrared_spectrum(
            np.zeros((1, 100, 3)),
            timestep_fs=0.5,
            temperature=TEMPERATURE,
            verlet_timestep_fs=step_fs,
        )


def test_a_molecule_without_dipole_has_a_spectrum_of_zeros():
    spectrum = infrared_spectrum(
        np.zeros((8, 20_000, 3)), timestep_fs=0.5, temperature=TEMPERATURE
    )
    assert not spectrum.intensity.any()
    assert not spectrum.upper.any()


def test_the_defaults_suit_eight_replicas_of_twenty_picoseconds():
    rng = np.random.default_rng(0)
    dipoles = rng.normal(size=(8, 40_000, 3))
    spectrum = infrared_spectrum(dipoles, timestep_fs=0.5, temperature=TEMPERATURE)
    assert spectrum.metadata["resolution_cm1"] == 8.0
    assert spectrum.wavenumbers[-1] == pytest.approx(4500.0, abs=1.0)
    assert np.diff(spectrum.wavenumbers).max() <= 1.0
    assert spectrum.lower is not None
    assert spectrum.units_intensity.shape[0] == 8
