"""The quantum half of ``molpool ir --beads``: run, spectrum, picture, shifts."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.dynamics import ProgressBar
from molpool_calc.estimates import Fineness
from molpool_calc.md.run_files import MANIFEST, RINGS
from molpool_calc.path_integrals.job import RingPolymerJob, advised_beads
from molpool_calc.path_integrals.read import read_properties
from molpool_calc.path_integrals.run import replica_folder, run_ring_polymers
from molpool_calc.path_integrals.spectrum import quantum_spectrum
from molpool_calc.run_spectrum import peak_list, spectrum_of_run
from molpool_calc.spectra import (
    HarmonicSpectrum,
    Measured,
    plot_infrared,
    total_integral,
    write_spectrum,
)
from molpool_calc.spectra.shifts import BandShift, band_shifts
from molpool_calc.spectra.vibrational_dos import rotations_of
from molpool_calc.units import BOLTZMANN

SPECTRUM_FILE = "spectrum_ir_quantum.csv"


def add_quantum_spectrum(  # noqa: PLR0913 - keyword-only
    relaxed: Atoms,
    potential: str,
    folder: Path,
    job: RingPolymerJob,
    *,
    title: str,
    harmonic: HarmonicSpectrum,
    experiment: Measured | None = None,
    fundamentals: Sequence[float] = (),
    resolution: float | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: ProgressBar = lambda _title, _steps: lambda _step: None,
) -> dict[str, Any]:
    """Run ring polymers beside a classical run, and return what they add to it.

    Writes ``spectrum_ir_quantum.csv``, and ``spectrum.png`` anew with both spectra,
    each corrected for the frequency shift of its time step.

    Args:
        relaxed: the structure that the classical run started from.
        potential: bundled name or folder.
        folder: of the classical run, which has ended.
        job: beads, temperature, lengths, seed.
        title: of the picture.
        harmonic: of the same structure.
        experiment: measured peaks to show below the spectrum.
        fundamentals: measured wavenumbers, cm⁻¹, to state beside the bands.
        resolution: in cm⁻¹; by default 8, or what a shorter run can give.
        resume: go on with ring polymers that are there.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        progress: shows how far the steps are.
    """
    started = time.perf_counter()
    place = folder / RINGS
    known = (place / MANIFEST).is_file()
    if place.is_dir() and not known:  # killed before it was a run
        shutil.rmtree(place)
    run_ring_polymers(
        relaxed,
        potential,
        place,
        job,
        resume=resume and known,
        force=known and not resume,
        device=device,
        progress=progress,
    )
    quantum = quantum_spectrum(place, Fineness(resolution=resolution))
    write_spectrum(quantum, folder / SPECTRUM_FILE)
    classical = spectrum_of_run(
        folder,
        resolution=float(quantum.metadata["resolution_cm1"] or 0.0),
        correct_verlet_shift=True,
    )
    plot_infrared(
        quantum,
        folder / "spectrum.png",
        title=f"{title}, {job.beads} beads",
        sticks=harmonic,
        experiment=experiment,
        classical=classical,
    )
    shifts = band_shifts(classical, quantum, harmonic.wavenumbers_cm1.tolist())
    return {
        "beads": job.beads,
        "advised_beads": advised_beads(
            float(harmonic.wavenumbers_cm1.max()), job.temperature
        ),
        "replicas": job.replicas,
        "picoseconds": job.picoseconds,
        "timestep_fs": job.timestep_fs,
        "centroid_temperature_k": centroid_temperature(relaxed, place, job),
        "lowest_energy_ev": lowest_energy(place, job)
        - minimum_energy(relaxed, potential, device),
        "peaks": peak_list(quantum),
        "integrated_km_mol": total_integral(quantum).value,
        "bands": [_describe(shift, fundamentals) for shift in shifts],
        "seconds": time.perf_counter() - started,
    }


def lowest_energy(folder: Path, job: RingPolymerJob) -> float:
    """Return the lowest energy in eV that any ring had, as the mean over its beads.

    No ring can have less than the minimum of the potential, and one with the energy
    of zero-point motion has far more. One that has less has found another, deeper
    minimum, which for a potential trained around the first is an artefact.
    """
    energies = _series(folder, job, "potential")
    return float(min(energy.min() for energy in energies))


def minimum_energy(relaxed: Atoms, potential: str, device: str) -> float:
    """Return the energy of the relaxed structure in eV."""
    calculator = MolPoolCalculator(
        potential, device=device, dtype="float64", compile="never"
    )
    return float(calculator.calculate_many([relaxed])[0]["energy"])


def centroid_temperature(atoms: Atoms, folder: Path, job: RingPolymerJob) -> float:
    """Return the mean temperature of the centroids in K.

    i-PI states ``P`` times their kinetic energy, since its rings are at ``PT``.

    Args:
        atoms: the molecule.
        folder: of the run.
        job: what was run.
    """
    free = 3 * len(atoms)
    if job.internal:
        free -= 3 + rotations_of(atoms.positions, atoms.get_masses())
    energies = _series(folder, job, "kinetic_md(nm=0)")
    mean = np.mean([energy.mean() for energy in energies])
    return float(2.0 * mean / (job.beads * free * BOLTZMANN))


def _series(
    folder: Path, job: RingPolymerJob, name: str
) -> list[Float[np.ndarray, " samples"]]:
    """Return a property that i-PI wrote, along the run of each replica."""
    return [
        read_properties(replica_folder(folder, k) / "production.properties")[name]
        for k in range(job.replicas)
    ]


def _describe(band: BandShift, fundamentals: Sequence[float]) -> dict[str, Any]:
    return {
        "from_cm1": band.low,
        "to_cm1": band.high,
        "harmonic_cm1": list(band.modes),
        "classical_cm1": band.first,
        "quantum_cm1": band.second,
        "shift_cm1": band.shift,
        "shift_error_cm1": band.error,
        "experiment_cm1": [x for x in fundamentals if band.low <= x <= band.high],
    }
