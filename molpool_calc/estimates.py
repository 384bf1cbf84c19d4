"""Spectra from samples of any origin, as fine as their number allows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from molpool_calc.spectra import Estimator, Spectrum, convergence
from molpool_calc.spectra.correlation import Window, shortest_length_fs

RESOLUTION = 8.0
"""cm⁻¹: sharp enough for the bands of a room-temperature gas."""

MAXIMUM = 4500.0
"""cm⁻¹: beyond every vibration of a molecule."""

# The fewest samples of which an estimate can be made.
_FEWEST = 4


class Samples(NamedTuple):
    """How far apart and how many the samples of a spectrum are, and how to make it.

    ``source`` names where they come from, as in ``the run in DIR``.
    """

    source: str
    interval_fs: float
    n_samples: int
    make: Callable[[Estimator], Spectrum]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fineness:
    """How fine a spectrum shall be; wavenumbers in cm⁻¹.

    Attributes:
        resolution: by default 8, or what a shorter run can give.
        window: lag window.
        biased: whether to use the biased autocorrelation.
        maximum: end of the range.
        highest_wavenumber: of the fastest motion, if it is below every molecule's
            4500; samples may then be further apart.
    """

    resolution: float | None = None
    window: Window = "blackman-harris"
    biased: bool = True
    maximum: float = MAXIMUM
    highest_wavenumber: float | None = None


def estimate(samples: Samples, fineness: Fineness) -> Spectrum:
    """Return the spectrum of samples; its metadata say how far it is converged.

    Raises:
        ValueError: the samples are too few, too far apart or not finite.
    """
    highest, maximum = fineness.highest_wavenumber, fineness.maximum
    if highest is not None:
        maximum = min(maximum, highest)
    if samples.n_samples < _FEWEST:
        raise ValueError(
            f"{samples.source} recorded {samples.n_samples} samples of what the "
            f"spectrum is made of; run longer, until there are {_FEWEST} or more"
        )
    resolution = fineness.resolution
    if resolution is None:
        length = samples.interval_fs * samples.n_samples
        finest = finest_resolution(length, fineness.window, biased=fineness.biased)
        resolution = max(RESOLUTION, finest)
    spectrum = samples.make(
        Estimator(
            resolution=resolution,
            window=fineness.window,
            biased=fineness.biased,
            maximum=maximum,
            highest_wavenumber=highest,
        )
    )
    facts = {**spectrum.metadata, "convergence": convergence(spectrum).sentence}
    return replace(spectrum, metadata=MappingProxyType(facts))


def finest_resolution(length_fs: float, window: Window, *, biased: bool) -> float:
    """Return the resolution (cm⁻¹) that a run of this length can give."""
    shortest = shortest_length_fs(window, RESOLUTION, biased=biased)
    # a little above the limit, where the lag window is as long as the run
    return 1.01 * RESOLUTION * shortest / length_fs
