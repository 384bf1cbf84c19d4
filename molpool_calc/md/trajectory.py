"""``trajectory.h5`` in the layout of H5MD 1.1, and reading a run in any condition.

De Buyl, Colberg & Höfling, Comput. Phys. Commun. 185, 1546 (2014). Every replica has
a group of its own under ``/particles``, which readers such as MDAnalysis open;
``/observables`` hold values of all replicas at every step, ``[steps, replicas, …]``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Shaped

from molpool_calc._version import __version__
from molpool_calc.md.manifest import TRAJECTORY, Manifest, read_manifest
from molpool_calc.md.records import (
    FRAMES,
    OBSERVABLES,
    STEPS,
    Records,
    frame_layout,
    observable_of,
    read_records,
    replace_durably,
    step_layout,
    write_records,
)

FRAME_UNITS = {"position": "Angstrom", "velocity": "Angstrom fs-1"}


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class RunData:
    """A run in memory, whether it finished, was stopped, or was killed.

    Units: fs, eV, e·Å, e·Å/fs, e²Å²/eV, Å, Å/fs, amu, K. ``heat`` is what thermostat
    and barostat have put in: ``energies + kinetic - heat`` is conserved. ``volumes``
    (Å³) and ``pressures`` (eV/Å³) are there at constant pressure; ``cells`` are those
    of the frames, ``cell`` the first one. ``status`` is ``running`` for a run that was
    killed or has not ended. ``others`` are the scalar properties recorded. ``inputs``
    are the caller's, from ``run.json``.
    """

    times_fs: Float64[np.ndarray, " steps"]
    energies: Float64[np.ndarray, "replicas steps"]
    kinetic: Float64[np.ndarray, "replicas steps"]
    heat: Float64[np.ndarray, "replicas steps"]
    dipoles: Float64[np.ndarray, "replicas steps 3"] | None
    dipole_fluxes: Float64[np.ndarray, "replicas steps 3"] | None
    polarizabilities: Float64[np.ndarray, "replicas steps 3 3"] | None
    others: Mapping[str, Float64[np.ndarray, "replicas steps"]]
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
        cells=_cells(frames, dynamics),
        volumes=if_recorded("volume"),
        pressures=if_recorded("pressure"),
    )


def _cells(
    frames: Records, dynamics: Mapping[str, Any]
) -> Float64[np.ndarray, "replicas frames 3 3"] | None:
    """Return the cell of each frame, also where it does not move."""
    if "cell" in (frames.dtype.names or ()):
        return np.ascontiguousarray(np.moveaxis(frames["cell"], 1, 0))
    if dynamics["cell"] is None:
        return None
    return np.repeat(np.array(dynamics["cell"])[:, None], len(frames), axis=1)


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
        _write_h5(temporary, manifest, steps, frames)
        replace_durably(temporary, path)
    return path


def remove_streams(folder: Path) -> None:
    """Remove the streams of a run whose ``trajectory.h5`` is complete."""
    for name in (FRAMES, STEPS):
        (folder / name).unlink(missing_ok=True)


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
    """Return the records of steps and frames, from the streams if they are there."""
    by_step, by_frame = layouts(manifest)
    if _has_streams(folder):
        steps = read_records(folder / STEPS, by_step)
        frames = read_records(folder / FRAMES, by_frame)
    elif (folder / TRAJECTORY).exists():
        steps, frames = _read_h5(folder / TRAJECTORY, by_step, by_frame)
    else:
        return np.empty(0, by_step), np.empty(0, by_frame)
    last = steps["step"][-1] if len(steps) else -1
    return steps, frames[frames["step"] <= last]


def _has_streams(folder: Path) -> bool:
    """Both or none: they are removed and restored one after the other."""
    return (folder / STEPS).exists() and (folder / FRAMES).exists()


def _write_h5(path: Path, manifest: Manifest, steps: Records, frames: Records) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("h5md").attrs["version"] = (1, 1)
        author = file.create_group("h5md/author")
        author.attrs["name"] = manifest["inputs"].get("author", "unknown")
        creator = file.create_group("h5md/creator")
        creator.attrs.update({"name": "molpool-calc", "version": __version__})
        file.create_group("h5md/modules/units").attrs["version"] = (1, 0)
        file.create_group("parameters").attrs["run"] = json.dumps(manifest)
        timestep = manifest["dynamics"]["timestep_fs"]
        clock = _Clock(file, steps["step"], timestep)
        for name in manifest["dynamics"]["observables"]:
            _, h5_name, unit = observable_of(name)
            unit = manifest.get("units", {}).get(name) or unit
            clock.element(file, f"observables/{h5_name}", steps[name], unit)
        clock = _Clock(file, frames["step"], timestep)
        cells = _cells(frames, manifest["dynamics"])
        for replica in range(manifest["dynamics"]["n_replicas"]):
            group = file.create_group(f"particles/{_replica(replica)}")
            box = _write_constants(group, manifest["dynamics"], replica)
            if cells is not None:
                clock.element(box, "edges", cells[replica], "Angstrom")
            for name, unit in FRAME_UNITS.items():
                clock.element(group, name, frames[name][:, replica], unit)


class _Clock:
    """Writes time-dependent elements that share one dataset of steps and times."""

    def __init__(
        self, file: h5py.File, steps: Int[np.ndarray, " n"], timestep_fs: float
    ) -> None:
        self._step = file.create_dataset(None, data=steps)
        self._time = file.create_dataset(None, data=steps * timestep_fs)
        self._time.attrs["unit"] = "fs"

    def element(
        self,
        parent: h5py.Group,
        name: str,
        values: Shaped[np.ndarray, "..."],
        unit: str,
    ) -> None:
        element = parent.create_group(name)
        element["step"], element["time"] = self._step, self._time
        element.create_dataset("value", data=values).attrs["unit"] = unit


def _write_constants(
    group: h5py.Group, dynamics: Mapping[str, Any], replica: int
) -> h5py.Group:
    """Write what does not change; return the group of the box."""
    group["species"] = np.array(dynamics["atomic_numbers"], np.int32)
    group["mass"] = np.array(dynamics["masses"], np.float64)
    group["mass"].attrs["unit"] = "u"
    periodic = [False] * 3 if dynamics["pbc"] is None else dynamics["pbc"][replica]
    box = group.create_group("box")
    box.attrs["dimension"] = 3
    box.attrs["boundary"] = ["periodic" if along else "none" for along in periodic]
    return box


def _read_h5(
    path: Path, by_step: np.dtype[np.void], by_frame: np.dtype[np.void]
) -> tuple[Records, Records]:
    try:
        with h5py.File(path, "r") as file:
            observables, particles = file["observables"], file["particles"]
            steps = _empty(observables["potential_energy/step"], by_step)
            for name in (by_step.names or ())[1:-1]:
                values = observables[f"{observable_of(name).h5_name}/value"]
                _fill(steps[name], values)
            frames = _empty(particles[f"{_replica(0)}/position/step"], by_frame)
            for replica in range(by_frame["position"].shape[0]):
                group = particles[_replica(replica)]
                for name in FRAME_UNITS:
                    _fill(frames[name][:, replica], group[f"{name}/value"])
                if "cell" in (by_frame.names or ()):
                    _fill(frames["cell"][:, replica], group["box/edges/value"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or was not written by molpool ({error}); restore it "
            "from a copy or run again"
        ) from error
    return steps, frames


def _empty(steps: h5py.Dataset, layout: np.dtype[np.void]) -> Records:
    records = np.zeros(len(steps), layout)
    records["step"] = steps[...]
    return records


def _fill(column: Shaped[np.ndarray, "..."], values: h5py.Dataset) -> None:
    if values.shape != column.shape:
        raise ValueError(f"{values.name} has the shape {values.shape}")
    column[...] = values[...]


def _replica(number: int) -> str:
    return f"replica_{number:03d}"
