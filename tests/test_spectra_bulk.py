"""Absorption of periodic systems: sum rule, relation to the gas, refusals."""

import numpy as np
import pytest

from molpool_calc.spectra import Estimator, bulk_spectrum, infrared_spectrum
from molpool_calc.spectra.correlation import CM_PER_FS
from molpool_calc.spectra.spectrum import band_integral, peaks, total_integral
from molpool_calc.units import BOLTZMANN, FEMTOSECOND

TEMPERATURE, STEP = 300.0, 0.5


def trapped_ions(n_ions, *, charge, mass, wavenumber, n_steps=30_000, n_replicas=4):
    """Velocities (Å/fs) and positions of ions in wells, kT in every direction."""
    rng = np.random.default_rng(3)
    omega = 2 * np.pi * CM_PER_FS * wavenumber
    speed = np.sqrt(2 * BOLTZMANN * TEMPERATURE / mass) * FEMTOSECOND
    time = STEP * np.arange(n_steps)
    phases = rng.uniform(0, 2 * np.pi, (n_replicas, 1, n_ions, 3))
    angle = omega * time[None, :, None, None] + phases
    dipoles = charge * (speed / omega * np.sin(angle)).sum(axis=2)
    fluxes = charge * (speed * np.cos(angle)).sum(axis=2)
    return dipoles, fluxes


def constant_of_the_sum_rule():
    e, amu = 1.602176634e-19, 1.66053906660e-27
    epsilon, c = 8.8541878128e-12, 299792458.0
    return e**2 / (4 * epsilon * c**2 * amu * 1e-30) * 1e-4  # m⁻² in cm⁻²


def test_trapped_ions_obey_the_sum_rule():
    # ∫α(ν̃)dν̃ = Nq²/(4ε₀c²mV) for N charges in a volume (Thomas, Reiche and Kuhn),
    # classically whatever holds them. One ion: no two phases to interfere.
    charge, mass, volume, wavenumber = 0.8, 22.99, 1500.0, 180.0
    _, fluxes = trapped_ions(1, charge=charge, mass=mass, wavenumber=wavenumber)
    spectrum = bulk_spectrum(
        fluxes, volume=volume, timestep_fs=STEP, temperature=TEMPERATURE
    )
    exact = constant_of_the_sum_rule() * charge**2 / (mass * volume)
    assert spectrum.unit == "cm-1"
    assert total_integral(spectrum).value == pytest.approx(exact, rel=2e-3)
    assert peaks(spectrum)[0][0] == pytest.approx(wavenumber, abs=0.3)


@pytest.mark.parametrize("wavenumber", [400.0, 3600.0])
def test_one_molecule_in_a_box_absorbs_like_a_gas_of_that_density(wavenumber):
    volume = 8000.0
    dipoles, fluxes = trapped_ions(1, charge=0.3, mass=1.2, wavenumber=wavenumber)
    common = {"timestep_fs": STEP, "temperature": TEMPERATURE}
    estimator = Estimator(biased=False)
    gas = infrared_spectrum(dipoles, estimator=estimator, **common)
    bulk = bulk_spectrum(fluxes, volume=volume, estimator=estimator, **common)
    # α·n·V·N_A = A: 1 km/mol per cm⁻¹ is 100 L/mol/cm (napierian)
    litres_per_mol = 6.02214076e23 * volume * 1e-27
    low, high = wavenumber - 60, wavenumber + 60
    of_gas = band_integral(gas, low, high).value
    of_bulk = band_integral(bulk, low, high).value
    assert of_bulk * litres_per_mol / 100.0 == pytest.approx(of_gas, rel=1e-3)


def test_the_velocities_of_velocity_verlet_are_corrected_on_request():
    # integrated by hand: positions right, velocities smaller by cos(ΩΔt/2)
    wavenumber, step, mass, charge = 3000.0, 1.0, 2.0, 0.5
    omega = 2 * np.pi * CM_PER_FS * wavenumber
    observed = 2 / step * np.arcsin(omega * step / 2)
    speed = np.sqrt(2 * BOLTZMANN * TEMPERATURE / mass) * FEMTOSECOND
    slower = np.cos(observed * step / 2)
    time = step * np.arange(20_000)
    fluxes = np.zeros((4, time.size, 3))
    fluxes[..., 0] = charge * speed * slower * np.cos(observed * time)
    spectrum = bulk_spectrum(
        fluxes,
        volume=1000.0,
        timestep_fs=step,
        temperature=TEMPERATURE,
        correct_verlet_shift=True,
        estimator=Estimator(biased=False),
    )
    assert peaks(spectrum)[0][0] == pytest.approx(wavenumber, abs=0.5)
    exact = constant_of_the_sum_rule() * charge**2 / (mass * 1000.0) / 3
    band = band_integral(spectrum, wavenumber - 80, wavenumber + 80)
    assert band.value == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("volume", [0.0, -1.0, np.nan, np.inf])
def test_a_cell_without_volume_is_refused(volume):
    with pytest.raises(ValueError, match="three lattice vectors that span one"):
        bulk_spectrum(
            np.zeros((1, 20_000, 3)),
            volume=volume,
            timestep_fs=STEP,
            temperature=TEMPERATURE,
        )


def test_fluxes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"fluxes have the shape .* give \(replicas"):
        bulk_spectrum.__wrapped__(
            np.zeros((9, 3)), volume=1.0, timestep_fs=STEP, temperature=1.0
        )
