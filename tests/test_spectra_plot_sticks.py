"""Harmonic intensities in the quantity of the spectrum they stand beside."""

import numpy as np
import pytest

from molpool_calc.spectra import Estimator, Scattering, raman_spectrum
from molpool_calc.spectra.harmonic import harmonic_analysis
from molpool_calc.spectra.plot_sticks import heights_of
from molpool_calc.spectra.raman import cross_section_factor
from molpool_calc.spectra.spectrum import spectrum_from_units


def vibrations(*, raman=True):
    rng = np.random.default_rng(2)
    tensors = rng.normal(size=(9, 3, 3)) * 0.1
    matrix = rng.normal(size=(9, 9))
    return harmonic_analysis(
        rng.normal(size=(3, 3)),
        np.array([16.0, 1.0, 1.0]),
        10 * (matrix @ matrix.T + 2 * np.eye(9)),
        rng.normal(size=(9, 3)),
        tensors + tensors.transpose(0, 2, 1) if raman else None,
    )


def spectrum_of(**choices):
    tensors = np.zeros((4, 3000, 3, 3))
    time = np.arange(3000)
    tensors[:, :, 0, 0] = 0.01 * np.cos(0.1 * time)
    return raman_spectrum(
        tensors,
        timestep_fs=0.5,
        temperature=300.0,
        scattering=Scattering(**choices),
        estimator=Estimator(resolution=40.0),
    )


def test_activities_are_those_of_the_polarization():
    sticks = vibrations()
    parts = {
        name: heights_of(spectrum_of(polarization=name, quantity="activity"), sticks)
        for name in (
            *("unpolarized", "parallel", "perpendicular"),
            *("isotropic", "anisotropic"),
        )
    }
    np.testing.assert_allclose(parts["unpolarized"], sticks.raman_a4_amu, rtol=1e-12)
    total = parts["parallel"] + parts["perpendicular"]
    np.testing.assert_allclose(total, sticks.raman_a4_amu, rtol=1e-12)
    total = parts["isotropic"] + parts["anisotropic"]
    np.testing.assert_allclose(total, sticks.raman_a4_amu, rtol=1e-12)
    # 3γ'² : 7γ'²
    np.testing.assert_allclose(
        parts["perpendicular"] / parts["anisotropic"], 3 / 7, rtol=1e-10
    )


def test_cross_sections_are_those_of_laser_and_temperature():
    sticks = vibrations()
    heights = heights_of(spectrum_of(laser_nm=785.0), sticks)
    factor = cross_section_factor(
        sticks.wavenumbers_cm1, temperature=300.0, laser_nm=785.0
    )
    np.testing.assert_allclose(heights, sticks.raman_a4_amu * factor, rtol=1e-12)


def test_there_are_no_sticks_where_there_is_nothing_to_compare():
    x = np.arange(1.0, 100.0)
    dos = spectrum_from_units(x, np.ones((4, 99)), unit="m", facts={"kind": "vdos"})
    assert heights_of(dos, vibrations()) is None
    assert heights_of(spectrum_of(), vibrations(raman=False)) is None
    infrared = spectrum_from_units(
        x, np.ones((4, 99)), unit="m", facts={"kind": "infrared"}
    )
    assert heights_of(infrared, vibrations()) == pytest.approx(vibrations().ir_km_mol)
