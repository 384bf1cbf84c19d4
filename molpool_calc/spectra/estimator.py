"""From recorded series to spectral densities of statistically independent units."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float
from scipy.fft import next_fast_len

from molpool_calc.spectra.confidence import FEWEST_UNITS
from molpool_calc.spectra.correlation import (
    CM_PER_FS,
    Window,
    autocorrelation,
    central_difference,
    central_difference_response,
    even_transform,
    lag_length_fs,
    nyquist_wavenumber,
    require_resolved,
    shortest_length_fs,
    window_values,
)

Fact = float | int | str | bool | None
"""A value of the metadata of a spectrum; all of them fit into JSON."""

# No vibration of a molecule is faster than that of H2 (4401 cm⁻¹, harmonic).
_FASTEST_VIBRATION = 4500.0
# Bands of 16 units are at most 1.3 times as wide as those of infinitely many; more
# and shorter blocks would gain less than their correlation costs.
_MOST_BLOCKS = 16
# Points per resolution element: lines look smooth, and no interpolation is needed.
_POINTS_PER_RESOLUTION = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimator:
    """How a spectral density is estimated; all wavenumbers in cm⁻¹.

    Args:
        resolution: Full width at half maximum that a sharp line gets.
        window: Lag window; Blackman-Harris has no visible side lobes.
        biased: Use the positive semi-definite autocorrelation. Its taper spreads the
            fraction ``1/(π²cTd)`` of a sharp line in a run of length ``T`` further than
            ``d`` (1 % for 12 ps and 30 cm⁻¹); the integral over all wavenumbers is
            exact. The unbiased one has no such wings, but can be negative.
        maximum: Where the reported range ends.
        highest_wavenumber: The fastest motion in the series. Sampling that cannot
            hold it is refused. Without a value, the fastest vibration of any molecule.

    Raises:
        ValueError: A value is not positive, or the range is shorter than a line.
    """

    resolution: float = 8.0
    window: Window = "blackman-harris"
    biased: bool = True
    maximum: float = _FASTEST_VIBRATION
    highest_wavenumber: float | None = None

    def __post_init__(self) -> None:
        for name in ("resolution", "maximum", "highest_wavenumber"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < np.inf:
                raise ValueError(
                    f"{name} is {value:g} cm-1; give a positive number of cm-1"
                )
        if self.maximum <= self.resolution:
            raise ValueError(
                f"the spectrum ends at {self.maximum:g} cm-1, within its resolution of "
                f"{self.resolution:g} cm-1; give a maximum above the resolution"
            )


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SpectralDensity:
    """Two-sided transforms of the autocorrelations of independent units.

    ``units`` is in the unit of the squared series times fs (per fs² if the series was
    differentiated). ``facts`` says how the estimate was made.
    """

    wavenumbers: Float[np.ndarray, " bins"]
    units: Float[np.ndarray, "units bins"]
    facts: Mapping[str, Fact]


def spectral_density(
    series: Float[np.ndarray, "replicas steps components"],
    *,
    timestep_fs: float,
    estimator: Estimator,
    differentiate: bool,
) -> SpectralDensity:
    """Return the spectral density of a series, separately for each unit.

    Units are whole replicas where there are enough of them to judge their spread:
    the energies of modes hardly change within an NVE replica, so that its blocks
    are not independent. Fewer replicas are cut into blocks, as long as possible and
    at most 16 in all.

    Args:
        series: A vector (dipole, scaled velocities, …) along each replica.
        timestep_fs: Interval between samples.
        estimator: How to estimate.
        differentiate: Take the time derivative by central differences, and divide
            their response out of the spectrum.

    Raises:
        ValueError: Samples are too few, too far apart or not finite.
    """
    _require_usable(series, timestep_fs, estimator)
    values = np.asarray(series, dtype=np.float64)
    if differentiate:
        values = central_difference(values, timestep_fs)
    layout = unit_layout(values.shape[0], values.shape[1], timestep_fs, estimator)
    n_used = layout.n_blocks * layout.n_steps
    blocks = values[:, :n_used].reshape(-1, layout.n_steps, values.shape[2])
    correlations = np.stack(
        [
            autocorrelation(block, layout.n_lags, biased=estimator.biased)
            for block in blocks
        ]
    )
    return density_of_correlations(
        correlations, layout, estimator, differentiated=differentiate
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitLayout:
    """How replicas are cut into units of ``n_steps`` samples, and how many lags count.

    ``length_fs`` is that of a replica, ``lag_fs`` the length of the lag window.
    """

    n_replicas: int
    n_blocks: int
    n_steps: int
    n_lags: int
    timestep_fs: float
    length_fs: float
    lag_fs: float


def unit_layout(
    n_replicas: int,
    n_samples: int,
    timestep_fs: float,
    estimator: Estimator,
    *,
    n_blocks: int | None = None,
) -> UnitLayout:
    """Return the units of replicas of ``n_samples`` samples each.

    Args:
        n_replicas: How many there are.
        n_samples: Of each, after differences were taken.
        timestep_fs: Interval between samples.
        estimator: How to estimate.
        n_blocks: Of each replica; by default as `spectral_density` says.

    Raises:
        ValueError: The replicas are too short for the resolution.
    """
    if n_blocks is None:
        shape = (n_replicas, n_samples)
        n_blocks = _blocks_per_replica(shape, timestep_fs, estimator)
    n_steps = n_samples // n_blocks
    lag_fs = lag_length_fs(
        estimator.window,
        estimator.resolution,
        n_steps * timestep_fs,
        biased=estimator.biased,
    )
    return UnitLayout(
        n_replicas=n_replicas,
        n_blocks=n_blocks,
        n_steps=n_steps,
        n_lags=min(int(lag_fs / timestep_fs) + 1, n_steps),
        timestep_fs=timestep_fs,
        length_fs=n_samples * timestep_fs,
        lag_fs=lag_fs,
    )


def density_of_correlations(
    correlations: Float[np.ndarray, "units lags"],
    layout: UnitLayout,
    estimator: Estimator,
    *,
    differentiated: bool,
) -> SpectralDensity:
    """Return the spectral density of units with known autocorrelations.

    Args:
        correlations: Of each unit, at the lags of the layout.
        layout: Of the units.
        estimator: How to estimate.
        differentiated: Whether the series were central differences, whose response is
            then divided out.
    """
    step = layout.timestep_fs
    lags = np.arange(layout.n_lags) * (step / layout.lag_fs)
    window = window_values(estimator.window, lags)
    spacing = estimator.resolution / _POINTS_PER_RESOLUTION
    # Longer than twice the lags: half_width < 4π for every window, hence 2L < period.
    n_points = next_fast_len(ceil(1.0 / (spacing * CM_PER_FS * step)), real=True)
    pairs = [even_transform(row * window, step, n_points) for row in correlations]
    wavenumbers = pairs[0][0]
    reported = (wavenumbers > 0.0) & (wavenumbers <= estimator.maximum)
    wavenumbers = wavenumbers[reported]
    units = np.stack([density[reported] for _, density in pairs])
    if differentiated:
        units = units / central_difference_response(wavenumbers, step)
    facts: dict[str, Fact] = {
        "resolution_cm1": estimator.resolution,
        "window": estimator.window,
        "biased": estimator.biased,
        "nyquist_cm1": nyquist_wavenumber(step),
        "sampling_interval_fs": step,
        "n_replicas": layout.n_replicas,
        "n_blocks": layout.n_blocks,
        "block_length_fs": layout.n_steps * step,
        "lag_length_fs": layout.lag_fs,
        "length_fs": layout.length_fs,
    }
    return SpectralDensity(wavenumbers=wavenumbers, units=units, facts=facts)


def _require_usable(
    series: Float[np.ndarray, "replicas steps components"],
    timestep_fs: float,
    estimator: Estimator,
) -> None:
    require_sampling(timestep_fs, estimator)
    if series.shape[0] < 1 or series.shape[1] < 4:  # noqa: PLR2004 (two differences)
        raise ValueError(
            f"the series has {series.shape[0]} replicas of {series.shape[1]} samples; "
            "give at least one replica of at least 4 samples"
        )
    finite = np.isfinite(series).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(
            f"replica {int(np.argmin(finite))} holds values that are not finite; "
            "leave it out, or cut it before the run broke"
        )


def require_sampling(timestep_fs: float, estimator: Estimator) -> None:
    """Refuse an interval between samples that is no time or folds bands.

    Raises:
        ValueError: The interval is not positive, or too long for the fastest motion.
    """
    if not 0.0 < timestep_fs < np.inf:
        raise ValueError(
            f"the sampling interval is {timestep_fs:g} fs; give a positive number of fs"
        )
    highest = estimator.highest_wavenumber or _FASTEST_VIBRATION
    require_resolved(max(highest, estimator.maximum), timestep_fs)


def _blocks_per_replica(
    shape: tuple[int, ...], timestep_fs: float, estimator: Estimator
) -> int:
    n_replicas, n_steps = shape[:2]
    if n_replicas >= FEWEST_UNITS:
        return 1
    shortest = shortest_length_fs(
        estimator.window, estimator.resolution, biased=estimator.biased
    )
    n_blocks = min(
        int(n_steps // ceil(shortest / timestep_fs)), ceil(_MOST_BLOCKS / n_replicas)
    )
    return n_blocks if n_blocks * n_replicas >= FEWEST_UNITS else 1
