import numpy as np
import pytest

from molpool_calc.spectra.files import read_spectrum, write_spectrum
from molpool_calc.spectra.spectrum import spectrum_from_units


def spectrum_of(n_units):
    units = np.random.default_rng(0).gamma(2.0, 1e-3, (n_units, 50))
    facts = {"resolution_cm1": 8.0, "window": "hann", "n_blocks": 1, "biased": True}
    return spectrum_from_units(
        np.linspace(0.98, 60.0, 50), units, unit="km/mol per cm-1", facts=facts
    )


def test_a_spectrum_survives_being_written_and_read(tmp_path):
    spectrum = spectrum_of(8)
    write_spectrum(spectrum, tmp_path / "spectrum_ir.csv")
    again = read_spectrum(tmp_path / "spectrum_ir.csv")
    for name in ("wavenumbers", "intensity", "lower", "upper"):
        np.testing.assert_allclose(
            getattr(again, name), getattr(spectrum, name), rtol=1e-9
        )
    assert again.unit == spectrum.unit
    assert dict(again.metadata) == dict(spectrum.metadata)


def test_the_file_has_a_comment_with_the_unit_above_the_header(tmp_path):
    write_spectrum(spectrum_of(8), tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0].startswith("# unit: km/mol per cm-1;")
    assert lines[1] == "wavenumber_cm-1,intensity,lower,upper"
    assert len(lines) == 52
    table = np.genfromtxt(
        tmp_path / "a.csv", delimiter=",", skip_header=1, names=True, deletechars=""
    )
    assert table.dtype.names == ("wavenumber_cm-1", "intensity", "lower", "upper")
    assert (table["lower"] < table["upper"]).all()


def test_a_missing_band_is_written_as_empty_fields_and_read_as_none(tmp_path):
    write_spectrum(spectrum_of(1), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[2].endswith(",,")
    again = read_spectrum(tmp_path / "a.csv")
    assert again.lower is None
    assert again.upper is None


def test_a_writer_that_fails_leaves_the_old_file_as_it_was(tmp_path, monkeypatch):
    target = tmp_path / "a.csv"
    target.write_text("old")

    def fail(source, destination):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_spectrum(spectrum_of(1), target)
    assert target.read_text() == "old"


def test_writing_replaces_an_old_file_and_leaves_no_other(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    write_spectrum(spectrum_of(1), tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert read_spectrum(tmp_path / "a.csv").unit == "km/mol per cm-1"


@pytest.mark.parametrize(
    "content", ["", "x,y\n1,2\n", "# unit: a\nwavenumber_cm-1,intensity\n1,2\n"]
)
def test_a_file_without_the_columns_of_a_spectrum_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=r"a\.csv is not a spectrum; give a file"):
        read_spectrum(tmp_path / "a.csv")
