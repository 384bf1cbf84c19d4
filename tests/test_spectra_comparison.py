"""Which computed and measured bands belong together, and how far apart they are."""

import csv
import json

import numpy as np
import pytest
from jcamp_files import gaussian
from matplotlib.text import Text

from molpool_calc.spectra import (
    MeasuredSpectrum,
    compare,
    plot_infrared,
    write_comparison,
    write_measured,
)
from molpool_calc.spectra.comparison import match_bands, scale_wavenumbers
from molpool_calc.spectra.plot import _compose
from molpool_calc.spectra.spectrum import spectrum_from_units, total_integral

X = np.arange(1.0, 4001.0)
MEASURED_X = np.arange(600.0, 3900.0, 0.5)
# position and area (km/mol), as in acetone
MEASURED_BANDS = [(1217.0, 70.0), (1365.0, 80.0), (1739.0, 140.0), (3000.0, 48.0)]


def measured_of(bands, unit="km/mol per cm-1", scale=1.0):
    y = sum(gaussian(MEASURED_X, x, 25.0, scale * area) for x, area in bands)
    return MeasuredSpectrum(
        wavenumbers=MEASURED_X,
        intensity=y,
        saturated=y > 0.9 * y.max(),
        unit=unit,
        title="acetone, test",
        source="nobody",
    )


def spectrum_of(bands, factor=1.0):
    line = sum(gaussian(X, factor * x, 20.0, area) for x, area in bands)
    scale = np.array([0.9, 1.0, 1.1, 0.95, 1.05])
    return spectrum_from_units(
        X,
        line * scale[:, None],
        unit="km/mol per cm-1",
        facts={"temperature": 300.0, "resolution_cm1": 8.0, "n_blocks": 1},
    )


def test_shifts_are_computed_minus_measured_and_areas_absolute():
    # all wavenumbers 3 % too high, areas 20 % too large
    computed = spectrum_of([(x, 1.2 * a) for x, a in MEASURED_BANDS], 1.03)
    found = compare(computed, measured_of(MEASURED_BANDS), width=24.0)
    assert len(found.bands) == 4
    for band, (x, area) in zip(found.bands, MEASURED_BANDS, strict=True):
        assert band.measured_cm1 == pytest.approx(x, abs=1.0)
        assert band.shift_cm1 == pytest.approx(0.03 * x, abs=1.5)
        assert band.measured_km_mol == pytest.approx(area, rel=0.03)
        assert band.computed_km_mol == pytest.approx(1.2 * area, rel=0.03)
        assert band.lower_km_mol < band.computed_km_mol < band.upper_km_mol
        assert band.computed_share == pytest.approx(band.measured_share, rel=0.03)
    assert found.measured_km_mol == pytest.approx(338.0, rel=1e-3)
    assert found.computed_km_mol.value == pytest.approx(405.6, rel=1e-3)


def test_a_scale_moves_bands_and_keeps_their_areas():
    computed = spectrum_of(MEASURED_BANDS, 1.03)
    found = compare(computed, measured_of(MEASURED_BANDS), width=24.0, scale=1 / 1.03)
    assert [band.shift_cm1 for band in found.bands] == pytest.approx([0.0] * 4, abs=1.0)
    scaled = scale_wavenumbers(computed, 1 / 1.03)
    assert total_integral(scaled).value == pytest.approx(338.0, rel=1e-3)
    assert scaled.metadata["wavenumber_scale"] == 1 / 1.03
    assert "wavenumber_scale" not in computed.metadata
    for wrong in (0.0, 5.0, float("nan")):
        with pytest.raises(ValueError, match=r"between 0\.5 and 2"):
            scale_wavenumbers(computed, wrong)


def test_an_absorbance_compares_by_shares_above_its_baseline():
    measured = measured_of(MEASURED_BANDS, unit="decadic absorbance", scale=0.01)
    lifted = MeasuredSpectrum(
        wavenumbers=measured.wavenumbers,
        intensity=measured.intensity + 0.05,
        saturated=measured.saturated,
        unit=measured.unit,
        title="x",
        source="x",
    )
    found = compare(spectrum_of(MEASURED_BANDS), lifted, width=24.0)
    assert found.measured_km_mol is None
    for band in found.bands:
        assert band.measured_km_mol is None
        assert band.measured_share == pytest.approx(band.computed_share, rel=0.05)


def test_saturated_bands_are_marked():
    found = compare(
        spectrum_of(MEASURED_BANDS), measured_of(MEASURED_BANDS), width=24.0
    )
    assert [band.saturated for band in found.bands] == [False, False, True, False]


