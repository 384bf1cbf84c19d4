"""Reading a run in any condition, and putting its file together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from molpool_calc.md.h5md import cells_of_frames, read_h5md, write_h5md
from molpool_calc.md.manifest import (
    Manifest,
    read_manifest,
    require_dynamics,
)
from molpool_calc.md.records import (
    FRAMES,
    OBSERVABLES,
    STEPS,
    Records,
    frame_layout,
    good_steps,
    read_records,
    replace_durably,
    step_layout,
    write_records,
)
from molpool_calc.md.run_files import TRAJECTORY


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class RunData:
    """A run in memory, whether it finished, was stopped, or was killed.

    Units: fs, eV, e·Å, e·Å/fs, e²Å²/eV, Å, Å/fs, amu, K. ``heat`` is what thermostat
    and barostat have put in: ``energies + kinetic - heat`` is conserved. ``volumes``
    (Å³) and ``pressures`` (eV/Å³) are there at constant pressure; ``cells`` are those
    of the frames, ``cell`` the first one. ``force_spreads`` (eV/Å) are those of a
    committee. ``status`` is ``running`` for a run that was killed or has not ended.
    ``others`` are the scalar properties recorded. ``inputs`` are the caller's, from
    ``run.json``.

    ``good_steps`` counts the recorded steps that are good: all, but for a replica that
    the guard stopped, whose numbers and frames are NaN from its first bad step on.
    `whole.whole_replicas` leaves such replicas out.
    """

    times_fs: Float64[np.ndarray, " steps"]
    energies: Float64[np.ndarray, "replicas steps"]
    kinetic: Float64[np.ndarray, "replicas steps"]
    heat: Float64[np.ndarray, "replicas steps"]
    dipoles: Float64[np.ndarray, "replicas steps 3"] | None
    dipole_fluxes: Float64[np.ndarray, "replicas steps 3"] | None
    polarizabilities: Float64[np.ndarray, "replicas steps 3 3"] | None
    others: Mapping[str, Float64[np.ndarray, "replicas steps"]]
    good_steps: Int[np.ndarray, " replicas"]
    frame_steps: Int[np.ndarray, " frames"]
    positions: Float64[np.ndarray, "replicas frames atoms 3"]
    velocities: Float32[np.ndarray, "replicas frames atoms 3"]
    atomic_numbers: Int[np.ndarray, " atoms"]
    masses: Float64[np.ndarray, " atoms"]
    degrees_of_freedom: Float64[np.ndarray, " replicas"]
    cell: Float64[np.ndarray, "replicas 3 3"] | None
    pbc: Bool[np.ndarray, "replicas 3"] | None
    timestep_fs: float
    ensemble: str
    temperature: float | None
    status: str
    inputs: Mapping[str, Any]
    cells: Float64[np.ndarray, "replicas frames 3 3"] | None = None
    volumes: Float64[np.ndarray, "replicas steps"] | None = None
    pressures: Float64[np.ndarray, "replicas steps"] | None = None
    force_spreads: Float64[np.ndarray, "replicas steps"] | None = None


def read_run(folder: Path) -> RunData:
    """Return everything that the run in a folder has recorded; writes nothing.

    Raises:
        ValueError: If the folder holds no run, no recorded step, or a damaged file.
    """
    manifest = read_manifest(folder)
    steps, frames = load_records(folder, manifest)
    if len(steps) == 0:
        raise ValueError(
            f"the run in {folder} ended before its first step was recorded; resume it "
            "or run it again"
        )
    dynamics = manifest["dynamics"]

    def replicas_first(records: Records, name: str) -> Any:
        return np.ascontiguousarray(np.moveaxis(records[name], 1, 0))

    def optional(name: str, kind: type) -> Any:
        return None if dynamics[name] is None else np.array(dynamics[name], kind)

    def if_recorded(name: str) -> Any:
        recorded = name in dynamics["observables"]
        return replicas_first(steps, name) if recorded else None

    return RunData(
        times_fs=steps["step"] * dynamics["timestep_fs"],
        energies=replicas_first(steps, "energy"),
        kinetic=replicas_first(steps, "kinetic"),
        heat=replicas_first(steps, "heat"),
        dipoles=if_recorded("dipole"),
        dipole_fluxes=if_recorded("dipole_flux"),
        polarizabilities=if_recorded("polarizability"),
        others={
            name: replicas_first(steps, name)
            for name in dynamics["observables"]
            if name not in OBSERVABLES
        },
        good_steps=good_steps(steps),
        frame_steps=np.ascontiguousarray(frames["step"]),
        positions=replicas_first(frames, "position"),
        velocities=replicas_first(frames, "velocity"),
        atomic_numbers=np.array(dynamics["atomic_numbers"], np.int64),
        masses=np.array(dynamics["masses"], np.float64),
        degrees_of_freedom=np.array(dynamics["degrees_of_freedom"], np.float64),
        cell=optional("cell", np.float64),
        pbc=optional("pbc", np.bool_),
        timestep_fs=dynamics["timestep_fs"],
        ensemble=dynamics["ensemble"],
        temperature=dynamics.get("temperature"),
        status=manifest["status"],
        inputs=manifest["inputs"],
        cells=cells_of_frames(frames, dynamics),
        volumes=if_recorded("volume"),
        pressures=if_recorded("pressure"),
        force_spreads=if_recorded("force_spread"),
    )


def assemble(folder: Path) -> Path:
    """Write ``trajectory.h5`` atomically from the streams, if these are there.

    Returns:
        The path of the file.
    """
    manifest = read_manifest(folder)
    path = folder / TRAJECTORY
    if _has_streams(folder):
        steps, frames = load_records(folder, manifest)
        temporary = path.with_name(path.name + ".tmp")
        try:
            write_h5md(temporary, manifest, steps, frames)
            replace_durably(temporary, path)
        except (OSError, RuntimeError) as error:  # how h5py reports a full disk
            if temporary.is_file():
                temporary.unlink()
            if isinstance(error, RuntimeError):
                raise OSError(str(error)) from error
            raise
    return path


def remove_streams(folder: Path) -> None:
    """Remove the streams of a run whose ``trajectory.h5`` is complete.

    Half-written ones too: a run that was killed while it restored them to go on, and
    then has nothing left to do, never writes them again.
    """
    for name in (FRAMES, STEPS):
        for suffix in ("", ".tmp"):
            (folder / (name + suffix)).unlink(missing_ok=True)


def restore_streams(folder: Path, manifest: Manifest) -> None:
    """Write the streams of a finished run again, so that it can go on."""
    if not _has_streams(folder) and (folder / TRAJECTORY).exists():
        steps, frames = load_records(folder, manifest)
        write_records(folder / FRAMES, frames)
        write_records(folder / STEPS, steps)


def layouts(manifest: Manifest) -> tuple[np.dtype[np.void], np.dtype[np.void]]:
    """Return the layouts of the records of steps and of frames."""
    dynamics = manifest["dynamics"]
    n_replicas, n_atoms = dynamics["n_replicas"], len(dynamics["atomic_numbers"])
    by_step = step_layout(n_replicas, dynamics["observables"])
    cell_moves = "volume" in dynamics["observables"]
    return by_step, frame_layout(n_replicas, n_atoms, cell_moves=cell_moves)


def load_records(folder: Path, manifest: Manifest) -> tuple[Records, Records]:
    """Return the records of steps and frames, from the streams if they are there.

    Raises:
        ValueError: If the manifest does not say what they hold, or a file is damaged.
    """
    require_dynamics(folder, manifest)
    by_step, by_frame = layouts(manifest)
    if _has_streams(folder):
        steps = read_records(folder / STEPS, by_step)
        frames = read_records(folder / FRAMES, by_frame)
    elif (folder / TRAJECTORY).exists():
        steps, frames = read_h5md(folder / TRAJECTORY, by_step, by_frame)
    else:
        return np.empty(0, by_step), np.empty(0, by_frame)
    last = steps["step"][-1] if len(steps) else -1
    return steps, frames[frames["step"] <= last]


def _has_streams(folder: Path) -> bool:
    """Both or none: they are removed and restored one after the other."""
    return (folder / STEPS).exists() and (folder / FRAMES).exists()
