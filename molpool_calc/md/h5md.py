"""``trajectory.h5``: the records of a run in the layout of H5MD 1.1.

De Buyl, Colberg & Höfling, Comput. Phys. Commun. 185, 1546 (2014). Every replica has
a group of its own under ``/particles``, which readers such as MDAnalysis open, with
its good frames only; ``/observables`` hold values of all replicas at every step,
``[steps, replicas, …]``, NaN for a replica after it was stopped.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Shaped

from molpool_calc._version import __version__
from molpool_calc.md.manifest import Manifest
from molpool_calc.md.records import Records, good_steps, observable_of

FRAME_UNITS = {"position": "Angstrom", "velocity": "Angstrom fs-1"}


def write_h5md(path: Path, manifest: Manifest, steps: Records, frames: Records) -> None:
    """Write the records of a run to a file, over what is there."""
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
        cells = cells_of_frames(frames, manifest["dynamics"])
        for replica, n_steps in enumerate(good_steps(steps).tolist()):
            n_good = int((frames["step"] < n_steps).sum())  # all, unless stopped
            good = frames[:n_good]
            own = (
                clock if n_good == len(frames) else _Clock(file, good["step"], timestep)
            )
            group = file.create_group(f"particles/{_replica(replica)}")
            box = _write_constants(group, manifest["dynamics"], replica)
            if cells is not None:
                own.element(box, "edges", cells[replica, :n_good], "Angstrom")
            for name, unit in FRAME_UNITS.items():
                own.element(group, name, good[name][:, replica], unit)


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


def read_h5md(
    path: Path, by_step: np.dtype[np.void], by_frame: np.dtype[np.void]
) -> tuple[Records, Records]:
    """Return the records in a file, as the streams had them.

    Raises:
        ValueError: If the file is damaged or foreign.
    """
    try:
        with h5py.File(path, "r") as file:
            observables, particles = file["observables"], file["particles"]
            steps = _empty(observables["potential_energy/step"], by_step)
            for name in (by_step.names or ())[1:-1]:
                values = observables[f"{observable_of(name).h5_name}/value"]
                _fill(steps[name], values)
            names = {name: f"{name}/value" for name in FRAME_UNITS}
            if "cell" in (by_frame.names or ()):
                names["cell"] = "box/edges/value"
            n_replicas = by_frame["position"].shape[0]
            groups = [particles[_replica(number)] for number in range(n_replicas)]
            longest = max((group["position/step"] for group in groups), key=len)
            frames = _empty(longest, by_frame)
            for name, place in names.items():
                frames[name] = np.nan  # stays where a replica was stopped
                for replica, group in enumerate(groups):
                    values = group[place]
                    _fill(frames[name][: len(values), replica], values)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or was not written by molpool ({error}); restore it "
            "from a copy or run again"
        ) from error
    return steps, frames


class ReplicaFrames(NamedTuple):
    """The good frames of one replica in a file; units as in `trajectory.RunData`."""

    steps: Int[np.ndarray, " frames"]
    times_fs: Float64[np.ndarray, " frames"]
    atomic_numbers: Int[np.ndarray, " atoms"]
    masses: Float64[np.ndarray, " atoms"]
    positions: Float64[np.ndarray, "frames atoms 3"]
    velocities: Float32[np.ndarray, "frames atoms 3"]
    cells: Float64[np.ndarray, "frames 3 3"] | None
    pbc: Bool[np.ndarray, " 3"]
    energies: Float64[np.ndarray, " frames"]
    dipoles: Float64[np.ndarray, "frames 3"] | None


def read_replica(file: BinaryIO, replica: int) -> ReplicaFrames:
    """Return the frames of a replica from a finished or interrupted run's file.

    Raises:
        ValueError: If the file is damaged or foreign, or there is no such replica.
    """
    try:
        with h5py.File(file, "r") as h5:
            n_replicas = len(h5["particles"])
            if not 0 <= replica < n_replicas:
                raise ValueError(
                    f"there is no replica {replica}; give one from 0 to "
                    f"{n_replicas - 1}"
                )
            return _replica_frames(h5, replica)
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"the file is damaged or was not written by molpool ({error}); restore it "
            "from a copy or run again"
        ) from error


def _replica_frames(h5: h5py.File, replica: int) -> ReplicaFrames:
    group, observables = h5[f"particles/{_replica(replica)}"], h5["observables"]
    steps = group["position/step"][...]
    rows = np.searchsorted(observables["potential_energy/step"][...], steps)
    box = group["box"]
    dipole = observables.get("dipole/value")
    return ReplicaFrames(
        steps=steps,
        times_fs=group["position/time"][...],
        atomic_numbers=group["species"][...].astype(np.int64),
        masses=group["mass"][...],
        positions=group["position/value"][...],
        velocities=group["velocity/value"][...],
        cells=box["edges/value"][...] if "edges" in box else None,
        pbc=np.array([word == "periodic" for word in box.attrs["boundary"]]),
        energies=observables["potential_energy/value"][:, replica][rows],
        dipoles=None if dipole is None else dipole[:, replica][rows],
    )


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


def cells_of_frames(
    frames: Records, dynamics: Mapping[str, Any]
) -> Float64[np.ndarray, "replicas frames 3 3"] | None:
    """Return the cell of each frame, also where it does not move."""
    if "cell" in (frames.dtype.names or ()):
        return np.ascontiguousarray(np.moveaxis(frames["cell"], 1, 0))
    if dynamics["cell"] is None:
        return None
    cell = np.array(dynamics["cell"], np.float64)
    return np.repeat(cell[:, None], len(frames), axis=1)
