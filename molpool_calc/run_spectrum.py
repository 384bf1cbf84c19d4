"""The infrared spectrum of a recorded run, as fine as its length allows."""

from pathlib import Path
from typing import Any

from molpool_calc.md.trajectory import read_run
from molpool_calc.spectra import Estimator, Spectrum, infrared_spectrum, peaks
from molpool_calc.spectra.correlation import Window, shortest_length_fs

RESOLUTION = 8.0
"""cm⁻¹: sharp enough for the bands of a room-temperature gas."""

MAXIMUM = 4500.0
"""cm⁻¹: beyond every vibration of a molecule."""


def spectrum_of_run(
    folder: Path,
    *,
    resolution: float | None = None,
    window: Window = "blackman-harris",
    biased: bool = True,
    maximum: float = MAXIMUM,
    **options: Any,
) -> Spectrum:
    """Return the infrared spectrum of a finished, interrupted or killed run.

    Args:
        folder: of the run.
        resolution: in cm⁻¹; by default 8, or what a shorter run can give.
        window: lag window.
        biased: whether to use the biased autocorrelation.
        maximum: end of the range, cm⁻¹.
        options: further keywords of ``spectra.infrared_spectrum``.

    Raises:
        ValueError: no run, no dipoles, or too few of them.
    """
    run = read_run(folder)
    if run.dipoles is None:
        raise ValueError(
            f"the run in {folder} has no dipoles; run it again with a potential that "
            "predicts them"
        )
    if resolution is None:
        # a central difference has no value at the two ends
        length = run.timestep_fs * (run.dipoles.shape[1] - 2)
        resolution = max(RESOLUTION, finest_resolution(length, window, biased=biased))
    temperature = run.temperature or run.inputs.get("temperature")
    if temperature is None:
        raise ValueError(
            f"the run in {folder} states no temperature; give one with --temperature"
        )
    return infrared_spectrum(
        run.dipoles,
        timestep_fs=run.timestep_fs,
        temperature=float(options.pop("temperature", temperature)),
        estimator=Estimator(
            resolution=resolution, window=window, biased=biased, maximum=maximum
        ),
        **options,
    )


def finest_resolution(length_fs: float, window: Window, *, biased: bool) -> float:
    """Return the resolution (cm⁻¹) that a run of this length can give."""
    shortest = shortest_length_fs(window, RESOLUTION, biased=biased)
    # a little above the limit, where the lag window is as long as the run
    return 1.01 * RESOLUTION * shortest / length_fs


def peak_list(spectrum: Spectrum) -> list[dict[str, float]]:
    """Return the peaks (cm⁻¹, and in the unit of the spectrum), ready for JSON."""
    return [
        {"wavenumber_cm1": position, "intensity": height}
        for position, height in peaks(spectrum)
    ]
