"""Bands: one maximum of each at the width that rotation gives them."""

import numpy as np
import pytest
from jcamp_files import gaussian

from molpool_calc.spectra.bands import band_width, find_bands, smoothed

X = np.arange(400.0, 4000.0, 1.0)


def test_the_branches_of_carbon_monoxide_are_as_far_apart_as_measured():
    """√(8·B·k_BT/hc): B = 1.9313 cm⁻¹, k_BT/hc = 205.8 cm⁻¹ at 296.15 K: 56.4 cm⁻¹.

    The measured maxima lie at 2119.9 and 2176.0 cm⁻¹ (Coblentz 8755): 56.1 cm⁻¹.
    """
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.128323]])
    masses = np.array([12.0, 15.9949146])
    apart = band_width(positions, masses, 296.15) / 1.2
    assert apart == pytest.approx(np.sqrt(8 * 1.9313 * 205.83), rel=2e-3)
    assert apart == pytest.approx(2176.0 - 2119.9, abs=1.0)


def test_an_atom_has_the_narrowest_width():
    assert band_width(np.zeros((1, 3)), np.ones(1), 300.0) == 12.0


def test_two_branches_count_as_one_band_and_two_bands_as_two():
    y = gaussian(X, 1725, 20, 30.0) + gaussian(X, 1755, 20, 30.0)
    y += gaussian(X, 2900, 20, 20.0) + gaussian(X, 3000, 20, 40.0)
    positions = [band.position for band in find_bands(X, y, width=36.0)]
    np.testing.assert_allclose(positions, [1740, 2900, 3000], atol=3.0)


def test_areas_between_the_limits_of_a_lone_band_are_nearly_all_of_it():
    y = gaussian(X, 1700, 40, 50.0)
    (band,) = find_bands(X, y, width=20.0)
    inside = (band.low <= X) & (band.high >= X)
    assert np.trapezoid(y[inside], X[inside]) == pytest.approx(50.0, rel=0.02)


def test_touching_bands_end_at_the_valley_between_them():
    y = gaussian(X, 1000, 60, 30.0) + gaussian(X, 1100, 60, 30.0)
    left, right = find_bands(X, y, width=12.0)
    assert left.high == right.low == pytest.approx(1050.0, abs=3.0)


def test_smoothing_keeps_the_area_also_on_an_uneven_grid():
    uneven = 1e4 / np.linspace(16.0, 2.6, 4001)
    y = gaussian(uneven, 1700, 30, 10.0)
    grid, smooth = smoothed(uneven, y, 25.0)
    assert np.trapezoid(smooth, grid) == pytest.approx(10.0, rel=1e-3)


def test_a_spectrum_without_intensity_has_no_bands():
    assert find_bands(X, np.zeros_like(X), width=20.0) == []
    assert find_bands(X, -np.ones_like(X), width=20.0) == []
