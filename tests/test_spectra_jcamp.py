"""Measured spectra: what is read, what the ordinates mean, what is refused."""

import json
from pathlib import Path

import jcamp
import numpy as np
import pytest
from jcamp_files import block, write

from molpool_calc.spectra import read_jcamp_dx
from molpool_calc.spectra.measured import ordinate

SHARED = Path(__file__).parents[2] / "shared" / "data" / "experimental"

X = np.linspace(600.0, 3900.0, 661)
ABSORBANCE = 0.4 * np.exp(-0.5 * ((X - 1700.0) / 20.0) ** 2)
TRANSMITTANCE = 10.0**-ABSORBANCE
PER_PPM_METRE = "(micromol/mol)-1m-1 (base 10)"


def read(tmp_path, *blocks, suffix=""):
    path = write(tmp_path / "a.jdx", *blocks)
    return read_jcamp_dx(f"{path}{suffix}")


@pytest.mark.parametrize(
    ("values", "unit", "factor"),
    [
        (ABSORBANCE, "ABSORBANCE", "1.0"),
        (TRANSMITTANCE, "TRANSMITTANCE", "1.0"),
        (100.0 * TRANSMITTANCE, "TRANSMITTANCE", "1.0"),
        (100.0 * TRANSMITTANCE, "% Transmittance", "1.0"),
        (1e4 * ABSORBANCE, "ABSORBANCE", "1E-04"),
    ],
)
def test_transmittance_and_absorbance_are_the_same_spectrum(
    tmp_path, values, unit, factor
):
    found = read(tmp_path, block(X, values, YUNITS=unit, YFACTOR=factor))
    np.testing.assert_allclose(found.wavenumbers, X)
    np.testing.assert_allclose(found.intensity, ABSORBANCE, atol=2e-7)
    assert not found.is_absolute
    assert found.title == "test gas"
    assert found.source == "the test bench"
    assert not found.saturated.any()


def test_the_quantitative_form_becomes_molar_by_the_ideal_gas_law(tmp_path):
    """Beer-Lambert at c = x·p/RT: 1 ppm in 1 m, by hand with R = 8.314462 J/(mol K)."""
    measured = read(
        tmp_path,
        block(
            X,
            1e-4 * ABSORBANCE,
            YUNITS=PER_PPM_METRE,
            TEMPERATURE="23 C",
            PRESSURE="101.3 kPa",
        ),
    )
    concentration = 1e-6 * 101300.0 / (8.314462 * 296.15)  # mol/m³ of 1 ppm
    decadic = 1e-4 * ABSORBANCE.max() / (concentration * 1.0)  # m²/mol
    napierian_km_mol_per_cm1 = decadic * np.log(10.0) * 1e-3 * 100.0
    assert measured.unit == "km/mol per cm-1"
    assert measured.intensity.max() == pytest.approx(napierian_km_mol_per_cm1, rel=1e-5)


def test_molar_coefficients_and_cross_sections_of_one_substance_agree():
    """100 L/(mol cm) decadic is ln 10 · 1e5 cm²/mol over Avogadro's number."""
    molar = ordinate(np.array([100.0]), "L/mol/cm", {})
    section = np.log(10.0) * 1e5 / 6.022140857e23
    np.testing.assert_allclose(
        ordinate(np.array([section]), "cm2/molecule", {}).intensity, molar.intensity
    )
    napierian = ordinate(
        np.array([1e-4]),
        "(micromol/mol)-1 m-1 (base e)",
        {"temperature": "300 K", "pressure": "1 atm"},
    )
    decadic = ordinate(
        np.array([1e-4 / np.log(10.0)]),
        PER_PPM_METRE,
        {"temperature": "26.85", "pressure": "760 mmHg"},
    )
    np.testing.assert_allclose(napierian.intensity, decadic.intensity, rtol=1e-6)


