"""Accumulation during a run equals the evaluation after it."""

import tracemalloc

import numpy as np
import pytest

from molpool_calc.spectra.correlation import autocorrelation
from molpool_calc.spectra.estimator import Estimator, spectral_density
from molpool_calc.spectra.streaming import StreamingCorrelation, StreamingDensity

STEP = 0.5
TOLERANCE = 1e-10
"""Relative to the highest value."""


def walk(n_replicas, n_steps, n_components=3):
    rng = np.random.default_rng(n_steps)
    steps = rng.normal(size=(n_replicas, n_steps, n_components))
    # coloured, with an offset that costs digits if it is not taken off
    return (
        40.0
        + np.cumsum(steps, axis=1) * 0.01
        + np.sin(0.2 * np.arange(n_steps))[:, None]
    )


def fed(stream, series, seed=0):
    rng = np.random.default_rng(seed)
    start = 0
    while start < series.shape[1]:
        n = int(rng.integers(0, 2500))
        stream.add(series[:, start : start + n])
        start += n
    return stream


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("differentiate", [True, False])
@pytest.mark.parametrize(
    ("n_replicas", "n_steps", "announced"),
    [(4, 20_000, False), (5, 7_001, True), (1, 40_000, True), (2, 33_333, True)],
)
def test_streaming_equals_evaluation_after_the_run(
    n_replicas, n_steps, announced, differentiate, biased
):
    series = walk(n_replicas, n_steps)
    estimator = Estimator(resolution=20.0, biased=biased)
    stream = StreamingDensity(
        estimator,
        STEP,
        n_replicas=n_replicas,
        n_components=3,
        differentiate=differentiate,
        n_samples=n_steps if announced else None,
    )
    found = fed(stream, series).density()
    exact = spectral_density(
        series, timestep_fs=STEP, estimator=estimator, differentiate=differentiate
    )
    assert found.facts == exact.facts
    np.testing.assert_array_equal(found.wavenumbers, exact.wavenumbers)
    scale = np.abs(exact.units).max()
    np.testing.assert_allclose(found.units, exact.units, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("block", [1, 37, 5000])
def test_how_samples_are_cut_does_not_matter(block):
    series = walk(1, 5000)[0]
    stream = StreamingCorrelation(300, 3)
    for start in range(0, 5000, block):
        stream.add(series[start : start + block])
    exact = autocorrelation(series, 250, biased=True)
    found = stream.autocorrelation(250, biased=True)
    np.testing.assert_allclose(found, exact, rtol=0, atol=TOLERANCE * exact[0])


def test_reading_the_result_does_not_end_the_stream():
    series = walk(1, 6000)[0]
    stream = StreamingCorrelation(100, 3)
    stream.add(series[:2500])
    first = stream.autocorrelation(100, biased=True)
    stream.add(series[2500:])
    np.testing.assert_allclose(
        first, autocorrelation(series[:2500], 100), atol=1e-10 * first[0]
    )
    exact = autocorrelation(series, 100)
    found = stream.autocorrelation(100, biased=True)
    np.testing.assert_allclose(found, exact, atol=1e-10 * exact[0])


def test_memory_does_not_grow_with_the_run():
    def peak(n_blocks):
        stream = StreamingDensity(
            Estimator(resolution=100.0), STEP, 4, 3, differentiate=True
        )
        rng = np.random.default_rng(0)
        tracemalloc.start()
        for _ in range(n_blocks):
            stream.add(rng.normal(size=(4, 500, 3)))
        stream.density()
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(160) < 1.05 * peak(40)


def test_the_mean_square_is_that_of_all_samples():
    series = walk(4, 9000) - 40.0
    stream = StreamingDensity(
        Estimator(resolution=20.0), STEP, 4, 3, differentiate=False
    )
    exact = (series**2).sum(axis=2).mean()
    assert fed(stream, series).mean_square == pytest.approx(exact, rel=1e-12)


def test_whole_blocks_of_a_run_that_ended_early_count():
    series = walk(1, 40_000)
    estimator = Estimator(resolution=20.0)
    stream = StreamingDensity(
        estimator, STEP, 1, 3, differentiate=False, n_samples=40_000
    )
    stream.add(series[:, :30_000])
    assert 4 <= len(stream.density().units) < 16
    begun = StreamingDensity(
        estimator, STEP, 1, 3, differentiate=False, n_samples=40_000
    )
    begun.add(series[:, :1000])
    with pytest.raises(ValueError, match="ended after 1000 samples, before the first"):
        begun.density()


def test_samples_that_are_not_finite_and_lags_not_kept_are_refused():
    stream = StreamingDensity(Estimator(), STEP, 4, 1, differentiate=False)
    with pytest.raises(ValueError, match="not finite; leave the replica out"):
        stream.add(np.full((4, 10, 1), np.nan))
    with pytest.raises(ValueError, match="fold 4500 cm-1"):
        StreamingDensity(Estimator(), 5.0, 4, 1, differentiate=False)
    lags = StreamingCorrelation(10, 1)
    lags.add(np.ones((20, 1)))
    with pytest.raises(ValueError, match="11 lags were asked of 20 samples added with"):
        lags.autocorrelation(11, biased=True)
