"""The spectra of a recorded run, as fine as its length allows."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from molpool_calc.elements import symbol
from molpool_calc.estimates import MAXIMUM, Fineness, Samples, estimate
from molpool_calc.md.trajectory import RunData, read_run
from molpool_calc.md.whole import whole_replicas
from molpool_calc.run_temperature import temperature_of_run
from molpool_calc.spectra import (
    Estimator,
    Spectrum,
    bulk_spectrum,
    infrared_spectrum,
    internal_velocities,
    peaks,
    raman_spectrum,
    vibrational_dos,
)
from molpool_calc.spectra.correlation import Window, nyquist_wavenumber
from molpool_calc.spectra.vibrational_dos import Rotations, rotations_of

Kind = Literal["ir", "raman", "vdos"]


def spectrum_of_run(
    folder: Path,
    *,
    kind: Kind = "ir",
    resolution: float | None = None,
    window: Window = "blackman-harris",
    biased: bool = True,
    maximum: float = MAXIMUM,
    highest_wavenumber: float | None = None,
    **options: Any,
) -> Spectrum:
    """Return a spectrum of a finished, interrupted or killed run.

    Args:
        folder: of the run.
        kind: ``ir`` from its dipoles, ``raman`` from its polarizabilities, ``vdos``
            (the density of states) from its velocities.
        resolution: in cm⁻¹; by default 8, or what a shorter run can give.
        window: lag window.
        biased: whether to use the biased autocorrelation.
        maximum: end of the range, cm⁻¹.
        highest_wavenumber: of the fastest motion, cm⁻¹, if it is below every molecule's
            4500; samples may then be further apart.
        options: further keywords of ``spectra.infrared_spectrum`` or
            ``spectra.raman_spectrum`` (``temperature`` in K; by default as
            `temperature_of_run` finds it), or ``per`` (``"element"`` or ``"atom"``:
            whose shares of the density of states to give) and ``correct_verlet_shift``.

    Raises:
        ValueError: no run, or not recorded what the spectrum is made of, or too few
            or too far apart.
    """
    if kind not in _OF_KIND:
        raise ValueError(
            f"there is no spectrum of kind {kind}; give one of {', '.join(_OF_KIND)}"
        )
    recorded = read_run(folder)
    run = whole_replicas(recorded)
    fineness = Fineness(
        resolution=resolution,
        window=window,
        biased=biased,
        maximum=maximum,
        highest_wavenumber=highest_wavenumber,
    )
    spectrum = estimate(_OF_KIND[kind](run, folder, options), fineness)
    if kind != "vdos":
        found = temperature_of_run(run, folder, options.get("temperature"))
        facts = {**spectrum.metadata, "temperature_from": found.origin}
        spectrum = replace(spectrum, metadata=facts)
    return _with_stops_stated(spectrum, recorded, run)


def _with_stops_stated(
    spectrum: Spectrum, recorded: RunData, used: RunData
) -> Spectrum:
    """Return the spectrum; its metadata says what the guard cost it, if anything."""
    if used is recorded:
        return spectrum
    stated = {
        "replicas_left_out": len(recorded.good_steps) - len(used.good_steps),
        "steps_left_out": len(recorded.times_fs) - len(used.times_fs),
    }
    return replace(spectrum, metadata={**spectrum.metadata, **stated})


def _infrared(run: RunData, folder: Path, options: Mapping[str, Any]) -> Samples:
    periodic = run.pbc is not None and bool(run.pbc.any())
    if periodic or run.dipoles is None:
        return _infrared_of_flux(run, folder, options, periodic=periodic)
    dipoles, keywords = run.dipoles, _thermal(run, folder, options)
    return Samples(
        f"the run in {folder}",
        run.timestep_fs,
        # a central difference has no value at the two ends
        run.dipoles.shape[1] - 2,
        lambda estimator: infrared_spectrum(dipoles, estimator=estimator, **keywords),
    )


def _infrared_of_flux(
    run: RunData, folder: Path, options: Mapping[str, Any], *, periodic: bool
) -> Samples:
    if run.dipole_fluxes is None and not periodic:
        raise ValueError(
            f"the run in {folder} has no dipoles; run it again with a potential that "
            "predicts them"
        )
    if run.dipole_fluxes is None or run.cell is None:
        raise ValueError(
            f"the run in {folder} is of a periodic system, whose dipole depends on the "
            "images of its atoms; run it again with --record dipole_flux and a "
            "potential that predicts charges"
        )
    fluxes, keywords = run.dipole_fluxes, _thermal(run, folder, options)
    volumes = np.abs(np.linalg.det(run.cell)) if run.volumes is None else run.volumes
    volume = float(volumes.mean())
    return Samples(
        f"the run in {folder}",
        run.timestep_fs,
        fluxes.shape[1],
        lambda estimator: bulk_spectrum(
            fluxes, volume=volume, estimator=estimator, **keywords
        ),
    )


def _raman(run: RunData, folder: Path, options: Mapping[str, Any]) -> Samples:
    if run.polarizabilities is None:
        raise ValueError(
            f"the run in {folder} has no polarizabilities; run it again with --record "
            "polarizability and a potential that predicts them"
        )
    tensors, keywords = run.polarizabilities, _thermal(run, folder, options)
    return Samples(
        f"the run in {folder}",
        run.timestep_fs,
        tensors.shape[1] - 2,
        lambda estimator: raman_spectrum(tensors, estimator=estimator, **keywords),
    )


def _thermal(
    run: RunData, folder: Path, options: Mapping[str, Any]
) -> Mapping[str, Any]:
    found = temperature_of_run(run, folder, options.get("temperature"))
    common = {"timestep_fs": run.timestep_fs, "temperature": found.kelvin}
    return {**options, **common}


def _density_of_states(
    run: RunData, folder: Path, options: Mapping[str, Any]
) -> Samples:
    n_frames = len(run.frame_steps)
    every = int(run.frame_steps[1] - run.frame_steps[0]) if n_frames > 1 else 1
    interval = every * run.timestep_fs
    rotations = _rotations(run)
    free = 3 * len(run.masses) - 3 - rotations
    choices = dict(options)
    groups = groups_of(run.atomic_numbers, choices.pop("per", "element"))

    def make(estimator: Estimator) -> Spectrum:
        _require_close_frames(run, folder, every, estimator)
        velocities = internal_velocities(
            run.velocities, run.positions, run.masses, rotations=rotations
        )
        return vibrational_dos(
            velocities,
            run.masses,
            degrees_of_freedom=free,
            timestep_fs=interval,
            groups=groups,
            estimator=estimator,
            verlet_timestep_fs=run.timestep_fs,
            **choices,
        )

    return Samples(f"the run in {folder}", interval, n_frames, make)


def _require_close_frames(
    run: RunData, folder: Path, every: int, estimator: Estimator
) -> None:
    """Refuse frames that would fold the highest wavenumber, and say what would not."""
    highest = max(estimator.highest_wavenumber or MAXIMUM, estimator.maximum)
    reach = nyquist_wavenumber(every * run.timestep_fs)
    if highest < reach:
        return
    longest = nyquist_wavenumber(run.timestep_fs) / highest
    enough = max(int(np.ceil(longest)) - 1, 1)
    raise ValueError(
        f"the run in {folder} has velocities every {every} steps of "
        f"{run.timestep_fs:g} fs, which resolve up to {reach:.0f} cm-1 and would fold "
        f"{highest:g} cm-1 onto a false band; run it again with --every {enough} or "
        "less, or state with --highest-wavenumber below what nothing moves as fast"
    )


def _rotations(run: RunData) -> Rotations:
    """Return how many rotations a molecule has, as the run itself counts them."""
    if run.pbc is not None and run.pbc.any():
        return 0
    counted = 3 * len(run.masses) - 3 - round(float(run.degrees_of_freedom[0]))
    if counted in (2, 3):
        return 2 if counted == 2 else 3  # noqa: PLR2004 (a linear molecule)
    # Langevin dynamics keeps all motion; its relaxed structure is in the inputs.
    stated = run.inputs.get("positions")
    start = run.positions[0, 0] if stated is None else np.array(stated)
    return rotations_of(start.reshape(-1, 3), run.masses)


def groups_of(
    numbers: Int[np.ndarray, " atoms"], per: Literal["element", "atom"]
) -> dict[str, Int[np.ndarray, " members"]]:
    """Return the atoms of each element, or each atom alone, under their names."""
    symbols = [symbol(number) for number in numbers.tolist()]
    if per == "atom":
        return {f"{name}{k}": np.array([k]) for k, name in enumerate(symbols)}
    return {
        name: np.flatnonzero(np.array(symbols) == name)
        for name in dict.fromkeys(symbols)
    }


_OF_KIND = {"ir": _infrared, "raman": _raman, "vdos": _density_of_states}


def peak_list(spectrum: Spectrum) -> list[dict[str, float]]:
    """Return the peaks (cm⁻¹, and in the unit of the spectrum), ready for JSON.

    Peaks of a Raman spectrum have their depolarization ratio, where there is one.
    """
    ratios = spectrum.components.get("depolarization_ratio")
    found = []
    for position, height in peaks(spectrum):
        peak = {"wavenumber_cm1": position, "intensity": height}
        if ratios is not None:
            ratio = float(np.interp(position, spectrum.wavenumbers, ratios))
            peak |= {"depolarization_ratio": ratio} if np.isfinite(ratio) else {}
        found.append(peak)
    return found