def test_mole_fractions_without_temperature_or_pressure_stay_relative(tmp_path):
    text = block(X, 1e-4 * ABSORBANCE, YUNITS=PER_PPM_METRE, TEMPERATURE="23 C")
    measured = read(tmp_path, text)
    assert not measured.is_absolute
    assert "no temperature and pressure" in measured.remarks[0]


def test_micrometres_and_reversed_abscissae_give_ascending_wavenumbers(tmp_path):
    """1700 cm⁻¹ is 5.882 µm; the even grid of micrometres is uneven in cm⁻¹."""
    micrometres = np.linspace(2.6, 16.0, 1341)
    line = np.exp(-0.5 * ((micrometres - 1e4 / 1700.0) / 0.05) ** 2)
    found = read(tmp_path, block(micrometres, line, XUNITS="MICROMETERS", YUNITS="A"))
    assert (np.diff(found.wavenumbers) > 0.0).all()
    assert found.wavenumbers[found.intensity.argmax()] == pytest.approx(1700.0, abs=3)
    reversed_ = read(tmp_path, block(X[::-1], ABSORBANCE[::-1], YUNITS="ABSORBANCE"))
    np.testing.assert_allclose(reversed_.wavenumbers, X)
    np.testing.assert_allclose(reversed_.intensity, ABSORBANCE, atol=2e-7)


def test_packed_ordinates_are_read(tmp_path):
    """Squeezed numbers, differences and repetitions (McDonald & Wilks 1988).

    A line begins with the last ordinate of the line before it, as a check.
    """
    x = np.arange(20.0) + 600.0
    head = block(x, x, YUNITS="ABSORBANCE").split("600 ")[0]
    # A0 is 10, J one more, V the same four times
    lines = ["600A0JJJ", "603A3JJJ", "606A6JVJVJVJ", "##END="]
    packed = head + "\n".join(lines)
    found = read(tmp_path, packed)
    np.testing.assert_allclose(found.intensity, np.arange(10.0, 30.0))


def test_light_that_did_not_pass_is_marked(tmp_path):
    deep = np.maximum(TRANSMITTANCE**6, 0.0) - 0.004
    found = read(tmp_path, block(X, deep))
    assert found.saturated.any()
    np.testing.assert_array_equal(found.saturated, deep < 0.03)
    assert np.isfinite(found.intensity).all()


def test_one_of_several_spectra_is_asked_for_by_number(tmp_path):
    link = "##TITLE=both\n##DATA TYPE=LINK\n##BLOCKS=2\n"
    first = block(X, ABSORBANCE, TITLE="first", YUNITS="ABSORBANCE")
    second = block(X, 2.0 * ABSORBANCE, TITLE="second", YUNITS="ABSORBANCE")
    with pytest.raises(ValueError, match=r"2 spectra \(@0 first, @1 second\).*@0"):
        read(tmp_path, link, first, second, "##END=\n")
    found = read(tmp_path, link, first, second, "##END=\n", suffix="@1")
    assert found.title == "second"
    np.testing.assert_allclose(found.intensity, 2.0 * ABSORBANCE, atol=4e-7)
    with pytest.raises(ValueError, match=r"none with the number 2"):
        read(tmp_path, first, second, suffix="@2")


