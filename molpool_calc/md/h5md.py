"""``trajectory.h5``: the records of a run in the layout of H5MD 1.1.

De Buyl, Colberg & Höfling, Comput. Phys. Commun. 185, 1546 (2014). Every replica has
a group of its own under ``/particles`` with its good frames only. H5MD lets each
element be fixed or depend on time; ZnH5MD reads nothing that is fixed, MDAnalysis no
fixed edges, so all of them depend on time here, and what does not change is compressed
to next to nothing. A box without a periodic direction may lack edges in H5MD, but not
in ZnH5MD: those of a molecule are zero, which ASE and MDAnalysis take for no cell.

``/observables/NAME`` holds values of all replicas at every step, ``[steps, replicas,
…]``, NaN for a replica after it was stopped; ``/observables/REPLICA/NAME`` repeats
energy and dipole of one replica at the frames, where readers pair them with positions.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float64, Int, Shaped

from molpool_calc._version import __version__
from molpool_calc.md.manifest import Manifest
from molpool_calc.md.records import Records, good_steps, observable_of

FRAME_UNITS = {"position": "Angstrom", "velocity": "Angstrom fs-1"}
_OF_FRAMES = ("energy", "dipole")
"""Observables that are repeated at the frames of each replica."""

_CHUNK_BYTES = 2**18
"""Before compression; far below the cache of HDF5, 1 MiB a dataset."""

WRONG = (AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What reading a damaged or foreign file raises."""


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
        for replica, n_steps in enumerate(good_steps(steps).tolist()):
            n_good = int((frames["step"] < n_steps).sum())  # all, unless stopped
            good = frames[:n_good]
            own = (
                clock if n_good == len(frames) else _Clock(file, good["step"], timestep)
            )
            group = file.create_group(f"particles/{replica_name(replica)}")
            _write_constants(group, own, manifest["dynamics"])
            _write_box(group, own, manifest["dynamics"], good, replica)
            for name, unit in FRAME_UNITS.items():
                own.element(group, name, good[name][:, replica], unit)
            _write_observables(file, clock, steps, frames, replica)


class _Clock:
    """Writes time-dependent elements that share one dataset of steps and times."""

    def __init__(
        self, file: h5py.File, steps: Int[np.ndarray, " n"], timestep_fs: float
    ) -> None:
        self._n_steps = len(steps)
        self._step = _create(file, None, steps)
        self._time = _create(file, None, steps * timestep_fs)
        self._time.attrs["unit"] = "fs"

    def element(
        self,
        parent: h5py.Group,
        name: str,
        values: Shaped[np.ndarray, "..."],
        unit: str,
    ) -> None:
        element = self._element(parent, name)
        _create(element, "value", values).attrs["unit"] = unit

    def constant(
        self,
        parent: h5py.Group,
        name: str,
        value: Shaped[np.ndarray, "..."],
        unit: str | None = None,
    ) -> None:
        """Write an element that is the same at every step."""
        element = self._element(parent, name)
        values = np.broadcast_to(value, (self._n_steps, *value.shape))
        dataset = _create(element, "value", values, compress=True)
        if unit is not None:
            dataset.attrs["unit"] = unit

    def _element(self, parent: h5py.Group, name: str) -> h5py.Group:
        element = parent.create_group(name)
        element["step"], element["time"] = self._step, self._time
        return element


def _create(
    group: h5py.Group,
    name: str | None,
    values: Shaped[np.ndarray, "..."],
    *,
    compress: bool = False,
) -> h5py.Dataset:
    """Return a new dataset in checksummed chunks: a flipped bit is noticed on reading.

    Chunks are as even as may be, since the last one takes as much room as the others.
    """
    row = values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    n_chunks = -(-len(values) * row // _CHUNK_BYTES)
    return group.create_dataset(
        name,
        data=values,
        chunks=(max(1, -(-len(values) // max(1, n_chunks))), *values.shape[1:]),
        maxshape=(None, *values.shape[1:]),  # for none at all
        compression="gzip" if compress else None,
        shuffle=compress,
        fletcher32=True,
    )


def _write_constants(
    group: h5py.Group, clock: _Clock, dynamics: Mapping[str, Any]
) -> None:
    """Write species and masses."""
    clock.constant(group, "species", np.array(dynamics["atomic_numbers"], np.int32))
    clock.constant(group, "mass", np.array(dynamics["masses"], np.float64), "u")


def _write_box(
    group: h5py.Group,
    clock: _Clock,
    dynamics: Mapping[str, Any],
    frames: Records,
    replica: int,
) -> None:
    """Write which directions are periodic, and the edges at the frames."""
    periodic = [False] * 3 if dynamics["pbc"] is None else dynamics["pbc"][replica]
    box = group.create_group("box")
    box.attrs["dimension"] = 3
    box.attrs["boundary"] = ["periodic" if along else "none" for along in periodic]
    if "cell" in (frames.dtype.names or ()):
        clock.element(box, "edges", frames["cell"][:, replica], "Angstrom")
        return
    fixed = np.zeros((3, 3))
    if dynamics["cell"] is not None:
        fixed = np.array(dynamics["cell"][replica], np.float64)
    clock.constant(box, "edges", fixed, "Angstrom")


def _write_observables(
    file: h5py.File, clock: _Clock, steps: Records, frames: Records, replica: int
) -> None:
    """Write what readers pair with positions: at all frames, NaN after a stop."""
    rows = np.searchsorted(steps["step"], frames["step"])
    group = file.create_group(f"observables/{replica_name(replica)}")
    for name in _OF_FRAMES:
        if name in (steps.dtype.names or ()):
            _, h5_name, unit = observable_of(name)
            clock.element(group, h5_name, steps[name][rows, replica], unit)


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
            steps = _empty(_dataset(observables, "potential_energy/step"), by_step)
            for name in (by_step.names or ())[1:-1]:
                place = f"{observable_of(name).h5_name}/value"
                _fill(steps[name], _dataset(observables, place))
            names = {name: f"{name}/value" for name in FRAME_UNITS}
            if "cell" in (by_frame.names or ()):
                names["cell"] = "box/edges/value"
            n_replicas = by_frame["position"].shape[0]
            groups = [particles[replica_name(number)] for number in range(n_replicas)]
            own = [_dataset(group, "position/step") for group in groups]
            longest = max(own, key=len)
            frames = _empty(longest, by_frame)
            for name, place in names.items():
                frames[name] = np.nan  # stays where a replica was stopped
                for replica, group in enumerate(groups):
                    values = _dataset(group, place)
                    _fill(frames[name][: len(values), replica], values)
    except WRONG as error:
        raise ValueError(
            f"{path} is damaged or was not written by molpool ({error}); restore it "
            "from a copy or run again"
        ) from error
    return steps, frames


def _dataset(group: h5py.HLObject, place: str) -> h5py.Dataset:
    found = group[place]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{place} is no dataset")
    return found


def _empty(steps: h5py.Dataset, layout: np.dtype[np.void]) -> Records:
    records = np.zeros(len(steps), layout)
    records["step"] = steps[...]
    return records


def _fill(column: Shaped[np.ndarray, "..."], values: h5py.Dataset) -> None:
    if values.shape != column.shape:
        raise ValueError(f"{values.name} has the shape {values.shape}")
    column[...] = values[...]


def replica_name(number: int) -> str:
    """Return the name of the groups of a replica."""
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
