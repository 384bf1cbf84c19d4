from types import MappingProxyType

import numpy as np
import pytest

from molpool_calc.spectra.spectrum import (
    band_integral,
    molar_absorption,
    peaks,
    spectrum_from_units,
    total_integral,
)

X = np.arange(1.0, 1001.0)


def gaussian_line(position, width, height):
    return height * np.exp(-0.5 * ((X - position) / width) ** 2)


def spectrum_of(units, unit="km/mol per cm-1", **facts):
    return spectrum_from_units(
        X, np.asarray(units, dtype=float), unit=unit, facts=facts
    )


def test_the_spectrum_is_the_mean_of_its_units_within_its_band():
    units = np.random.default_rng(0).gamma(2.0, 1.0, (8, X.size))
    spectrum = spectrum_of(units, n_blocks=1)
    np.testing.assert_allclose(spectrum.intensity, units.mean(axis=0))
    assert (spectrum.lower < spectrum.intensity).all()
    assert (spectrum.upper > spectrum.intensity).all()
    assert spectrum.metadata["band"] == "95 % from the spread of 8 replicas"


def test_a_single_short_block_says_that_there_is_no_band():
    spectrum = spectrum_of([gaussian_line(500, 5, 1)], n_blocks=1)
    assert spectrum.lower is None
    assert spectrum.upper is None
    assert str(spectrum.metadata["band"]).startswith("none: 1 independent units")
    integral = band_integral(spectrum, 400.0, 600.0)
    assert integral.lower is None
    assert integral.upper is None


def test_bands_over_blocks_name_what_they_cannot_see():
    spectrum = spectrum_of(np.ones((6, X.size)), n_blocks=6)
    assert "slowly than a block" in str(spectrum.metadata["band"])


def test_metadata_cannot_be_changed():
    spectrum = spectrum_of(np.ones((1, X.size)))
    assert isinstance(spectrum.metadata, MappingProxyType)


def test_a_band_integrates_to_the_area_of_its_line():
    spectrum = spectrum_of([gaussian_line(500, 5, 2)])
    area = 2 * 5 * np.sqrt(2 * np.pi)
    assert band_integral(spectrum, 430.0, 570.0).value == pytest.approx(area, rel=1e-6)
    assert total_integral(spectrum).value == pytest.approx(area, rel=1e-6)


def test_integrals_of_adjacent_bands_add_up_between_grid_points():
    spectrum = spectrum_of([np.sqrt(X)])
    parts = [(0.0, 99.3), (99.3, 612.7), (612.7, 2000.0)]
    total = sum(band_integral(spectrum, *part).value for part in parts)
    assert total == pytest.approx(total_integral(spectrum).value, rel=2e-6)


def test_limits_between_grid_points_are_interpolated():
    exact = (612.7**2 - 99.3**2) / 2
    integral = band_integral(spectrum_of([X]), 99.3, 612.7)
    assert integral.value == pytest.approx(exact, rel=1e-9)


def test_intervals_of_integrals_come_from_the_units_and_not_from_the_bins():
    # The noise of the bins cancels in every unit: the integral is sharp, bins are not.
    noise = np.random.default_rng(1).normal(size=(8, X.size // 2))
    ripple = np.repeat(noise, 2, axis=1) * np.tile([0.3, -0.3], X.size // 2)
    spectrum = spectrum_of(3 + ripple)
    integral = total_integral(spectrum)
    assert integral.upper - integral.lower < 1e-3 * integral.value
    widths = (spectrum.upper - spectrum.lower) / spectrum.intensity
    assert np.median(widths) > 0.05


def test_limits_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="runs from 600 to 400 cm-1"):
        band_integral(spectrum_of([X]), 600.0, 400.0)


def test_peaks_are_found_in_order_with_positions_between_the_bins():
    line = gaussian_line(700.3, 8, 0.5) + gaussian_line(200.6, 8, 1.0)
    found = peaks(spectrum_of([line], resolution_cm1=8.0))
    assert [position for position, _ in found] == pytest.approx(
        [200.6, 700.3], abs=0.02
    )
    assert [height for _, height in found] == pytest.approx([1.0, 0.5], rel=1e-3)


def test_peaks_below_threshold_or_prominence_are_left_out():
    line = gaussian_line(200, 8, 1.0) + gaussian_line(600, 8, 0.02)
    assert len(peaks(spectrum_of([line]))) == 1
    assert len(peaks(spectrum_of([line]), threshold=0.01, prominence=0.01)) == 2
    shoulder = gaussian_line(200, 8, 1.0) + gaussian_line(214, 8, 0.7)
    assert len(peaks(spectrum_of([shoulder]))) == 1


def test_a_spectrum_of_nothing_has_no_peaks():
    assert peaks(spectrum_of([np.zeros(X.size)])) == []


def test_the_molar_absorption_coefficient_is_decadic():
    # Acetone: 397 km/mol are 397·100/ln 10 = 17241 L mol⁻¹ cm⁻².
    line = gaussian_line(500, 5, 1.0)
    line *= 397 / line.sum()
    decadic = molar_absorption(spectrum_of(np.stack([line] * 4)))
    assert decadic.unit == "L/mol/cm"
    assert total_integral(decadic).value == pytest.approx(17241.5, rel=1e-5)
    np.testing.assert_allclose(decadic.upper, decadic.intensity)


def test_only_infrared_spectra_have_a_molar_absorption_coefficient():
    with pytest.raises(ValueError, match="a spectrum in states has no molar"):
        molar_absorption(spectrum_of([X], unit="states"))