def test_nothing_is_said_of_the_phase(tmp_path):
    found = read(tmp_path, block(X, TRANSMITTANCE, STATE=None))
    assert found.remarks == ("it states no phase and is taken to be of the gas",)
    assert read(tmp_path, block(X, TRANSMITTANCE, STATE="VAPOR, 5 cm")).remarks == ()


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ({"STATE": "LIQUID (NEAT)"}, r"state 'LIQUID \(NEAT\)'.*the gas"),
        ({"STATE": "SOLUTION (10% IN CCl4)"}, r"of the gas"),
        ({"DATA TYPE": "MASS SPECTRUM"}, r"data type is 'MASS SPECTRUM'"),
        ({"DATA TYPE": None}, r"INFRARED SPECTRUM"),
        ({"YUNITS": "KUBELKA-MUNK"}, r"ordinate is 'KUBELKA-MUNK'.*TRANSMITTANCE"),
        ({"XUNITS": "SECONDS"}, r"abscissa is 'SECONDS'.*1/CM"),
        ({"NPOINTS": "662"}, r"states 662 points and has 661"),
        ({"NPOINTS": "999999999999"}, r"give a whole file"),
        ({"FIRSTX": None}, r"cannot be read \(KeyError"),
        ({"FIRSTX": "many"}, r"cannot be read \(TypeError"),
        ({"FIRSTX": "0"}, r"abscissa of 0 or below|check values disagree"),
        ({"YFACTOR": "inf"}, r"not finite"),
    ],
)
def test_files_that_mean_something_else_are_refused(tmp_path, labels, match):
    with pytest.raises(ValueError, match=match):
        read(tmp_path, block(X, TRANSMITTANCE, **labels))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"no JCAMP-DX file"),
        ("1000 0.5\n", r"no JCAMP-DX file.*##TITLE="),
        ("##TITLE=x\n", r"data type is 'not stated'"),
        ("##TITLE=x\n##DATA TYPE=INFRARED SPECTRUM\n##END=\n", r"empty"),
        (block(X, ABSORBANCE)[:-400], r"cut off"),
        (block(X, ABSORBANCE).replace("1700 0.4", "1700 ?"), r"the line '1700 \?"),
        (block(X, ABSORBANCE).replace("1700 0.4", "1800 0.4"), r"check values"),
        (block(X, ABSORBANCE).replace("1700 0.4", "1700 .4.4"), r"cannot be read"),
        (block(X, ABSORBANCE).replace("##STATE=", "##STATE "), r"cannot be read"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path, capsys, text, match):
    with pytest.raises(ValueError, match=match) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "a.jdx" in str(caught.value)
    assert capsys.readouterr().out == "", "the library's doubts are not printed"


def test_what_is_no_file_is_refused(tmp_path):
    for name in ("no.jdx", "", tmp_path, tmp_path / "a.jdx@1"):
        with pytest.raises(ValueError, match=r"there is no file"):
            read_jcamp_dx(name)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the measured spectra are not here")
@pytest.mark.parametrize("name", ["acetone", "acetonitrile", "isopropyl alcohol"])
def test_quantitative_spectra_integrate_to_their_published_areas(name):
    """Areas by an independent script, which left a few points at the limits out."""
    facts = json.loads((SHARED / "peaks.json").read_text())[name]
    measured = read_jcamp_dx(SHARED / f"{name}.jdx")
    x, y = measured.wavenumbers, measured.intensity

    def area(low, high):
        inside = (x >= low) & (x <= high)
        return np.trapezoid(y[inside], x[inside])

    assert measured.is_absolute
    total = facts["total_km_mol_600_3900"]
    assert area(600, 3900) == pytest.approx(total, rel=5e-4)
    for limits, expected in facts["band_area_km_mol"].items():
        low, high = map(float, limits.split("-"))
        assert area(low, high) == pytest.approx(expected, rel=2e-3, abs=0.02)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the measured spectra are not here")
@pytest.mark.parametrize("name", ["ethanol", "methanol", "benzene", "methane"])
def test_peaks_of_measured_spectra_are_where_they_were_read_off(name):
    facts = json.loads((SHARED / "peaks.json").read_text())[name]
    measured = read_jcamp_dx(SHARED / f"{name}.jdx")
    highest = measured.wavenumbers[measured.intensity.argmax()]
    best = max(zip(facts["peak_rel"], facts["peak_cm1"], strict=True))[1]
    assert highest == pytest.approx(best, abs=3.0)
    assert bool(measured.saturated.any()) == facts["saturated"]


def test_the_files_of_these_tests_are_read_by_the_library_as_they_are(tmp_path):
    """The helper writes what the format asks for: the library alone reads it too."""
    path = write(tmp_path / "a.jdx", block(X, ABSORBANCE))
    np.testing.assert_allclose(jcamp.readfile(str(path))["y"], ABSORBANCE, atol=2e-7)
