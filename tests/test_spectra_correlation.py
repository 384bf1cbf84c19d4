import numpy as np
import pytest
from scipy.signal import freqz, get_window

from molpool_calc.spectra.correlation import (
    CM_PER_FS,
    autocorrelation,
    central_difference,
    central_difference_response,
    even_transform,
    half_width,
    lag_length_fs,
    nyquist_wavenumber,
    require_resolved,
    shortest_length_fs,
    window_values,
)

WINDOWS = ["hann", "cosine-squared", "blackman-harris", "gaussian", "exponential"]


def angular(wavenumber):
    return 2 * np.pi * CM_PER_FS * wavenumber


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_start_at_one_and_end_near_zero(window):
    values = window_values(window, np.array([0.0, 0.5, 1.0, 1.01]))
    assert values[0] == pytest.approx(1.0, abs=1e-12)
    assert 0.0 < values[1] < 1.0
    assert abs(values[2]) <= 1.01e-3
    assert values[3] == 0.0


def test_an_unknown_window_is_refused():
    with pytest.raises((ValueError, TypeError), match="window"):
        window_values("hanning", np.zeros(3))


def test_the_width_of_the_hann_window_is_that_of_harris_1978():
    # Harris, Proc. IEEE 66, 51 (1978), Table 1: 6 dB bandwidth 2.00/(2L).
    assert 2 * half_width("hann") / np.pi == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize(
    ("window", "scipy_name"), [("hann", "hann"), ("blackman-harris", "blackmanharris")]
)
def test_cosine_windows_are_those_of_scipy(window, scipy_name):
    whole = get_window(scipy_name, 2001, fftbins=False)
    values = window_values(window, np.arange(1001) / 1000)
    np.testing.assert_allclose(values, whole[1000:], atol=1e-12)
    y, transform = freqz(whole, worN=np.linspace(0, 0.006, 4001))
    level = np.abs(transform) / np.abs(transform[0])
    assert half_width(window) == pytest.approx(
        1000 * y[np.argmin(np.abs(level - 0.5))], rel=1e-3
    )


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("length_fs", [9_000.0, 60_000.0])
def test_a_sharp_line_gets_the_width_that_was_asked_for(window, biased, length_fs):
    timestep_fs, resolution, line = 2.0, 12.0, 1500.0
    n_steps = int(length_fs / timestep_fs)
    time_fs = timestep_fs * np.arange(n_steps)
    # Sine and cosine together: a correlation free of the ends of the run.
    phase = angular(line) * time_fs
    series = np.stack([np.cos(phase), np.sin(phase)], axis=1)
    length = lag_length_fs(window, resolution, n_steps * timestep_fs, biased=biased)
    n_lags = int(length / timestep_fs) + 1
    correlation = autocorrelation(series, n_lags, biased=biased)
    weighted = correlation * window_values(
        window, timestep_fs / length * np.arange(n_lags)
    )
    x, y = even_transform(weighted, timestep_fs, 400_000)
    above = np.flatnonzero(y > y.max() / 2)
    width = x[above[-1]] - x[above[0]]
    assert x[y.argmax()] == pytest.approx(line, abs=0.1)
    assert width == pytest.approx(resolution, rel=0.02)


@pytest.mark.parametrize("biased", [True, False])
def test_too_short_a_run_is_refused_and_the_advice_in_the_sentence_works(biased):
    sentence = r"a run of 1000 fs is too short for a resolution of 8 cm-1 .* ask for "
    with pytest.raises(ValueError, match=sentence) as caught:
        lag_length_fs("hann", 8.0, 1000.0, biased=biased)
    possible = float(str(caught.value).partition("ask for ")[2].split()[0])
    assert lag_length_fs("hann", possible * 1.005, 1000.0, biased=biased) <= 1000.0
    needed = shortest_length_fs("hann", 8.0, biased=biased)
    assert f"needs {needed:.0f} fs" in str(caught.value)
    assert lag_length_fs("hann", 8.0, needed * (1 + 1e-9), biased=biased) <= needed * (
        1 + 1e-6
    )


