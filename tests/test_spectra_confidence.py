import numpy as np
import pytest

from molpool_calc.spectra.confidence import confidence_band


@pytest.mark.parametrize("n_units", [4, 8, 16])
@pytest.mark.parametrize("modes", [0.5, 1.0, 2.0, 20.0])
def test_bands_of_gamma_distributed_units_cover_the_mean_95_times_in_100(
    n_units, modes
):
    # The energy of a thermal mode is a gamma variable of shape 1; shape 0.5 is the
    # most scattered a spectral estimate can be, shape 20 nearly normal.
    units = np.random.default_rng(5).gamma(modes, 1 / modes, (n_units, 8000))
    lower, upper = confidence_band(units)
    too_high, too_low = np.mean(lower > 1.0), np.mean(upper < 1.0)
    assert 0.93 < 1 - too_high - too_low < 0.97
    # Neither side fails much more often than the other.
    assert max(too_high, too_low) < 0.04


def test_bands_do_not_depend_on_the_scale():
    units = np.random.default_rng(6).gamma(1.0, 1.0, (8, 5))
    lower, upper = confidence_band(units)
    scaled_lower, scaled_upper = confidence_band(units * 1e-12)
    np.testing.assert_allclose(scaled_lower, lower * 1e-12, rtol=1e-10)
    np.testing.assert_allclose(scaled_upper, upper * 1e-12, rtol=1e-10)
    assert (lower > 0).all()
    assert (upper / units.mean(axis=0) > units.mean(axis=0) / lower).all()


def test_fewer_than_four_units_give_no_band():
    assert confidence_band(np.ones((3, 7))) is None
    assert confidence_band(np.ones((4, 7))) is not None


def test_negative_units_get_the_band_of_student():
    units = np.array([[-1.0], [0.0], [1.0], [2.0]])
    lower, upper = confidence_band(units)
    # t(0.975, 3 degrees of freedom) = 3.182446.
    half = 3.182446 * np.sqrt(5 / 3) / 2
    assert lower[0] == pytest.approx(0.5 - half, rel=1e-6)
    assert upper[0] == pytest.approx(0.5 + half, rel=1e-6)


def test_equal_and_vanishing_units_get_a_band_of_no_width():
    lower, upper = confidence_band(np.stack([np.array([0.0, 2.0])] * 5))
    np.testing.assert_array_equal(lower, [0.0, 2.0])
    np.testing.assert_array_equal(upper, [0.0, 2.0])


def test_a_band_resting_on_one_unit_stays_finite():
    units = np.full((8, 1), 1e-9)
    units[3] = 1.0
    lower, upper = confidence_band(units)
    mean = units.mean()
    # Two degrees of freedom: quantiles 7.378 and 0.05064 of chi-square.
    assert lower[0] == pytest.approx(mean * 2 / 7.378, rel=1e-3)
    assert upper[0] == pytest.approx(mean * 2 / 0.05064, rel=1e-3)
