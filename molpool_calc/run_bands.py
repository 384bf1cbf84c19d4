"""The bands of a recorded run: beside experiment, and what moves in them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from molpool_calc.assignment import (
    ModeVelocities,
    Reference,
    assign_bands,
    internal_coordinates,
    label_of,
    mode_power,
    mode_velocities,
    motion_shares,
    motions_of_modes,
    skeleton_of,
)
from molpool_calc.assignment.assign import LEAST_SHARE
from molpool_calc.elements import covalent_radius, number
from molpool_calc.estimates import finest_resolution
from molpool_calc.harmonic_file import HARMONIC, HarmonicResult, read_harmonic
from molpool_calc.md.trajectory import RunData, read_run
from molpool_calc.md.whole import whole_replicas
from molpool_calc.spectra import (
    BandAssignment,
    Estimator,
    ExperimentComparison,
    HarmonicSpectrum,
    MeasuredSpectrum,
    Spectrum,
    band_width,
    compare,
    find_bands,
    write_assignment,
    write_comparison,
    write_measured,
)
from molpool_calc.spectra.band_files import ASSIGNMENT, EXPERIMENT, EXPERIMENT_CURVE
from molpool_calc.spectra.correlation import nyquist_wavenumber
from molpool_calc.spectra.spectrum import INFRARED_UNIT

FEWEST_FRAMES = 64
"""Of which power spectra of modes can be made that tell bands apart."""

# The anharmonic bands of a mode may lie above its harmonic wavenumber by less.
_ABOVE_HARMONIC = 1.1


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Assignment:
    """The bands of a run, and how far the projection on its modes can be trusted.

    ``kinetic_ratio`` is the kinetic energy found along the modes over that of the
    internal motion.
    """

    bands: tuple[BandAssignment, ...]
    projection: str
    kinetic_ratio: float

    def describe(self) -> dict[str, Any]:
        """Return the assignment for JSON."""
        return {
            "bands": [asdict(band) for band in self.bands],
            "projection": self.projection,
            "kinetic_ratio": self.kinetic_ratio,
        }


def motions_of(
    harmonic: HarmonicResult,
) -> tuple[Reference, Mapping[str, Float[np.ndarray, " vibrations"]]]:
    """Return the reference of a projection, and the motions of its modes."""
    radii = np.array([covalent_radius(number(name)) for name in harmonic.symbols])
    skeleton = skeleton_of(harmonic.symbols, harmonic.positions, radii)
    coordinates = internal_coordinates(skeleton)
    modes = harmonic.spectrum.modes
    reference = Reference(
        positions=harmonic.positions,
        masses=harmonic.masses,
        modes=modes,
        coordinates=coordinates,
    )
    shares = motion_shares(coordinates, harmonic.positions, harmonic.masses, modes)
    return reference, shares


def describe_motions(harmonic: HarmonicResult) -> list[dict[str, Any]]:
    """Return label and motions of every mode for JSON, the largest shares first."""
    _, shares = motions_of(harmonic)
    return [
        {
            "label": label_of(motions),
            "motions": [asdict(m) for m in motions if m.share >= LEAST_SHARE],
        }
        for motions in motions_of_modes(shares)
    ]


def assign_run(folder: Path, spectrum: Spectrum) -> Assignment:
    """Return which modes and motions make the infrared bands of a run, and write it.

    The folder gets ``assignment.csv``.

    Args:
        folder: of the run.
        spectrum: of the run, infrared.

    Raises:
        ValueError: the run has no modes of its own structure, or velocities that are
            too few or too far apart.
    """
    _require_molecular(folder, spectrum)
    run = whole_replicas(read_run(folder))
    harmonic = _harmonic_of(folder, run)
    highest = _highest(harmonic.spectrum)
    interval_fs = require_frames(run, folder, highest)
    reference, motions = motions_of(harmonic)
    velocities = mode_velocities(run.positions, run.velocities, reference)
    length_fs = interval_fs * len(run.frame_steps)
    finest = finest_resolution(length_fs, "blackman-harris", biased=True)
    stated = float(spectrum.metadata["resolution_cm1"] or 0.0)
    estimator = Estimator(
        resolution=max(stated, finest), maximum=highest, highest_wavenumber=highest
    )
    width = band_width(harmonic.positions, harmonic.masses, temperature_of(spectrum))
    bands = assign_bands(
        spectrum,
        find_bands(spectrum.wavenumbers, spectrum.intensity, width=width),
        mode_power(velocities, interval_fs=interval_fs, estimator=estimator),
        wavenumbers=harmonic.spectrum.wavenumbers_cm1,
        strengths=harmonic.spectrum.ir_km_mol,
        motions=motions,
    )
    write_assignment(bands, folder / ASSIGNMENT, _facts(velocities, width))
    return Assignment(
        bands=bands,
        projection=velocities.projection,
        kinetic_ratio=velocities.kinetic_ratio,
    )


def is_assignable(folder: Path, harmonic: HarmonicSpectrum) -> bool:
    """Whether a run has enough frames, and close enough, to assign its bands."""
    run = whole_replicas(read_run(folder))
    reach = nyquist_wavenumber(_every(run) * run.timestep_fs)
    return len(run.frame_steps) >= FEWEST_FRAMES and _highest(harmonic) < reach


def _highest(harmonic: HarmonicSpectrum) -> float:
    """Return where the bands end, cm⁻¹."""
    return _ABOVE_HARMONIC * float(harmonic.wavenumbers_cm1[-1])


def _facts(velocities: ModeVelocities, width: float) -> dict[str, Any]:
    return {
        "projection": velocities.projection,
        "kinetic_ratio": velocities.kinetic_ratio,
        "smoothing_cm1": width,
        "modes": f"of {HARMONIC}, counted from 1",
    }


def _harmonic_of(folder: Path, run: RunData) -> HarmonicResult:
    harmonic = read_harmonic(folder)
    if harmonic is None:
        raise ValueError(
            f"the run in {folder} has no {HARMONIC}, to whose modes its bands are "
            "assigned; molpool ir writes it, and for other runs molpool vib SYSTEM -p "
            f"POTENTIAL --out {folder} does"
        )
    if not harmonic.has_dipole:
        raise ValueError(
            f"{HARMONIC} in {folder} has no infrared strengths, which say how much a "
            "mode absorbs; write it with a potential that predicts dipoles"
        )
    if not harmonic.is_of(run.masses):
        raise ValueError(
            f"{HARMONIC} in {folder} is of {''.join(harmonic.symbols)}, with other "
            "atoms or another order of atoms than the run; write it for the structure "
            "of the run"
        )
    return harmonic


def require_frames(run: RunData, folder: Path, highest: float) -> float:
    """Return the time between frames, fs, if they are enough and close enough.

    Raises:
        ValueError: they are not; what would be.
    """
    n_frames, every = len(run.frame_steps), _every(run)
    if n_frames < FEWEST_FRAMES:
        raise ValueError(
            f"the run in {folder} has velocities in {n_frames} frames; run longer, "
            f"until there are {FEWEST_FRAMES} or more"
        )
    reach = nyquist_wavenumber(every * run.timestep_fs)
    if highest >= reach:
        enough = max(int(every * reach / highest), 1)
        raise ValueError(
            f"the run in {folder} has velocities every {every} steps of "
            f"{run.timestep_fs:g} fs, which resolve up to {reach:.0f} cm-1, while its "
            f"bands reach to {highest:.0f} cm-1; run it again with molpool md --every "
            f"{enough} or less, or with molpool ir"
        )
    return every * run.timestep_fs


def _every(run: RunData) -> int:
    steps = run.frame_steps
    return int(steps[1] - steps[0]) if len(steps) > 1 else 1


def compare_run(
    folder: Path,
    spectrum: Spectrum,
    measured: MeasuredSpectrum,
    *,
    scale: float = 1.0,
    assignment: Assignment | None = None,
) -> ExperimentComparison:
    """Return the infrared bands of a run beside measured ones, and write both.

    The folder gets ``experiment.csv`` and ``experiment_curve.csv``.

    Args:
        folder: of the run.
        spectrum: of the run, infrared.
        measured: what it is compared with.
        scale: factor of the computed wavenumbers.
        assignment: whose labels the computed bands get.

    Raises:
        ValueError: the spectra have no range in common, or the factor corrects
            nothing.
    """
    _require_molecular(folder, spectrum)
    run = whole_replicas(read_run(folder))
    width = band_width(
        reference_positions(folder, run), run.masses, temperature_of(spectrum)
    )
    comparison = compare(spectrum, measured, width=width, scale=scale)
    if assignment is not None:
        comparison = _labelled(comparison, assignment)
    write_comparison(comparison, folder / EXPERIMENT)
    write_measured(measured, folder / EXPERIMENT_CURVE)
    return comparison


def _labelled(
    comparison: ExperimentComparison, assignment: Assignment
) -> ExperimentComparison:
    """Return computed bands with the labels of the assigned ones they lie in."""

    def label(position: float | None) -> str:
        if position is None:
            return ""
        unscaled = position / comparison.scale
        within = [b for b in assignment.bands if b.low_cm1 <= unscaled <= b.high_cm1]
        return within[0].label if within else ""

    bands = tuple(
        replace(band, label=label(band.computed_cm1)) for band in comparison.bands
    )
    return replace(comparison, bands=bands)


def _require_molecular(folder: Path, spectrum: Spectrum) -> None:
    if spectrum.unit != INFRARED_UNIT:
        raise ValueError(
            f"the infrared spectrum of {folder} is in {spectrum.unit}, not in "
            f"{INFRARED_UNIT}: its bands are not those of one molecule in the gas "
            "phase; run one molecule without periodic boundaries"
        )


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
