"""The main job: from a structure to its infrared spectrum, absolute and with a band.

Relax, analyse the harmonic vibrations, equilibrate every replica, run NVE with the
dipole at every step, and write spectrum, picture and all that led to them.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.io import write

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.dynamics import (
    ProgressBar,
    calculator_of_run,
    recording_of_run,
    require_forces,
    run_replicas,
)
from molpool_calc.estimates import MAXIMUM, finest_resolution
from molpool_calc.harmonic_file import write_harmonic
from molpool_calc.infrared_job import InfraredJob
from molpool_calc.md.manifest import check_output
from molpool_calc.md.outcome import RunOutcome
from molpool_calc.provenance import Potentials
from molpool_calc.run_bands import Assignment, assign_run, compare_run, is_assignable
from molpool_calc.run_spectrum import peak_list, spectrum_of_run
from molpool_calc.spectra import (
    ExperimentComparison,
    HarmonicSpectrum,
    Measured,
    MeasuredSpectrum,
    Spectrum,
    plot_infrared,
    total_integral,
    write_spectrum,
)
from molpool_calc.statics import TIGHT_FMAX, harmonic_result, relax

SPECTRUM_FILE = "spectrum_ir.csv"
RELAXATION = 1000
"""Most steps of the relaxation before the run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InfraredResult:
    """What an infrared run gives; ``outcome.status`` says how the dynamics ended.

    ``spectrum`` is ``None`` where the run was interrupted too early for one,
    ``assignment`` where it has too few frames, ``comparison`` without a measured curve.
    """

    outcome: RunOutcome
    spectrum: Spectrum | None
    assignment: Assignment | None
    comparison: ExperimentComparison | None
    harmonic: HarmonicSpectrum
    relaxed: Atoms
    seconds: float

    def describe(self) -> dict[str, Any]:
        """Return the summary under the keys of the command line."""
        drift, spectrum = self.outcome.drift_mev_per_atom_per_ps, self.spectrum
        total = None if spectrum is None else total_integral(spectrum).value
        return {
            "peaks": [] if spectrum is None else peak_list(spectrum),
            "integrated_km_mol": total,
            "drift_mev_per_atom_per_ps": None
            if drift is None
            else float(np.mean(drift)),
            "mean_temperature_k": float(np.mean(self.outcome.mean_temperature)),
            "harmonic_wavenumbers_cm1": self.harmonic.wavenumbers_cm1.tolist(),
            "harmonic_ir_km_mol": self.harmonic.ir_km_mol.tolist(),
            "status": self.outcome.status,
            "reason": self.outcome.reason,
            "stopped": [stop.describe() for stop in self.outcome.stopped],
            "seconds": self.seconds,
        }


def run_infrared(  # noqa: PLR0913 - keyword-only
    atoms: Atoms,
    potential: Potentials,
    folder: Path,
    job: InfraredJob,
    *,
    title: str,
    experiment: Measured | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    progress: ProgressBar = lambda _title, _steps: lambda _step: None,
    origin: Mapping[str, str] | None = None,
) -> InfraredResult:
    """Return the infrared spectrum of a molecule, and write it to a folder.

    The folder gets ``relaxed.xyz``, ``harmonic.json``, ``trajectory.h5``, ``run.json``,
    ``spectrum_ir.csv`` (also as ``spectrum.csv``), ``assignment.csv`` and
    ``spectrum.png``.

    Args:
        atoms: starting structure; left unchanged.
        potential: bundled name or folder, or several: a committee.
        folder: new or empty, unless ``resume`` or ``force``.
        job: temperature, lengths, seed.
        title: of the picture.
        experiment: measured peaks to show below the spectrum, or a measured curve,
            which is compared too: ``experiment.csv``, ``experiment_curve.csv``.
        resume: go on with an interrupted run, bit for bit.
        force: replace a run that is there.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        progress: shows how far the steps are.
        origin: for ``run.json``, see `dynamics.recording_of_run`.

    Raises:
        ValueError: a periodic structure, a potential without dipole, a folder in use,
            a structure the potential does not cover, a pooling unsuitable for it, or
            a relaxation that finds no minimum.
    """
    started = time.perf_counter()
    calculator = calculator_of_run(potential, job.dynamics, folder, resume, device)
    _require_dipole(calculator, atoms)
    require_forces(calculator, atoms, job.dynamics)
    _require_length(job)
    check_output(folder, resume=resume, force=force)
    relaxed = _minimum(atoms, potential, device, job.forces)
    vibrations = harmonic_result(relaxed, potential, device=device, forces=job.forces)
    dynamics = job.dynamics
    place = (folder, resume, progress)
    recording = recording_of_run(
        calculator, potential, relaxed, dynamics, *place, origin=origin
    )
    recording = replace(recording, force=force)
    outcome = run_replicas(calculator, relaxed, dynamics, recording, progress)
    write(folder / "relaxed.xyz", relaxed, format="extxyz")
    write_harmonic(folder, vibrations)
    shown = _interpret(folder, job, outcome, vibrations.spectrum, experiment)
    if shown is not None:
        shown.draw(folder, title, experiment)
    return InfraredResult(
        outcome=outcome,
        spectrum=None if shown is None else shown.spectrum,
        assignment=None if shown is None else shown.assignment,
        comparison=None if shown is None else shown.comparison,
        harmonic=vibrations.spectrum,
        relaxed=relaxed,
        seconds=time.perf_counter() - started,
    )


