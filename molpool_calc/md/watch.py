"""The watch over a run: it checks every step and stops replicas by themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64

from molpool_calc.md.checks import Checks, Row, Rows
from molpool_calc.md.guard import Quantity, hold
from molpool_calc.md.last_frames import LastFrames
from molpool_calc.md.manifest import read_manifest, write_manifest
from molpool_calc.md.measures import States
from molpool_calc.md.run_files import LAST_FRAMES
from molpool_calc.md.state import MDState, MDSystem
from molpool_calc.md.stops import Stop, advise, explain, summarise


class Watch:
    """Remembers which replicas were stopped, and the last frames of all.

    ``failure`` is why no replica could go on, where that is not a matter of limits.

    Args:
        system: replicas of one system.
        checks: of its states.
        folder: gets the last frames of a replica that is stopped.
    """

    def __init__(self, system: MDSystem, checks: Checks, folder: Path) -> None:
        self._system, self.checks, self._folder = system, checks, folder
        self.frames = LastFrames(system)
        self.stops: tuple[Stop, ...] = ()
        self.failure: str | None = None
        self.stopped: Bool[np.ndarray, " systems"] = np.zeros(checks.n_replicas, bool)
        self._last: Row | None = None

    def begin(self, state: MDState) -> None:
        """Take the energies of the first state as those to be conserved.

        Raises:
            ValueError: The state is beyond a limit.
        """
        row = self.checks.observe(state)
        self.checks.first = self.checks.conserved(row)
        for replica, quantity in self._found(row, state.step).items():
            reason, _, _ = explain(quantity, self.checks, row, state, replica)
            raise ValueError(
                f"{reason}, so the run cannot start there; take a relaxed structure of "
                "elements that the potential knows, or another limit of the guard"
            )
        self.frames.keep(state)

    def go_on(
        self, state: MDState, first: np.void, stops: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take up a run that is resumed.

        Args:
            state: Of the checkpoint; a later stop will happen again.
            first: The record of step 0.
            stops: Those of ``run.json``.
        """
        checks = self.checks
        checks.first = first["energy"] + first["kinetic"] - first["heat"]
        for stop in stops:
            if stop["step"] <= state.step:
                self._add(Stop(**stop))
        self._last = checks.observe(state)

    def admit(self, last: MDState, following: MDState, row: Row) -> MDState:
        """Return the following state, with replicas beyond a limit held at the last.

        Args:
            last: The last good state.
            following: The state one step later.
            row: What was observed of it.
        """
        found = self._found(row, following.step)
        for replica, quantity in found.items():
            self._stop(replica, quantity, following, row)
        if found:
            self._tell()
        self._last = row
        if self.stops:
            mask = torch.from_numpy(self.stopped).to(following.heat.device)
            following = hold(last, following, mask, self._system)
        if not self.stopped.all():  # else the run ends before this one is written
            self.frames.keep(following)
        return following

    def admit_all(self, states: States, rows: Rows) -> bool:
        """Take several consecutive states, unless there is anything wrong with one.

        Args:
            states: Of the next steps.
            rows: What was observed of them.
        """
        if self.stops or not self.checks.are_sound(rows, states[0].step):
            return False
        self._last = rows[-1]
        return True

    def recorded_all(self, rows: Rows) -> Float64[np.ndarray, "states recorded"]:
        """Return the numbers to record of states in which all replicas are good."""
        recorded: Float64[np.ndarray, "states recorded"] = rows[
            :, : len(self.checks.replica_of)
        ]
        return recorded

    def recorded(self, row: Row) -> Float64[np.ndarray, " recorded"]:
        """Return the numbers to record: NaN for replicas that are stopped."""
        replica_of = self.checks.replica_of
        numbers = row[: len(replica_of)]
        if self.stops:
            numbers = np.where(self.stopped[replica_of], np.nan, numbers)
        return numbers

    @property
    def has_ended(self) -> bool:
        """Whether no replica can go on."""
        return self.failure is not None or bool(self.stopped.all())

    @property
    def reason(self) -> str | None:
        """One sentence about why it stopped, or which replicas were, if any."""
        return self.failure or summarise(self.stops, self.checks.n_replicas)

    def _found(self, row: Row, step: int) -> dict[int, Quantity]:
        return self.checks.faults(row, step, ~self.stopped)

    def _tell(self) -> None:
        """State the stops in ``run.json``, before anything is recorded of them."""
        manifest = read_manifest(self._folder)
        stopped = [stop.describe() for stop in self.stops]
        write_manifest(self._folder, {**manifest, "stopped": stopped})

    def _stop(self, replica: int, quantity: Quantity, bad: MDState, row: Row) -> None:
        name = LAST_FRAMES.format(replica=f"{replica:03d}")
        timestep_fs = self.checks.timestep_fs
        self.frames.write(self._folder / name, replica, bad, timestep_fs)
        reason, value, limit = explain(quantity, self.checks, row, bad, replica)
        stop = Stop(
            replica=replica,
            step=bad.step,
            quantity=quantity,
            value=value,
            limit=limit,
            reason=reason,
            advice=advise(
                quantity,
                timestep_fs=timestep_fs,
                drifted=self._drifted(replica),
                is_cold=value is not None and limit is not None and value < limit,
                file=name,
                has_failed=bad.response.failure_of(replica) is not None,
            ),
            file=name,
        )
        self._add(stop)

    def _drifted(self, replica: int) -> float:
        """Return the change of the conserved energy until the last good step."""
        if self._last is None:
            return 0.0
        return float(self.checks.change(self._last)[replica])

    def _add(self, stop: Stop) -> None:
        self.stops = (*self.stops, stop)
        self.stopped[stop.replica] = True
