import subprocess
import sys

import numpy as np
import pytest
from matplotlib.text import Text

from molpool_calc.spectra.harmonic import HarmonicSpectrum
from molpool_calc.spectra.plot import _compose, _spread, plot_infrared
from molpool_calc.spectra.plot_measured import MeasuredPeaks
from molpool_calc.spectra.spectrum import spectrum_from_units

X = np.arange(1.0, 4001.0)
STICKS = HarmonicSpectrum(
    wavenumbers_cm1=np.array([-50.0, 1100.0, 3000.0]),
    ir_km_mol=np.array([1.0, 60.0, 20.0]),
    raman_a4_amu=None,
    depolarization=None,
    dipole_slopes=np.zeros((3, 3)),
    modes=np.zeros((3, 4, 3)),
    zpe_ev=0.3,
)
MEASURED = MeasuredPeaks(label="gas cell", peaks=[(1090.0, 1.0), (2980.0, 0.4)])


def spectrum_of(n_units, height=1.0):
    line = np.exp(-0.5 * ((X - 1103) / 6) ** 2) + np.exp(-0.5 * ((X - 2950) / 9) ** 2)
    scale = np.random.default_rng(0).gamma(3.0, 1 / 3, n_units)
    return spectrum_from_units(
        X,
        height * (0.7 * line + 0.001) * scale[:, None],
        unit="km/mol per cm-1",
        facts={"resolution_cm1": 8.0, "n_blocks": 1},
    )


def words_in(figure):
    texts = figure.findobj(Text)
    return " | ".join(text.get_text() for text in texts if text.get_text())


def test_the_picture_names_axes_units_peaks_and_sources():
    figure = _compose(spectrum_of(8), "Test molecule", STICKS, MEASURED)
    words = words_in(figure)
    for expected in (
        "Test molecule",
        "wavenumber / cm$^{-1}$",
        "absorption (km mol$^{-1}$ per cm$^{-1}$)",
        "harmonic band strength (km mol$^{-1}$)",
        "95 % confidence",
        "gas cell",
        "1103",
        "2950",
    ):
        assert expected in words


def test_the_wavenumber_axis_runs_from_high_to_low():
    figure = _compose(spectrum_of(8), "t", STICKS, MEASURED)
    for axes in figure.axes:
        left, right = axes.get_xlim()
        assert 3000.0 < left < 3400.0
        assert right == 0.0


def test_only_real_harmonic_modes_are_drawn_at_their_band_strengths():
    figure = _compose(spectrum_of(8), "t", STICKS, None)
    lines = figure.axes[-1].collections[0].get_segments()
    drawn = sorted((segment[1][0], segment[1][1]) for segment in lines)
    assert drawn == [(1100.0, 60.0), (3000.0, 20.0)]


def test_a_png_is_large_enough_to_print(tmp_path):
    path = tmp_path / "spectrum.png"
    plot_infrared(spectrum_of(8), path, title="t", sticks=STICKS)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width = int.from_bytes(content[16:20], "big")
    assert width >= 2000


@pytest.mark.parametrize(
    "spectrum", [spectrum_of(1), spectrum_of(1, 0.0), spectrum_of(5, 0.0)]
)
def test_spectra_without_band_or_without_intensity_are_drawn(tmp_path, spectrum):
    plot_infrared(spectrum, tmp_path / "a.svg", title="t", experiment=MEASURED)
    has_band = "95 % confidence" in words_in(_compose(spectrum, "t", None, MEASURED))
    assert has_band == (spectrum.lower is not None)


def test_labels_are_moved_as_little_as_needed_to_be_apart():
    assert _spread([], 10.0) == []
    assert _spread([100.0, 200.0], 10.0) == [100.0, 200.0]
    assert _spread([100.0, 104.0], 10.0) == [97.0, 107.0]
    crowd = _spread([0.0, 1.0, 2.0, 11.0, 100.0], 10.0)
    assert np.diff(crowd).min() >= 10.0 - 1e-9
    assert crowd[-1] == 100.0
    assert np.mean(crowd[:4]) == pytest.approx(3.5)


def test_matplotlib_is_loaded_only_to_draw_and_its_state_is_left_alone(tmp_path):
    code = (
        "import sys, numpy as np, molpool_calc.spectra as s;"
        "from molpool_calc.spectra.spectrum import spectrum_from_units;"
        "early = 'matplotlib' in sys.modules;"
        "import matplotlib as m;"
        # Asking for the backend would load pyplot.
        "now = lambda: {k: m.rcParams[k] for k in m.rcParams if k != 'backend'};"
        "before = now();"
        "x = np.arange(1., 100.);"
        "spectrum = spectrum_from_units(x, x[None], unit='u', facts={});"
        f"s.plot_infrared(spectrum, {str(tmp_path / 'a.png')!r}, title='t');"
        "print(early, 'matplotlib.pyplot' in sys.modules, now() == before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "True"]
