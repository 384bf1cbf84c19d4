"""Trajectories of any program in files that ASE reads, checked and as arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from jaxtyping import Float

from molpool_calc.molecules import READ_FAILURES
from molpool_calc.units import FEMTOSECOND

# A motion that looks this much faster or slower than its velocities was sampled at
# another interval; sampling as coarse as spectra allow changes the ratio by 1.4.
_WRONG_SPACING = 1.6
_STATED = 1.01
"""The same for the times that a file states in fs."""
_UNEQUAL = 1e-3
"""Largest relative difference of time intervals that rounding in a file explains."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TrajectoryFile:
    """All frames of one file.

    Units are ASE's, but velocities are in Å/fs. ``first`` is the first frame without
    its calculator; its charge, spin and periodicity are those of all frames.
    """

    path: Path
    first: Atoms
    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"] | None
    cells: Float[np.ndarray, "frames 3 3"]
    dipoles: Float[np.ndarray, "frames 3"] | None
    polarizabilities: Float[np.ndarray, "frames 3 3"] | None

    @property
    def periodic(self) -> bool:
        """Whether there is a periodic direction."""
        return bool(self.first.pbc.any())

    def frame(self, number: int) -> Atoms:
        """Return a frame as a structure."""
        atoms: Atoms = self.first.copy()  # type: ignore[no-untyped-call]
        atoms.positions = self.positions[number]
        atoms.cell[:] = self.cells[number]
        return atoms


def read_trajectory(path: Path, timestep_fs: float) -> TrajectoryFile:
    """Return the frames of a file.

    Args:
        path: of a format that ASE reads.
        timestep_fs: interval between frames, held against the times and velocities
            that the file has.

    Raises:
        ValueError: the file cannot be read, its atoms change, or its frames are not
            that far apart.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give one that exists")
    columns = _Columns(path)
    for atoms in frames_of_file(path):
        columns.add(atoms)
    found = columns.result()
    interval = _require_equal_steps(path, columns.times)
    if columns.in_fs and interval is not None:
        _require_interval(path, interval, timestep_fs, _STATED)
    _require_motion(found, timestep_fs)
    return found


def frames_of_file(path: Path) -> Iterator[Atoms]:
    """Yield the frames of a file.

    Raises:
        ValueError: a frame cannot be read, or there is none.
    """
    frames = ase.io.iread(path, index=":")
    n_frames = 0
    while True:
        try:
            atoms = next(frames)
        except StopIteration:
            break
        except READ_FAILURES as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"frame {n_frames} of {path} cannot be read ({reason}); give a file of "
                "a format that ASE reads, such as .extxyz or .traj"
            ) from error
        n_frames += 1
        yield atoms
    if n_frames == 0:
        raise ValueError(f"{path} holds no frames; give a file with at least one")


def unwrapped(
    trajectory: TrajectoryFile,
) -> Float[np.ndarray, "frames atoms 3"]:
    """Return positions that change by less than half a cell between frames."""
    if not trajectory.periodic:
        return trajectory.positions
    steps = np.diff(trajectory.positions, axis=0)
    steps = steps - _turns(trajectory, steps) @ trajectory.cells[1:]
    moved = np.concatenate([trajectory.positions[:1], steps])
    return np.asarray(moved.cumsum(axis=0))


def is_wrapped(trajectory: TrajectoryFile) -> bool:
    """Return whether atoms jump by lattice vectors from one frame to the next."""
    steps = np.diff(trajectory.positions, axis=0)
    return trajectory.periodic and bool(_turns(trajectory, steps).any())


def _turns(
    trajectory: TrajectoryFile, steps: Float[np.ndarray, "steps atoms 3"]
) -> Float[np.ndarray, "steps atoms 3"]:
    along = steps @ np.linalg.pinv(trajectory.cells[1:])
    return np.asarray(np.round(along) * trajectory.first.pbc)


class _Columns:
    """Collects what the frames have, and refuses one that does not belong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first: Atoms | None = None
        self.columns: dict[str, list[Any]] = {
            name: []
            for name in ("positions", "velocities", "cells", "dipoles", "tensors")
        }
        self.times: list[float | None] = []
        self.in_fs = False

    def add(self, atoms: Atoms) -> None:
        number = len(self.times)
        if self.first is None:
            self.first = atoms.copy()  # type: ignore[no-untyped-call]
        elif not np.array_equal(atoms.numbers, self.first.numbers):
            raise ValueError(
                f"frame {number} of {self.path} has other atoms than the first "
                f"({atoms.symbols} instead of {self.first.symbols}); give a trajectory "
                "of the same atoms in the same order"
            )
        elif not np.array_equal(atoms.pbc, self.first.pbc):
            raise ValueError(
                f"frame {number} of {self.path} is periodic in other directions than "
                "the first; give a trajectory of one system"
            )
        if not np.isfinite(atoms.positions).all():
            raise ValueError(
                f"frame {number} of {self.path} has positions that are not finite; cut "
                "the trajectory before it"
            )
        velocities = None
        if "momenta" in atoms.arrays:
            speeds: np.ndarray = atoms.get_velocities()  # type: ignore[no-untyped-call]
            velocities = speeds * FEMTOSECOND
        found = {
            "positions": atoms.positions.copy(),
            "velocities": velocities,
            "cells": atoms.cell.array.copy(),
            "dipoles": _of_frame(atoms, "dipole", (3,)),
            "tensors": _of_frame(atoms, "polarizability", (3, 3)),
        }
        for name, value in found.items():
            self.columns[name].append(value)
        self.in_fs = "time_fs" in atoms.info
        time = atoms.info.get("time_fs", atoms.info.get("time"))
        self.times.append(float(time) if isinstance(time, int | float) else None)

    def result(self) -> TrajectoryFile:
        assert self.first is not None  # frames_of_file yields at least one
        return TrajectoryFile(
            path=self.path,
            first=self.first,
            positions=np.stack(self.columns["positions"]),
            velocities=self._optional("velocities"),
            cells=np.stack(self.columns["cells"]),
            dipoles=self._optional("dipoles"),
            polarizabilities=self._optional("tensors"),
        )

    def _optional(self, name: str) -> Any:
        """Return a column that every frame has."""
        column = self.columns[name]
        complete = all(value is not None for value in column)
        return np.stack(column) if complete else None