def test_bands_that_have_no_partner_stand_alone():
    computed = spectrum_of([*MEASURED_BANDS, (2300.0, 60.0)])
    found = compare(computed, measured_of(MEASURED_BANDS), width=24.0)
    (alone,) = [band for band in found.bands if band.measured_cm1 is None]
    assert alone.computed_cm1 == pytest.approx(2300.0, abs=1.0)
    assert alone.shift_cm1 is None
    assert alone.measured_share is None


def test_the_intensity_decides_between_neighbours():
    """A strong and a weak band, both 30 cm⁻¹ from the measured strong one."""
    pairs = match_bands(
        np.array([1470.0, 1530.0]),
        np.array([0.02, 0.98]),
        np.array([1500.0]),
        np.array([1.0]),
    )
    assert (1, 0) in pairs
    assert (0, None) in pairs


def test_the_whole_is_assigned_at_least_cost():
    """Greedy pairing would take 1045-1050 and leave 1000 and 1100 without partner."""
    ours, theirs = np.array([1000.0, 1045.0]), np.array([1050.0, 1095.0])
    half = np.array([0.5, 0.5])
    assert match_bands(ours, half, theirs, half) == [(0, 0), (1, 1)]


@pytest.mark.parametrize(
    ("computed", "measured", "is_pair"),
    [
        ((3850.0, 0.05), (3661.0, 0.05), True),  # ethanol's O-H stretch, B3LYP
        ((3950.0, 0.05), (3661.0, 0.05), False),  # beyond 40 cm⁻¹ and 6 %
        ((1700.0, 0.9), (1700.0, 0.02), False),  # beyond 1.5 decades
    ],
)
def test_limits_of_pairs_are_as_stated(computed, measured, is_pair):
    one = [np.array([value]) for value in (*computed, *measured)]
    assert ((0, 0) in match_bands(*one)) == is_pair


def test_spectra_without_a_common_range_are_refused():
    ones = np.ones((1, 500))
    low = spectrum_from_units(X[:500], ones, unit="km/mol per cm-1", facts={})
    with pytest.raises(ValueError, match=r"1 to 500 cm-1 .* 600 to 3900 cm-1"):
        compare(low, measured_of(MEASURED_BANDS), width=24.0)


def test_files_have_their_columns_units_and_origin(tmp_path):
    computed = spectrum_of([*MEASURED_BANDS, (2300.0, 60.0)], 1.03)
    measured = measured_of(MEASURED_BANDS)
    found = compare(computed, measured, width=24.0, scale=0.97)
    write_comparison(found, tmp_path / "experiment.csv")
    comment, *lines = (tmp_path / "experiment.csv").read_text().splitlines()
    unit, _, metadata = comment.partition("; metadata: ")
    assert unit.startswith("# unit: cm-1 and km/mol")
    facts = json.loads(metadata)
    assert facts["wavenumber_scale"] == 0.97
    assert facts["title"] == "acetone, test"
    assert facts["measured_km_mol"] == pytest.approx(338.0, rel=1e-3)
    rows = list(csv.DictReader(lines))
    assert len(rows) == 5
    for row, band in zip(rows, found.bands, strict=True):
        expected = band.computed_cm1
        assert float(row["computed_cm-1"]) == pytest.approx(expected, abs=0.06)
    alone = next(row for row in rows if not row["measured_cm-1"])
    assert alone["shift_cm-1"] == alone["measured_km_mol"] == ""
    write_measured(measured, tmp_path / "experiment_curve.csv")
    comment, header, *points = (
        (tmp_path / "experiment_curve.csv").read_text().splitlines()
    )
    assert comment.startswith("# unit: km/mol per cm-1; metadata: ")
    assert header == "wavenumber_cm-1,intensity"
    values = np.array([point.split(",") for point in points], float)
    np.testing.assert_allclose(values[:, 1], measured.intensity, rtol=1e-5)


def words_in(figure):
    return " | ".join(text.get_text() for text in figure.findobj(Text))


def test_the_picture_shows_the_curve_upside_down_and_names_the_scale(tmp_path):
    scaled = scale_wavenumbers(spectrum_of(MEASURED_BANDS), 0.97)
    measured = measured_of(MEASURED_BANDS)
    figure = _compose(scaled, "t", None, measured, [(1739.0, "C=O stretch")])
    words = words_in(figure)
    assert "experiment, acetone, test (red: saturated)" in words
    assert "wavenumbers × 0.97" in words
    assert "C=O stretch" in words
    panel = figure.axes[1]
    low, high = panel.get_ylim()
    assert low > high == 0.0
    drawn = panel.lines[0].get_xydata()
    np.testing.assert_allclose(drawn[:, 1], measured.intensity)
    plot_infrared(scaled, tmp_path / "a.png", title="t", experiment=measured)
    assert (tmp_path / "a.png").stat().st_size > 10_000
