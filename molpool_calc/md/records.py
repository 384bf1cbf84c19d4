"""Append-only streams of checked records: what a killed run leaves behind.

Two streams grow in the folder of a run, ``steps.bin`` with a record for every step
and ``frames.bin`` with one for every frame. All records of a stream have the same
size and end in the CRC-32 of what stands before it, so a torn or damaged tail is
recognised and cut, and record n begins at n times the size. Numbers are
little-endian. Positions are float64, since energies must be recomputable from them;
velocities are float32 in Å/fs, since spectra need no more than 7 digits and restarts
use the checkpoint.
"""

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

STEPS = "steps.bin"
FRAMES = "frames.bin"

Records = Shaped[np.ndarray, "_"]


class Observable(NamedTuple):
    """A quantity of each replica at every step: shape, name in HDF5, unit."""

    shape: tuple[int, ...]
    h5_name: str
    unit: str


OBSERVABLES = {
    "energy": Observable((), "potential_energy", "eV"),
    "kinetic": Observable((), "kinetic_energy", "eV"),
    "heat": Observable((), "heat", "eV"),
    "volume": Observable((), "volume", "Angstrom+3"),
    "pressure": Observable((), "pressure", "eV Angstrom-3"),
    "force_spread": Observable((), "force_spread", "eV Angstrom-1"),
    "dipole": Observable((3,), "dipole", "e Angstrom"),
    "dipole_flux": Observable((3,), "dipole_flux", "e Angstrom fs-1"),
    "polarizability": Observable((3, 3), "polarizability", "e+2 Angstrom+2 eV-1"),
}
"""The columns that step records may have besides scalar properties.

Units are spelled as H5MD has it: each symbol with its power.
"""


def observable_of(name: str) -> Observable:
    """Return what a column holds; a name of no other kind is a scalar property."""
    return OBSERVABLES.get(name, Observable((), name, "not stated"))


def step_layout(n_replicas: int, observables: list[str]) -> np.dtype[np.void]:
    """Return the layout of a step record with the named observables, in that order."""
    columns = [
        (name, "<f8", (n_replicas, *observable_of(name).shape)) for name in observables
    ]
    return np.dtype([("step", "<i8"), *columns, ("crc32", "<u4")])


def frame_layout(
    n_replicas: int, n_atoms: int, *, cell_moves: bool = False
) -> np.dtype[np.void]:
    """Return the layout of a frame record; ``n_atoms`` counts one replica."""
    shape = (n_replicas, n_atoms, 3)
    columns = [("position", "<f8", shape), ("velocity", "<f4", shape)]
    if cell_moves:
        columns.append(("cell", "<f8", (n_replicas, 3, 3)))
    return np.dtype([("step", "<i8"), *columns, ("crc32", "<u4")])


def good_steps(records: Records) -> Int[np.ndarray, " replicas"]:
    """Return how many records of steps are good for each replica.

    A replica that the guard stopped has NaN from the first bad step on.
    """
    good: Int[np.ndarray, " replicas"] = np.isfinite(records["energy"]).sum(axis=0)
    return good


class RecordWriter:
    """Appends records to a stream, and hands them to the system at once.

    Nothing is buffered: what could not be written whole, as on a full disk, leaves a
    torn tail, and no later call tries to write the rest.
    """

    def __init__(self, path: Path, layout: np.dtype[np.void], n_kept: int) -> None:
        """Open the stream, keeping its first ``n_kept`` records."""
        self._size = layout.itemsize
        self._file = path.open("ab", buffering=0)
        self._file.truncate(n_kept * self._size)

    def append(self, step: int, *values: bytes) -> None:
        """Append a record made of the step and the bytes of the columns."""
        self.append_all([(step, b"".join(values))])

    def append_all(self, records: Iterable[tuple[int, bytes]]) -> None:
        """Append records, each made of the step and the bytes of all columns."""
        left = memoryview(b"".join(_encoded(*record) for record in records))
        while left:
            left = left[self._file.write(left) :]

    def sync(self, n_kept: int) -> None:
        """Cut to the first ``n_kept`` records and wait until they are on the disk."""
        self._file.truncate(n_kept * self._size)
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what was appended stays."""
        self._file.close()


def _encoded(step: int, values: bytes) -> bytes:
    payload = step.to_bytes(8, "little", signed=True) + values
    return payload + zlib.crc32(payload).to_bytes(4, "little")


def read_records(path: Path, layout: np.dtype[np.void]) -> Records:
    """Return the good records of a stream, up to the first torn or damaged one."""
    size = layout.itemsize
    n_records = path.stat().st_size // size
    records = np.fromfile(path, layout, n_records)
    payloads = records.view(np.uint8).reshape(n_records, size)[:, :-4]
    checks = zip(payloads, records["crc32"].tolist(), strict=True)
    n_good = 0
    for payload, expected in checks:
        if zlib.crc32(payload) != expected:
            break
        n_good += 1
    return records[:n_good]


def write_records(path: Path, records: Records) -> None:
    """Write a stream anew: the same bytes as appending its records one by one."""
    chunks = []
    for record in records:
        payload = record.tobytes()[:-4]
        chunks.append(payload + zlib.crc32(payload).to_bytes(4, "little"))
    write_atomically(path, b"".join(chunks))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is afterwards either complete, on the disk, or as before."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
        replace_durably(temporary, path)
    except OSError:  # no half a file on a full disk
        temporary.unlink(missing_ok=True)
        raise


def replace_durably(temporary: Path, path: Path) -> None:
    """Move a complete temporary file to its place and wait for the disk."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