def _of_frame(
    atoms: Atoms, name: str, shape: tuple[int, ...]
) -> Float[np.ndarray, "..."] | None:
    results = {} if atoms.calc is None else atoms.calc.results
    value = results.get(name, atoms.info.get(name))
    if value is None:
        return None
    array = np.asarray(value, dtype=np.float64)
    if array.size != np.prod(shape, dtype=int):
        raise ValueError(
            f"a frame has a {name} of the shape {array.shape}, but it must be {shape}; "
            "correct the file"
        )
    return array.reshape(shape)


def _require_equal_steps(path: Path, times: list[float | None]) -> float | None:
    """Return the interval that a file states, if it does, equal throughout."""
    known = [time for time in times if time is not None]
    if len(known) < len(times) or len(known) < 2:  # noqa: PLR2004 (an interval)
        return None
    steps = np.diff(np.array(known))
    middle = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - middle) > _UNEQUAL * abs(middle) + 1e-9)
    if odd.size:
        frame = int(odd[0]) + 1
        raise ValueError(
            f"frames of {path} are not equally spaced: frame {frame} comes "
            f"{steps[odd[0]]:g} after the one before, others {middle:g}; give a "
            "trajectory with one interval, without repeated frames"
        )
    return middle


def _require_motion(found: TrajectoryFile, timestep_fs: float) -> None:
    """Refuse an interval at which positions do not move as the velocities say."""
    if not timestep_fs > 0.0:
        raise ValueError(
            f"frames {timestep_fs:g} fs apart were stated; give a positive number of fs"
        )
    steps = np.diff(unwrapped(found), axis=0)
    still = np.flatnonzero(~steps.any(axis=(1, 2)))
    if still.size:
        raise ValueError(
            f"frame {int(still[0]) + 1} of {found.path} repeats the one before, so the "
            "frames are not equally spaced in time; remove repeated frames"
        )
    if found.velocities is None or not len(steps):
        return
    interval = _interval_of_motion(steps, found.velocities)
    _require_interval(found.path, interval, timestep_fs, _WRONG_SPACING)


def _interval_of_motion(
    steps: Float[np.ndarray, "steps atoms 3"],
    velocities: Float[np.ndarray, "frames atoms 3"],
) -> float:
    """Return the time in which velocities make the steps between frames.

    Of frames ``τ`` apart, an oscillation ``ω`` makes it ``τ·tan(x)/x`` with
    ``x = ωτ/2`` where the mean velocity at both ends of a step is taken, and
    ``τ·sin(2x)/2x`` where two steps are compared with the velocity between them. The
    geometric mean of both is ``τ·sin(x)/x``, 0.83 of it for an O-H bond and 3 fs.
    """
    mean = (velocities[1:] + velocities[:-1]) / 2.0
    interval = _ratio(steps, mean)
    if len(steps) > 1:
        between = _ratio((steps[1:] + steps[:-1]) / 2.0, velocities[1:-1])
        interval = np.sqrt(max(interval, 0.0) * max(between, 0.0))
    return float(interval)


def _ratio(
    steps: Float[np.ndarray, "steps atoms 3"],
    velocities: Float[np.ndarray, "steps atoms 3"],
) -> float:
    return float((steps * velocities).sum() / max((velocities**2).sum(), 1e-300))


def _require_interval(
    path: Path, interval: float, timestep_fs: float, most: float
) -> None:
    ratio = interval / timestep_fs
    if not 1.0 / most < ratio < most:
        raise ValueError(
            f"frames {timestep_fs:g} fs apart were stated, but the atoms of "
            f"{path} move as if it were {interval:.3g} fs; give the interval "
            "between two frames of the file as --timestep-fs"
        )
