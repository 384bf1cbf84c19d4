"""The loop over steps: each is checked and written, alone or with some others."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from molpool_calc.md.ahead import steps_ahead
from molpool_calc.md.checks import Row
from molpool_calc.md.failure import ForceFailure
from molpool_calc.md.recorder import Recorder
from molpool_calc.md.state import MDState
from molpool_calc.md.watch import Watch


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How a run goes from step to step.

    Attributes:
        step: makes one.
        ends: whether a step is the last one.
        progress: called after each step with its number.
        together: most steps that are made before they are checked.
    """

    step: Callable[[MDState], MDState]
    ends: Callable[[int], bool]
    progress: Callable[[int], None] | None
    together: int


class Advance:
    """Goes on with a run from a state.

    Args:
        pace: how.
        state: where to begin.
        recorder: writes the steps.
        watch: checks them.

    Attributes:
        state: the last one that is written, in which a replica is good.
    """

    def __init__(
        self, pace: Pace, state: MDState, recorder: Recorder, watch: Watch
    ) -> None:
        self._pace, self.state = pace, state
        self._recorder, self._watch = recorder, watch

    def run(self, *, is_recorded: bool) -> MDState:
        """Return the last state in which a replica is good.

        A KeyboardInterrupt may come at any point: the state is that of the last step
        that was written, and the checkpoint cuts what was written beyond it.

        Args:
            is_recorded: whether the first state is written already.
        """
        recorder, watch = self._recorder, self._watch
        try:
            if not is_recorded:
                row = watch.checks.observe(self.state)
                recorder.record(self.state, watch.recorded(row), watch.stopped)
                recorder.checkpoint(self.state, watch.frames)
            pace = self._pace
            while not (pace.ends(self.state.step) or watch.stopped.all()):
                states = steps_ahead(pace.step, self.state, self._most(), pace.ends)
                self._settle(states)
        except KeyboardInterrupt:
            pass
        except ForceFailure as error:
            step = self.state.step
            watch.failure = f"{error}, so that the run stopped at step {step}"
        except OSError:  # perhaps there is room for this at least
            with suppress(OSError):
                recorder.checkpoint(self.state, watch.frames)
            raise
        recorder.checkpoint(self.state, watch.frames)
        return self.state

    def _most(self) -> int:
        """Return how many steps may be made ahead: none beyond a checkpoint."""
        if self._watch.stops:  # those that were stopped are held at every step
            return 1
        every = self._recorder.checkpoint_every
        return min(self._pace.together, every - self.state.step % every)

    def _settle(self, states: Sequence[MDState]) -> None:
        """Check and write states up to the first one in which a replica is stopped."""
        if not states:
            return
        rows = self._watch.checks.observe_all(states)
        if len(states) > 1 and self._watch.admit_all(states, rows):
            self._recorder.record_all(states, self._watch.recorded_all(rows))
            for state in states:  # not before they are written, which may fail
                self._watch.frames.keep(state)
            self._reach(states)
            return
        for state, row in zip(states, rows, strict=True):
            if not self._settle_one(state, row):
                return

    def _settle_one(self, state: MDState, row: Row) -> bool:
        """Return whether a state was good for all replicas, after writing it."""
        watch = self._watch
        following = watch.admit(self.state, state, row)
        if watch.stopped.all():
            return False
        self._recorder.record(following, watch.recorded(row), watch.stopped)
        self._reach([following])
        return following is state

    def _reach(self, states: Sequence[MDState]) -> None:
        """Take states as written."""
        self.state = states[-1]
        if self.state.step % self._recorder.checkpoint_every == 0:
            self._recorder.checkpoint(self.state, self._watch.frames)
        if self._pace.progress is not None:
            for state in states:
                self._pace.progress(state.step)
