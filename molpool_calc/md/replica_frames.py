"""One replica's frames in ``trajectory.h5``, as the plugin of ASE reads them."""

from typing import BinaryIO, NamedTuple

import h5py
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Shaped

from molpool_calc.md.h5md import WRONG, replica_name


class ReplicaFrames(NamedTuple):
    """The good frames of one replica in a file; units as in `trajectory.RunData`.

    The cells of a molecule are zero.
    """

    steps: Int[np.ndarray, " frames"]
    times_fs: Float64[np.ndarray, " frames"]
    atomic_numbers: Int[np.ndarray, " atoms"]
    masses: Float64[np.ndarray, " atoms"]
    positions: Float64[np.ndarray, "frames atoms 3"]
    velocities: Float32[np.ndarray, "frames atoms 3"]
    cells: Float64[np.ndarray, "frames 3 3"]
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
            if 0 <= replica < n_replicas:
                return _replica_frames(h5, replica)
    except WRONG as error:
        raise ValueError(
            f"the file is damaged or was not written by molpool ({error}); restore it "
            "from a copy or run again"
        ) from error
    raise ValueError(
        f"there is no replica {replica}; give one from 0 to {n_replicas - 1}"
    )


def _replica_frames(h5: h5py.File, replica: int) -> ReplicaFrames:
    group, observables = h5[f"particles/{replica_name(replica)}"], h5["observables"]
    steps = group["position/step"][...]
    rows = np.searchsorted(observables["potential_energy/step"][...], steps)
    box = group["box"]
    edges = box.get("edges/value")  # lacking in molecules of the older layout
    dipole = observables.get("dipole/value")
    numbers = _constant(group["species"]).astype(np.int64)
    frames = ReplicaFrames(
        steps=steps,
        times_fs=group["position/time"][...],
        atomic_numbers=numbers,
        masses=_constant(group["mass"]),
        positions=group["position/value"][...],
        velocities=group["velocity/value"][...],
        cells=np.zeros((len(steps), 3, 3)) if edges is None else edges[...],
        pbc=np.array([word == "periodic" for word in box.attrs["boundary"]]),
        energies=observables["potential_energy/value"][:, replica][rows],
        dipoles=None if dipole is None else dipole[:, replica][rows],
    )
    expected = (len(steps), len(numbers), 3)
    if not expected == frames.positions.shape == frames.velocities.shape:
        raise ValueError(f"the positions have the shape {frames.positions.shape}")
    return frames


def _constant(element: h5py.Group | h5py.Dataset) -> Shaped[np.ndarray, "..."]:
    """Return what does not change; files of the older layout have it fixed."""
    value: Shaped[np.ndarray, ...] = (
        element[...] if isinstance(element, h5py.Dataset) else element["value"][0]
    )
    return value
