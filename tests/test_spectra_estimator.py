import numpy as np
import pytest

from molpool_calc.spectra.correlation import CM_PER_FS, shortest_length_fs
from molpool_calc.spectra.estimator import Estimator, spectral_density

COARSE = Estimator(resolution=20.0, maximum=4000.0)


def density_of(series, estimator=COARSE, timestep_fs=2.0, differentiate=False):
    return spectral_density(
        series,
        timestep_fs=timestep_fs,
        estimator=estimator,
        differentiate=differentiate,
    )


def noise(n_replicas, n_steps, n_components=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_replicas, n_steps, n_components))


def test_four_replicas_are_units_of_their_own():
    density = density_of(noise(4, 20_000))
    assert density.units.shape[0] == 4
    assert density.facts["n_blocks"] == 1
    assert density.facts["length_fs"] == 40_000.0


@pytest.mark.parametrize(("n_replicas", "n_blocks"), [(1, 16), (2, 8), (3, 6)])
def test_fewer_replicas_are_cut_into_sixteen_blocks_or_so(n_replicas, n_blocks):
    density = density_of(noise(n_replicas, 40_000))
    assert density.facts["n_blocks"] == n_blocks
    assert density.facts["n_replicas"] == n_replicas
    assert density.units.shape[0] == n_replicas * n_blocks
    assert density.facts["block_length_fs"] == 80_000.0 // (2 * n_blocks) * 2


def test_blocks_are_never_shorter_than_the_resolution_needs():
    shortest = shortest_length_fs("blackman-harris", 20.0, biased=True)
    n_steps = int(6.5 * shortest / 2.0)
    density = density_of(noise(1, n_steps))
    assert density.facts["n_blocks"] == 6
    assert density.facts["block_length_fs"] >= shortest


def test_a_run_too_short_for_four_blocks_is_not_cut():
    shortest = shortest_length_fs("blackman-harris", 20.0, biased=True)
    density = density_of(noise(1, int(3.5 * shortest / 2.0)))
    assert density.units.shape[0] == 1


def test_the_grid_has_eight_points_per_resolution_and_ends_at_the_maximum():
    density = density_of(noise(4, 5_000), Estimator(resolution=8.0, maximum=3210.0))
    spacing = np.diff(density.wavenumbers)
    assert spacing.min() > 0.95
    assert spacing.max() <= 1.0 + 1e-9
    assert 0.0 < density.wavenumbers[0] <= 1.0
    assert 3209.0 < density.wavenumbers[-1] <= 3210.0


def test_white_noise_has_a_flat_density_of_its_variance_times_the_interval():
    density = density_of(noise(4, 50_000))
    assert density.units.mean() == pytest.approx(3 * 2.0, rel=0.02)


@pytest.mark.parametrize("timestep_fs", [0.5, 1.0, 2.0, 3.0])
def test_the_flux_density_of_a_fast_mode_does_not_depend_on_the_sampling(timestep_fs):
    frequency = 2 * np.pi * CM_PER_FS * 3700.0
    time_fs = np.arange(0.0, 12_000.0, timestep_fs)
    series = np.cos(frequency * time_fs + np.arange(4)[:, None])[..., None]
    density = density_of(series, timestep_fs=timestep_fs, differentiate=True)
    strength = density.units.mean(axis=0).sum() * (
        density.wavenumbers[1] - density.wavenumbers[0]
    )
    # ∫ over positive wavenumbers is C(0)/(2c), and C(0) = ω²/2.
    assert strength * 2 * CM_PER_FS == pytest.approx(frequency**2 / 2, rel=1.5e-3)


def test_aliasing_sampling_is_refused_unless_slower_motion_is_vouched_for():
    with pytest.raises(ValueError, match="would fold 4500 cm-1 onto a false band"):
        density_of(noise(4, 5_000), timestep_fs=4.0)
    slow = Estimator(resolution=20.0, maximum=3000.0, highest_wavenumber=3300.0)
    density_of(noise(4, 5_000), slow, timestep_fs=4.0)
    fast = Estimator(resolution=20.0, maximum=1000.0, highest_wavenumber=4400.0)
    with pytest.raises(ValueError, match="would fold 4400 cm-1"):
        density_of(noise(4, 5_000), fast, timestep_fs=4.0)


def test_too_short_replicas_are_refused_with_the_resolution_they_can_give():
    with pytest.raises(
        ValueError, match=r"run of 600 fs is too short .* 20 cm-1 .*ask"
    ):
        density_of(noise(4, 300))


def test_values_that_are_not_finite_are_refused_with_their_replica():
    series = noise(5, 5_000)
    series[3, 4000, 1] = np.nan
    with pytest.raises(ValueError, match="replica 3 holds values that are not finite"):
        density_of(series)


@pytest.mark.parametrize("shape", [(0, 100, 3), (2, 3, 3)])
def test_series_without_samples_are_refused(shape):
    with pytest.raises(ValueError, match=f"{shape[0]} replicas of {shape[1]} samples"):
        density_of(np.zeros(shape))


def test_a_sampling_interval_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="sampling interval is 0 fs; give a positive"):
        density_of(noise(4, 5_000), timestep_fs=0.0)


@pytest.mark.parametrize("name", ["resolution", "maximum", "highest_wavenumber"])
def test_an_estimator_refuses_what_is_not_positive(name):
    with pytest.raises(ValueError, match=f"{name} is -1 cm-1; give a positive number"):
        Estimator(**{name: -1.0})


def test_an_estimator_refuses_a_range_shorter_than_a_line():
    with pytest.raises(ValueError, match="give a maximum above the resolution"):
        Estimator(resolution=50.0, maximum=40.0)
