"""The bands of a recorded run: beside experiment, and what moves in them."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from molpool_calc.harmonic_file import read_harmonic
from molpool_calc.md.trajectory import RunData, read_run
from molpool_calc.spectra import (
    ExperimentComparison,
    MeasuredSpectrum,
    Spectrum,
    band_width,
    compare,
    write_comparison,
    write_measured,
)
from molpool_calc.spectra.band_files import EXPERIMENT, EXPERIMENT_CURVE


def compare_run(
    folder: Path, spectrum: Spectrum, measured: MeasuredSpectrum, *, scale: float = 1.0
) -> ExperimentComparison:
    """Return the infrared bands of a run beside measured ones, and write both.

    The folder gets ``experiment.csv`` and ``experiment_curve.csv``.

    Args:
        folder: of the run.
        spectrum: of the run, infrared.
        measured: what it is compared with.
        scale: factor of the computed wavenumbers.

    Raises:
        ValueError: the spectra have no range in common, or the factor corrects
            nothing.
    """
    run = read_run(folder)
    width = band_width(
        reference_positions(folder, run), run.masses, temperature_of(spectrum)
    )
    comparison = compare(spectrum, measured, width=width, scale=scale)
    write_comparison(comparison, folder / EXPERIMENT)
    write_measured(measured, folder / EXPERIMENT_CURVE)
    return comparison


def temperature_of(spectrum: Spectrum) -> float:
    """Return the temperature of a spectrum, K."""
    return float(spectrum.metadata["temperature"] or 0.0)


def reference_positions(folder: Path, run: RunData) -> Float[np.ndarray, "atoms 3"]:
    """Return the relaxed structure of a run, else the one that it started from, Å."""
    harmonic = read_harmonic(folder)
    if harmonic is not None:
        return harmonic.positions
    stated = run.inputs.get("positions")
    start = run.positions[0, 0] if stated is None else np.array(stated, np.float64)
    return np.asarray(start.reshape(-1, 3))
