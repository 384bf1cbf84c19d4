"""Confidence bands of infrared spectra against processes with known spectra."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

from molpool_calc.spectra.correlation import CM_PER_FS, even_transform, window_values
from molpool_calc.spectra.estimator import Estimator
from molpool_calc.spectra.infrared import infrared_spectrum
from molpool_calc.spectra.spectrum import total_integral
from molpool_calc.units import BOLTZMANN, DEBYE, FEMTOSECOND

TEMPERATURE = 300.0
KT = BOLTZMANN * TEMPERATURE
# N_A/(12ε₀c²) in km/mol per (D/Å)²/amu.
BAND_STRENGTH = 42.2561


def angular(wavenumber):
    """Return the angular frequency in rad/fs."""
    return 2 * np.pi * CM_PER_FS * wavenumber


def expected_density(wavenumbers_and_dampings, facts, timestep_fs, n_steps):
    """Return what the estimate of Langevin modes converges to, in (Å·sqrt(amu)/fs)²·fs.

    The exact velocity correlation of a damped thermal oscillator, times the window and
    the taper of a biased estimate.
    """
    lag_fs = facts["lag_length_fs"]
    time_fs = timestep_fs * np.arange(int(lag_fs / timestep_fs) + 1)
    total = np.zeros_like(time_fs)
    for wavenumber, damping in wavenumbers_and_dampings:
        omega, gamma = angular(wavenumber), angular(damping)
        shifted = np.sqrt(omega**2 - gamma**2 / 4)
        total += np.exp(-gamma * time_fs / 2) * (
            np.cos(shifted * time_fs)
            - gamma / (2 * shifted) * np.sin(shifted * time_fs)
        )
    weight = window_values(facts["window"], time_fs / lag_fs)
    taper = 1 - np.arange(time_fs.size) / n_steps
    x, y = even_transform(
        total * KT * FEMTOSECOND**2 * weight * taper, timestep_fs, 65_536
    )
    return lambda wavenumbers: np.interp(wavenumbers, x, y)


def langevin_modes(modes, *, n_series, n_steps, timestep_fs, rng):
    """Return exact samples of damped thermal oscillators, one component per mode.

    Gaussian processes with the autocorrelation of the Langevin oscillator, drawn by
    circulant embedding (Davies & Harte 1987, Biometrika 74, 95).
    """
    n_circle = 1 << int(4 * n_steps).bit_length()
    lags = np.minimum(np.arange(n_circle), n_circle - np.arange(n_circle))
    time_fs = timestep_fs * lags
    series = np.empty((n_series, n_steps, len(modes)))
    for k, (wavenumber, damping) in enumerate(modes):
        omega, gamma = angular(wavenumber), angular(damping)
        shifted = np.sqrt(omega**2 - gamma**2 / 4)
        correlation = np.exp(-gamma * time_fs / 2) * (
            np.cos(shifted * time_fs)
            + gamma / (2 * shifted) * np.sin(shifted * time_fs)
        )
        correlation *= KT * FEMTOSECOND**2 / omega**2
        power = np.maximum(np.fft.fft(correlation).real, 0.0)
        noise = rng.normal(size=(2, n_series, n_circle))
        drawn = np.fft.fft(np.sqrt(power / n_circle) * (noise[0] + 1j * noise[1]))
        series[:, :, k] = drawn.real[:, :n_steps]
    return series


def coverage(repetitions, exact_of, timestep_fs, estimator):
    """Return the share of informative bins and of totals whose band holds the truth."""
    inside, totals = [], []
    for dipoles in repetitions:
        spectrum = infrared_spectrum(
            dipoles,
            timestep_fs=timestep_fs,
            temperature=TEMPERATURE,
            estimator=estimator,
        )
        exact = exact_of(spectrum)
        informative = exact > 0.03 * exact.max()
        held = (spectrum.lower <= exact) & (exact <= spectrum.upper)
        inside.append(held[informative].mean())
        total = total_integral(spectrum)
        truth = float(trapezoid(exact, spectrum.wavenumbers))
        totals.append(total.lower <= truth <= total.upper)
    return float(np.mean(inside)), float(np.mean(totals))


# km/mol per cm⁻¹ from (e·Å/fs)²·fs at 300 K, by way of the band strength: a mode with
# ∂µ/∂Q = 1 e/sqrt(amu) integrates to 42.2561/D² km/mol and to kT/(2c).
SCALE = BAND_STRENGTH / DEBYE**2 * 2 * CM_PER_FS / (KT * FEMTOSECOND**2)


def coverage_of_constant_energies(n_repetitions):
    """Return the coverage for NVE replicas of harmonic modes.

    Energies are drawn once for each replica and never change.
    """
    rng = np.random.default_rng(11)
    timestep_fs, n_steps, n_replicas = 2.0, 1_502, 8
    modes = [(700.0, 0.0), (1600.0, 0.0), (3200.0, 0.0)]
    time_fs = timestep_fs * np.arange(n_steps)

    def repetition():
        dipoles = np.zeros((n_replicas, n_steps, 3))
        for k, (wavenumber, _) in enumerate(modes):
            energy = rng.exponential(KT, (n_replicas, 1))
            phase = rng.uniform(0, 2 * np.pi, (n_replicas, 1))
            amplitude = np.sqrt(2 * energy) * FEMTOSECOND / angular(wavenumber)
            dipoles[..., k] = amplitude * np.cos(angular(wavenumber) * time_fs + phase)
        return dipoles

    def exact_of(spectrum):
        density = expected_density(modes, spectrum.metadata, timestep_fs, n_steps - 2)
        return SCALE * density(spectrum.wavenumbers)

    repetitions = (repetition() for _ in range(n_repetitions))
    estimator = Estimator(resolution=25.0, maximum=3600.0)
    return coverage(repetitions, exact_of, timestep_fs, estimator)


def coverage_of_damped_modes(n_replicas, n_steps, n_repetitions):
    """Return the coverage for modes that exchange energy with a bath."""
    rng = np.random.default_rng(12)
    timestep_fs = 2.0
    modes = [(700.0, 40.0), (1600.0, 60.0), (3200.0, 100.0)]

    def repetition():
        return langevin_modes(
            modes,
            n_series=n_replicas,
            n_steps=n_steps,
            timestep_fs=timestep_fs,
            rng=rng,
        )

    def exact_of(spectrum):
        block = round(spectrum.metadata["block_length_fs"] / timestep_fs)
        density = expected_density(modes, spectrum.metadata, timestep_fs, block)
        return SCALE * density(spectrum.wavenumbers)

    repetitions = (repetition() for _ in range(n_repetitions))
    estimator = Estimator(resolution=30.0, maximum=3600.0)
    return coverage(repetitions, exact_of, timestep_fs, estimator)


def test_bands_over_replicas_of_constant_energy_cover_the_truth():
    bins, _ = coverage_of_constant_energies(60)
    assert 0.92 < bins < 0.98


@pytest.mark.parametrize(
    ("n_replicas", "n_steps"),
    [(8, 1_002), (1, 12_002)],
    ids=["eight replicas", "blocks of one"],
)
def test_bands_over_replicas_and_blocks_of_damped_modes_cover_the_truth(
    n_replicas, n_steps
):
    bins, _ = coverage_of_damped_modes(n_replicas, n_steps, 30)
    assert 0.92 < bins < 0.98


@pytest.mark.slow
def test_intervals_of_integrals_over_replicas_of_constant_energy_cover_the_truth():
    bins, totals = coverage_of_constant_energies(400)
    assert 0.93 < bins < 0.97
    assert 0.92 < totals < 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_replicas", "n_steps"),
    [(8, 1_002), (4, 2_002), (1, 12_002), (2, 6_002)],
    ids=["eight replicas", "four replicas", "blocks of one", "blocks of two"],
)
def test_intervals_of_integrals_of_damped_modes_cover_the_truth(n_replicas, n_steps):
    bins, totals = coverage_of_damped_modes(n_replicas, n_steps, 300)
    assert 0.93 < bins < 0.97
    assert 0.91 < totals < 0.98
