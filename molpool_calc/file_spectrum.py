"""Spectra of trajectories in files of any program, with any calculator's dipoles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from molpool_calc.estimates import Fineness, Samples, estimate
from molpool_calc.foreign import foreign_calculator
from molpool_calc.recompute import (
    ForeignSource,
    NetworkSource,
    Quantity,
    Source,
    recomputed,
)
from molpool_calc.run_spectrum import Kind, groups_of
from molpool_calc.spectra import Estimator, Spectrum, raman_spectrum, vibrational_dos
from molpool_calc.spectra.correlation import central_difference_response
from molpool_calc.spectra.estimator import spectral_density
from molpool_calc.spectra.infrared import infrared_of_density
from molpool_calc.spectra.vibrational_dos import correct_differences
from molpool_calc.trajectory_file import (
    TrajectoryFile,
    is_wrapped,
    read_trajectory,
)
from molpool_calc.trajectory_motion import (
    degrees_of_freedom,
    has_velocities,
    internal_motion,
    motion_temperature,
    names_of,
    velocities_of,
)

Progress = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileJob:
    """What decides the spectrum of files.

    Attributes:
        kind: of the spectrum.
        timestep_fs: interval between two frames.
        potential: of MolPool, that computes dipoles or polarizabilities.
        calculator: of another program, as ``module:Class,key=value``.
        recompute: also where the frames carry what is needed.
        device: of the potential.
        dtype: of the potential.
        cache: folder of computed values; by default that of each file.
        temperature: in K; by default as the atoms move.
    """

    kind: Kind
    timestep_fs: float
    potential: str | None = None
    calculator: str | None = None
    recompute: bool = False
    device: str = "auto"
    dtype: str = "float64"
    cache: Path | None = None
    temperature: float | None = None

    def source(self, quantity: Quantity) -> Source | None:
        """Return what computes a quantity, ``None`` if nothing was given.

        Raises:
            ValueError: two were given, or what was given does not have the quantity.
        """
        if self.potential is not None and self.calculator is not None:
            raise ValueError(
                "both a potential and a calculator were given, and one computes; leave "
                "out -p or --calculator"
            )
        if self.potential is not None:
            return NetworkSource(
                self.potential, quantity, device=self.device, dtype=self.dtype
            )
        if self.calculator is not None:
            return ForeignSource(foreign_calculator(self.calculator), quantity)
        return None


def spectrum_of_files(
    paths: Sequence[Path],
    job: FileJob,
    fineness: Fineness,
    options: Mapping[str, Any],
    progress: Progress = lambda _title, _steps: lambda _step: None,
) -> Spectrum:
    """Return the spectrum of trajectories, each file a replica of the same atoms.

    Args:
        paths: of formats that ASE reads; of files of unequal length, as many frames
            count as the shortest has.
        job: kind, interval and source.
        fineness: of the spectrum.
        options: further keywords of ``infrared_of_density`` or ``raman_spectrum``
            (``correction``, ``scattering``), or ``per``.
        progress: shows how far the computation of dipoles is.

    Raises:
        ValueError: files that cannot be read or do not belong together, or no way to
            get what the spectrum is made of.
    """
    files = [read_trajectory(path, job.timestep_fs) for path in paths]
    _require_same(files)
    n_frames = min(len(file.positions) for file in files)
    make = {"ir": _infrared, "raman": _raman, "vdos": _density_of_states}[job.kind]
    spectrum = estimate(make(files, job, n_frames, options, progress), fineness)
    facts = {
        # How the trajectory was integrated is not known.
        name: value
        for name, value in spectrum.metadata.items()
        if not name.startswith("verlet_")
    }
    if job.kind != "vdos":
        facts["temperature_is_stated"] = job.temperature is not None
    return replace(spectrum, metadata=MappingProxyType(facts))


def _require_same(files: Sequence[TrajectoryFile]) -> None:
    first = files[0].first
    for file in files[1:]:
        same = np.array_equal(file.first.numbers, first.numbers)
        if not (same and np.array_equal(file.first.pbc, first.pbc)):
            raise ValueError(
                f"{file.path} holds {file.first.symbols} and {files[0].path} holds "
                f"{first.symbols}, but several files are replicas of one system; give "
                "files of the same atoms in the same order"
            )


def _infrared(
    files: Sequence[TrajectoryFile],
    job: FileJob,
    n_frames: int,
    options: Mapping[str, Any],
    progress: Progress,
) -> Samples:
    volume, from_motion = None, False
    if files[0].periodic:
        series, from_motion = _of_cells(files, job, progress)
        cells = np.concatenate([file.cells[:n_frames] for file in files])
        volume = float(np.abs(np.linalg.det(cells)).mean())
    else:
        series = [
            _quantity(file, job, "dipole", file.dipoles, progress) for file in files
        ]
    values = np.stack([rows[:n_frames] for rows in series])
    differenced = from_motion and not all(has_velocities(file) for file in files)
    if differenced:  # of positions, which have none at the ends
        values = values[:, 1:-1]

    def make(estimator: Estimator) -> Spectrum:
        density = spectral_density(
            values,
            timestep_fs=job.timestep_fs,
            estimator=estimator,
            differentiate=not from_motion,
        )
        if differenced:
            response = central_difference_response(density.wavenumbers, job.timestep_fs)
            density = replace(density, units=density.units / response)
        return infrared_of_density(
            density,
            temperature=_temperature(files, job, n_frames, estimator),
            correction=options.get("correction", "harmonic"),
            step_fs=job.timestep_fs,
            correct_verlet_shift=False,
            volume=volume,
        )

    n_samples = values.shape[1] - (0 if from_motion else 2)
    return Samples(names_of(files), job.timestep_fs, n_samples, make)


def _of_cells(
    files: Sequence[TrajectoryFile], job: FileJob, progress: Progress
) -> tuple[list[Float[np.ndarray, "frames 3"]], bool]:
    """Return dipoles of cells, or their rates, and whether they are rates."""
    given = [file.dipoles for file in files]
    usable = not any(is_wrapped(file) for file in files) and not job.recompute
    if usable and all(dipoles is not None for dipoles in given):
        return [dipoles for dipoles in given if dipoles is not None], False
    if job.potential is None:
        what = "has no dipoles" if usable else "has atoms that jump to other images"
        raise ValueError(
            f"{names_of(files)} is periodic and {what}, and a dipole computed of a "
            "cell depends on images; give -p with a potential that predicts charges, "
            "for the rate of the dipole, or for one molecule a file without cell"
        )
    rates = [
        _quantity(file, job, "dipole_flux", None, progress, velocities)
        for file, velocities in zip(
            files, velocities_of(files, job.timestep_fs), strict=True
        )
    ]
    return rates, True


def _raman(
    files: Sequence[TrajectoryFile],
    job: FileJob,
    n_frames: int,
    options: Mapping[str, Any],
    progress: Progress,
) -> Samples:
    if files[0].periodic:
        raise ValueError(
            f"{names_of(files)} is periodic, and Raman spectra are of molecules here; "
            "give files without a cell"
        )
    series = [
        _quantity(file, job, "polarizability", file.polarizabilities, progress)
        for file in files
    ]
    values = np.stack([rows[:n_frames] for rows in series])

    def make(estimator: Estimator) -> Spectrum:
        return raman_spectrum(
            values,
            timestep_fs=job.timestep_fs,
            temperature=_temperature(files, job, n_frames, estimator),
            scattering=options.get("scattering"),
            estimator=estimator,
            correction=options.get("correction", "harmonic"),
        )

    return Samples(names_of(files), job.timestep_fs, n_frames - 2, make)


def _density_of_states(
    files: Sequence[TrajectoryFile],
    job: FileJob,
    n_frames: int,
    options: Mapping[str, Any],
    progress: Progress,
) -> Samples:
    del progress
    velocities, differenced = internal_motion(files, job.timestep_fs, n_frames)
    masses = files[0].first.get_masses()

    def make(estimator: Estimator) -> Spectrum:
        dos = vibrational_dos(
            velocities,
            masses,
            degrees_of_freedom=degrees_of_freedom(files[0]),
            timestep_fs=job.timestep_fs,
            groups=groups_of(files[0].first.numbers, options.get("per", "element")),
            estimator=estimator,
        )
        return correct_differences(dos, job.timestep_fs) if differenced else dos

    return Samples(names_of(files), job.timestep_fs, velocities.shape[1], make)


def _quantity(
    file: TrajectoryFile,
    job: FileJob,
    quantity: Quantity,
    given: Float[np.ndarray, "frames ..."] | None,
    progress: Progress,
    velocities: Float[np.ndarray, "frames atoms 3"] | None = None,
) -> Float[np.ndarray, "frames ..."]:
    """Return what the frames carry, else what the source computes."""
    if given is not None and not job.recompute:
        return given
    source = job.source(quantity)
    if source is None:
        plural = {"polarizability": "polarizabilities"}.get(quantity, f"{quantity}s")
        raise ValueError(
            f"{file.path} has no {plural}; compute them with -p and a potential (see "
            "molpool list) or --calculator and an ASE calculator that give them"
        )
    if velocities is None:  # the quantity does not depend on them
        velocities = np.zeros_like(file.positions)
    folder = file.path.parent if job.cache is None else job.cache
    return recomputed(file, velocities, source, quantity, folder, progress)


def _temperature(
    files: Sequence[TrajectoryFile], job: FileJob, n_frames: int, estimator: Estimator
) -> float:
    if job.temperature is not None:
        return job.temperature
    return motion_temperature(files, job.timestep_fs, n_frames, estimator)