def test_the_autocorrelation_is_the_plain_double_sum():
    series = np.random.default_rng(1).normal(size=(37, 3)) + 5.0
    centred = series - series.mean(axis=0)
    sums = [np.sum(centred[: 37 - k] * centred[k:]) for k in range(37)]
    np.testing.assert_allclose(
        autocorrelation(series, 37), np.array(sums) / 37, atol=1e-12
    )
    np.testing.assert_allclose(
        autocorrelation(series, 20, biased=False),
        np.array(sums[:20]) / (37 - np.arange(20)),
        atol=1e-12,
    )


def test_the_biased_autocorrelation_never_has_a_negative_transform():
    series = np.random.default_rng(2).normal(size=(200, 2))
    _, density = even_transform(autocorrelation(series, 200), 1.0, 1024)
    assert density.min() > -1e-10
    _, unbiased = even_transform(autocorrelation(series, 200, biased=False), 1.0, 1024)
    assert unbiased.min() < -0.1


@pytest.mark.parametrize("n_lags", [0, 11])
def test_more_lags_than_samples_are_refused(n_lags):
    with pytest.raises(ValueError, match="series of 10 samples; ask for 1 to 10"):
        autocorrelation(np.zeros((10, 1)), n_lags)


def test_a_damped_oscillation_becomes_its_lorentzian_line():
    timestep_fs, line, decay_fs = 0.25, 1500.0, 400.0
    time_fs = timestep_fs * np.arange(40_000)
    correlation = np.exp(-time_fs / decay_fs) * np.cos(angular(line) * time_fs)
    x, y = even_transform(correlation, timestep_fs, 131_072)
    near = (x > 1400) & (x < 1600)
    detuning = angular(x[near]) - angular(line)
    far_detuning = angular(x[near]) + angular(line)
    exact = decay_fs / (1 + (detuning * decay_fs) ** 2) + decay_fs / (
        1 + (far_detuning * decay_fs) ** 2
    )
    np.testing.assert_allclose(y[near], exact, rtol=2e-3)


def test_the_transform_integrates_to_the_correlation_at_zero_lag():
    correlation = np.random.default_rng(3).normal(size=50)
    x, y = even_transform(correlation, 2.0, 100)
    # Both signs of the wavenumber; the first and the last bin have no partner.
    total = (y[0] + 2 * y[1:-1].sum() + y[-1]) * (x[1] - x[0]) * CM_PER_FS
    assert total == pytest.approx(correlation[0], rel=1e-12)


def test_padding_too_short_for_the_mirror_image_is_refused():
    with pytest.raises(
        ValueError, match=r"18 points cannot hold 10 lags .* ask for 19"
    ):
        even_transform(np.ones(10), 1.0, 18)


@pytest.mark.parametrize("timestep_fs", [0.5, 1.0, 2.0])
def test_central_differences_damp_a_cosine_by_the_square_root_of_the_response(
    timestep_fs,
):
    frequency = angular(3700.0)
    time_fs = timestep_fs * np.arange(1000)
    flux = central_difference(np.cos(frequency * time_fs)[:, None], timestep_fs)
    exact = -frequency * np.sin(frequency * time_fs[1:-1])[:, None]
    response = central_difference_response(np.array([3700.0]), timestep_fs)
    np.testing.assert_allclose(flux, exact * np.sqrt(response), atol=1e-9)


def test_the_response_at_3700_has_the_known_losses():
    # A loss of 15 % at 1 fs and of 50 % at 2 fs sampling.
    assert central_difference_response(np.array([3700.0]), 1.0)[0] == pytest.approx(
        0.85, abs=0.005
    )
    assert central_difference_response(np.array([3700.0]), 2.0)[0] == pytest.approx(
        0.50, abs=0.01
    )


def test_sampling_that_folds_the_fastest_motion_is_refused_with_one_that_does_not():
    assert nyquist_wavenumber(4.0) == pytest.approx(4169.55, abs=0.01)
    require_resolved(4100.0, 4.0)
    with pytest.raises(ValueError, match=r"resolve up to 4170 cm-1 .* 4300 cm-1") as e:
        require_resolved(4300.0, 4.0)
    advised = float(str(e.value).partition("at least every ")[2].split()[0])
    assert 3.8 < advised < 3.9
    require_resolved(4300.0, advised)
