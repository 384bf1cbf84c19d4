"""Bands of Raman spectra and densities of states against known expectations."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from test_spectra_coverage import (
    KT,
    TEMPERATURE,
    angular,
    expected_density,
    langevin_modes,
)

from molpool_calc.spectra.correlation import (
    CM_PER_FS,
    even_transform,
    window_values,
)
from molpool_calc.spectra.estimator import Estimator
from molpool_calc.spectra.raman import Scattering, raman_spectrum
from molpool_calc.spectra.spectrum import total_integral
from molpool_calc.spectra.vibrational_dos import vibrational_dos
from molpool_calc.units import COULOMB, FEMTOSECOND

TIMESTEP_FS = 2.0
MODES = [(700.0, 40.0), (1600.0, 60.0), (3200.0, 100.0)]
ESTIMATOR = Estimator(resolution=30.0, maximum=3600.0)


def series_of(rng, n_replicas, n_steps):
    return langevin_modes(
        MODES,
        n_series=n_replicas,
        n_steps=n_steps,
        timestep_fs=TIMESTEP_FS,
        rng=rng,
    )


def raman_estimate(series):
    """Return the estimate for modes that each change one diagonal element."""
    tensors = series[..., None] * np.eye(3) / COULOMB
    return raman_spectrum(
        tensors,
        timestep_fs=TIMESTEP_FS,
        temperature=TEMPERATURE,
        scattering=Scattering(quantity="activity", polarization="anisotropic"),
        estimator=ESTIMATOR,
    )


def raman_truth(spectrum, n_steps):
    density = expected_density(MODES, spectrum.metadata, TIMESTEP_FS, n_steps)
    # every mode has γ'² = 1, hence an activity of 7
    per_mode = 7 * 2 * CM_PER_FS / (KT * FEMTOSECOND**2)
    return per_mode * density(spectrum.wavenumbers)


def dos_estimate(series):
    """Return the estimate for velocities ω·x: their energies are as those of x."""
    velocities = series * angular(np.array([mode[0] for mode in MODES]))
    return vibrational_dos(
        velocities[:, :, None],
        np.ones(1),
        degrees_of_freedom=3,
        timestep_fs=TIMESTEP_FS,
        estimator=ESTIMATOR,
    )


def dos_truth(spectrum, n_steps):
    lag_fs = spectrum.metadata["lag_length_fs"]
    time_fs = TIMESTEP_FS * np.arange(int(lag_fs / TIMESTEP_FS) + 1)
    total = np.zeros_like(time_fs)
    for wavenumber, damping in MODES:
        omega, gamma = angular(wavenumber), angular(damping)
        shifted = np.sqrt(omega**2 - gamma**2 / 4)
        total += np.exp(-gamma * time_fs / 2) * (
            np.cos(shifted * time_fs)
            + gamma / (2 * shifted) * np.sin(shifted * time_fs)
        )
    weight = window_values(spectrum.metadata["window"], time_fs / lag_fs)
    taper = 1 - np.arange(time_fs.size) / n_steps
    x, y = even_transform(total * weight * taper, TIMESTEP_FS, 65_536)
    return 2 * CM_PER_FS * np.interp(spectrum.wavenumbers, x, y)


KINDS = {
    "raman": (raman_estimate, raman_truth),
    "vdos": (dos_estimate, dos_truth),
}


def coverage(kind, n_replicas, n_steps, n_repetitions):
    """Return the share of informative bins and of totals whose band holds the truth."""
    estimate, truth_of = KINDS[kind]
    rng = np.random.default_rng(5)
    inside, totals = [], []
    for _ in range(n_repetitions):
        spectrum = estimate(series_of(rng, n_replicas, n_steps))
        block = round(spectrum.metadata["block_length_fs"] / TIMESTEP_FS)
        exact = truth_of(spectrum, block)
        informative = exact > 0.03 * exact.max()
        held = (spectrum.lower <= exact) & (exact <= spectrum.upper)
        inside.append(held[informative].mean())
        total = total_integral(spectrum)
        truth = float(trapezoid(exact, spectrum.wavenumbers))
        totals.append(total.lower <= truth <= total.upper)
    return float(np.mean(inside)), float(np.mean(totals))


CASES = pytest.mark.parametrize(
    ("n_replicas", "n_steps"),
    [(8, 1_002), (1, 12_002)],
    ids=["eight replicas", "blocks of one"],
)


@CASES
@pytest.mark.parametrize("kind", KINDS)
def test_bands_cover_the_expected_spectrum(kind, n_replicas, n_steps):
    bins, _ = coverage(kind, n_replicas, n_steps, 20)
    assert 0.92 < bins < 0.98


@pytest.mark.slow
@CASES
@pytest.mark.parametrize("kind", KINDS)
def test_bands_and_intervals_cover_the_expected_spectrum(kind, n_replicas, n_steps):
    bins, totals = coverage(kind, n_replicas, n_steps, 300)
    assert 0.93 < bins < 0.97
    # a density of states is normalised: its total is known better than its parts
    assert 0.91 < totals < (0.98 if kind == "raman" else 1.01)