def _minimum(
    atoms: Atoms, potential: Potentials, device: str, forces: str | None
) -> Atoms:
    """Return the relaxed structure, the only one whose vibrations mean anything."""
    done = relax(atoms, potential, steps=RELAXATION, device=device, forces=forces)
    if not done.converged:
        raise ValueError(
            f"the relaxation did not reach {TIGHT_FMAX:g} eV/Å in {done.n_steps} steps "
            f"(largest force {done.fmax:.3g} eV/Å), but an infrared run starts from a "
            "minimum; relax the structure first with molpool relax --steps, or take "
            "another potential"
        )
    return done.atoms


def _interpret(
    folder: Path,
    job: InfraredJob,
    outcome: RunOutcome,
    harmonic: HarmonicSpectrum,
    experiment: Measured | None,
) -> "_Shown | None":
    """Write spectrum, assignment and comparison, as far as the run allows them."""
    if _finest((outcome.good_steps - 1) * job.timestep_fs) >= MAXIMUM:
        return None
    spectrum = _spectrum(folder, job, outcome)
    assignment = comparison = None
    if is_assignable(folder, harmonic):
        assignment = assign_run(folder, spectrum)
    if isinstance(experiment, MeasuredSpectrum):
        comparison = compare_run(
            folder,
            spectrum,
            experiment,
            scale=job.wavenumber_scale,
            assignment=assignment,
        )
    return _Shown(spectrum, assignment, comparison, harmonic)


def _spectrum(folder: Path, job: InfraredJob, outcome: RunOutcome) -> Spectrum:
    """Write the spectrum, as fine as an interrupted run allows."""
    wish = job.resolution if outcome.status == "finished" else None
    spectrum = spectrum_of_run(folder, resolution=wish)
    write_spectrum(spectrum, folder / SPECTRUM_FILE)
    write_spectrum(spectrum, folder / "spectrum.csv")
    return spectrum


class _Shown(NamedTuple):
    """What the picture shows; with an experiment, at scaled wavenumbers."""

    spectrum: Spectrum
    assignment: Assignment | None
    comparison: ExperimentComparison | None
    harmonic: HarmonicSpectrum

    def draw(self, folder: Path, title: str, experiment: Measured | None) -> None:
        scale = 1.0 if self.comparison is None else self.comparison.scale
        wavenumbers = self.harmonic.wavenumbers_cm1 * scale
        bands = () if self.assignment is None else self.assignment.bands
        plot_infrared(
            self.spectrum if self.comparison is None else self.comparison.computed,
            folder / "spectrum.png",
            title=title,
            sticks=replace(self.harmonic, wavenumbers_cm1=wavenumbers),
            experiment=experiment,
            labels=[(scale * band.position_cm1, band.label) for band in bands],
        )


def _finest(length_fs: float) -> float:
    if length_fs <= 0:
        return MAXIMUM
    return finest_resolution(length_fs, "blackman-harris", biased=True)


def _require_length(job: InfraredJob) -> None:
    """Refuse, before the run, a resolution that it could not give."""
    finest = _finest((job.dynamics.n_steps - 1) * job.timestep_fs)
    if finest >= MAXIMUM:
        raise ValueError(
            f"{job.picoseconds:g} ps are too short for a spectrum; give at least 0.02"
        )
    if job.resolution is not None and job.resolution < finest:
        raise ValueError(
            f"{job.picoseconds:g} ps are too short for a resolution of "
            f"{job.resolution:g} cm-1; ask for {finest:.3g} cm-1 or more, or for more "
            "picoseconds"
        )


def _require_dipole(calculator: MolPoolCalculator, atoms: Atoms) -> None:
    spec = calculator.evaluator.potential.spec
    if "dipole" not in calculator.implemented_properties:
        raise ValueError(
            f"{spec.name} predicts no dipole, which an infrared spectrum needs; take "
            "another potential, see molpool list"
        )
    if atoms.pbc.any():
        raise ValueError(
            "the structure is periodic, but this is the spectrum of a molecule in the "
            "gas phase; set pbc to False"
        )
    calculator.evaluator.check(atoms, calculator.charge_and_spin(atoms))
