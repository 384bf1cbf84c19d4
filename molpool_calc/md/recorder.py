"""Writes a run while it goes on: a record for every step, frames, checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.md.cell import cell_observables
from molpool_calc.md.checkpoint import CHECKPOINT, save_checkpoint
from molpool_calc.md.manifest import Manifest
from molpool_calc.md.records import FRAMES, STEPS, RecordWriter
from molpool_calc.md.state import MDState, MDSystem, kinetic_energy
from molpool_calc.md.trajectory import layouts
from molpool_calc.units import FEMTOSECOND


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Where a run is written, and how often.

    ``every`` is the number of steps from one frame (positions and velocities) to the
    next; energies and dipoles are recorded at every step. ``header`` goes into
    ``run.json``: versions, hashes, and under ``inputs`` all that must be the same
    when the run is resumed, such as the hash of the potential and the seed.
    """

    folder: Path
    every: int
    checkpoint_every: int
    header: Mapping[str, Any]
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("every", "checkpoint_every"):
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
        self._columns: list[str] = manifest["dynamics"]["observables"]
        self._steps_layout, frames_layout = layouts(manifest)
        kept = n_records(resumed_at, recording.every) if resumed_at >= 0 else (0, 0)
        folder = recording.folder
        self._steps = RecordWriter(folder / STEPS, self._steps_layout, kept[0])
        self._frames = RecordWriter(folder / FRAMES, frames_layout, kept[1])

    def record(self, state: MDState) -> str | None:
        """Append the state; or return what is not finite in it, appending nothing."""
        response = state.response
        values = {
            "energy": response.energy,
            "kinetic": kinetic_energy(self._system, state.momenta),
            "heat": state.heat,
            **cell_observables(self._system, state),
            "dipole": response.dipole,
            **response.others,
        }
        row = torch.cat([_given(values[name]).flatten() for name in self._columns])
        numbers = row.cpu().numpy()
        if not np.isfinite(numbers).all():
            return self._fault(state, numbers.tobytes())
        self._steps.append(state.step, numbers.tobytes())
        if state.step % self._recording.every == 0:
            self._append_frame(state)
        return None

    def checkpoint(self, state: MDState) -> None:
        """Make the streams up to the state durable, then the state itself."""
        n_steps, n_frames = n_records(state.step, self._recording.every)
        self._steps.sync(n_steps)
        self._frames.sync(n_frames)
        save_checkpoint(self._recording.folder / CHECKPOINT, state)

    def close(self) -> None:
        """Close the streams; what was recorded stays."""
        self._steps.close()
        self._frames.close()

    def _append_frame(self, state: MDState) -> None:
        velocities = state.momenta / self._system.masses[:, None] * FEMTOSECOND
        columns = [state.positions, velocities.float()]
        if state.cell is not None:
            columns.append(state.cell)
        self._frames.append(
            state.step, *(column.cpu().numpy().tobytes() for column in columns)
        )

    def _fault(self, state: MDState, numbers: bytes) -> str:
        padded = state.step.to_bytes(8, "little") + numbers + bytes(4)
        record = np.frombuffer(padded, self._steps_layout)[0]
        finite = {name: np.isfinite(record[name]) for name in self._columns}
        name = next(name for name in self._columns if not finite[name].all())
        rows = finite[name].reshape(len(finite[name]), -1)
        replicas = ", ".join(map(str, np.flatnonzero(~rows.all(axis=1))))
        quantity = {"kinetic": "kinetic energy"}.get(name, name)
        return (
            f"the {quantity} of replica {replicas} is not finite at step {state.step}, "
            f"all is well up to step {state.step - 1}; try a shorter time step, a "
            "lower temperature or a relaxed structure"
        )


def _given(
    values: Float64[Tensor, " *shape"] | None,
) -> Float64[Tensor, " *shape"]:
    if values is None:
        raise TypeError(
            "the force field gave a dipole at first and then none; it must give the "
            "same properties at every step"
        )
    return values
