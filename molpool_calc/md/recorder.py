"""Writes a run while it goes on: a record for every step, frames, checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from molpool_calc.md.checkpoint import CHECKPOINT, save_checkpoint
from molpool_calc.md.checks import Row
from molpool_calc.md.last_frames import LastFrames
from molpool_calc.md.manifest import Manifest
from molpool_calc.md.records import FRAMES, STEPS, RecordWriter
from molpool_calc.md.state import MDState, MDSystem
from molpool_calc.md.trajectory import layouts
from molpool_calc.units import FEMTOSECOND


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Where a run is written, and how often.

    ``every`` is the number of steps from one frame (positions and velocities) to the
    next; energies and dipoles are recorded at every step. ``header`` goes into
    ``run.json``: versions, hashes, and under ``inputs`` all that must be the same
    when the run is resumed, such as the hash of the potential and the seed. With
    ``force``, a run that is there is removed as soon as the new one can begin.

    ``together`` steps are made, in a tenth of a second at most, before they are checked
    and written; more than one only for molecules on the host whose force field answers
    for whatever positions a step may lead to.
    """

    folder: Path
    every: int
    checkpoint_every: int
    header: Mapping[str, Any]
    resume: bool = False
    force: bool = False
    together: int = 1

    def __post_init__(self) -> None:
        for name in ("every", "checkpoint_every", "together"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but it counts steps and must "
                    "be at least 1; give a positive integer"
                )


def n_records(step: int, every: int) -> tuple[int, int]:
    """Return how many step and frame records a run has written up to a step."""
    return step + 1, step // every + 1


class Recorder:
    """Appends states to the streams of a run; holds no part of the state itself."""

    def __init__(
        self,
        system: MDSystem,
        recording: Recording,
        manifest: Manifest,
        resumed_at: int,
    ) -> None:
        """Open the streams, cut to those of step ``resumed_at``, or empty if -1."""
        self._system = system
        self._recording = recording
        self.checkpoint_every = recording.checkpoint_every
        self.recorded = self.checkpointed = max(resumed_at, 0)
        steps_layout, frames_layout = layouts(manifest)
        kept = n_records(resumed_at, recording.every) if resumed_at >= 0 else (0, 0)
        folder = recording.folder
        self._steps = RecordWriter(folder / STEPS, steps_layout, kept[0])
        self._frames = RecordWriter(folder / FRAMES, frames_layout, kept[1])

    def record(
        self, state: MDState, numbers: Row, stopped: Bool[np.ndarray, " replicas"]
    ) -> None:
        """Append a state.

        Args:
            state: Gives the frame.
            numbers: What is recorded of it at every step, column after column.
            stopped: Replicas of which frames hold NaN.
        """
        self._steps.append(state.step, numbers.tobytes())
        if state.step % self._recording.every == 0:
            self._append_frame(state, stopped)
        self.recorded = state.step

    def record_all(
        self,
        states: Sequence[MDState],
        numbers: Float64[np.ndarray, "states recorded"],
    ) -> None:
        """Append consecutive states in which all replicas are good; see `record`."""
        self._steps.append_all(
            [(s.step, row.tobytes()) for s, row in zip(states, numbers, strict=True)]
        )
        everybody = np.zeros(self._system.systems.n_segments, bool)
        for state in states:
            if state.step % self._recording.every == 0:
                self._append_frame(state, everybody)
        self.recorded = states[-1].step

    def checkpoint(self, state: MDState, frames: LastFrames) -> None:
        """Make the streams up to the state durable, then state and last frames."""
        n_steps, n_frames = n_records(state.step, self._recording.every)
        self._steps.sync(n_steps)
        self._frames.sync(n_frames)
        path = self._recording.folder / CHECKPOINT
        save_checkpoint(path, state, frames.arrays(state.step))
        self.checkpointed = state.step

    def close(self) -> None:
        """Close the streams; what was recorded stays."""
        self._steps.close()
        self._frames.close()

    def _append_frame(
        self, state: MDState, stopped: Bool[np.ndarray, " replicas"]
    ) -> None:
        velocities = state.momenta / self._system.masses[:, None] * FEMTOSECOND
        frame = {"position": state.positions, "velocity": velocities.float()}
        if state.cell is not None:
            frame["cell"] = state.cell
        columns = {name: values.cpu().numpy() for name, values in frame.items()}
        if stopped.any():
            for name, column in columns.items():
                rows = np.repeat(stopped, len(column) // len(stopped))
                hole = column.dtype.type(np.nan)
                columns[name] = np.where(
                    rows.reshape(-1, *[1] * (column.ndim - 1)), hole, column
                )
        self._frames.append(
            state.step, *(column.tobytes() for column in columns.values())
        )
