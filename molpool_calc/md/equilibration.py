"""The guard of dynamics before a run, of which nothing is written."""

from dataclasses import replace

import numpy as np

from molpool_calc.md.checks import Checks, Row, observables_of
from molpool_calc.md.failure import EquilibrationFailure
from molpool_calc.md.guard import Limits, Quantity
from molpool_calc.md.measures import States
from molpool_calc.md.state import MDState, MDSystem
from molpool_calc.md.stops import advise, explain


class EquilibrationGuard:
    """Ends an equilibration as soon as a replica leaves its limits.

    A replica that cannot be equilibrated has no place in the run, and without it the
    ensemble of starts would favour those that can: so all of them end. The window of
    temperatures is left out, since the heat of a strained start is what equilibration
    takes away; it shows in nothing else, as the conserved energy leaves it out.

    Args:
        system: replicas of one system.
        state: where they start.
        limits: those of the run.
        timestep_fs: of the integration.

    Raises:
        ValueError: the start is beyond a limit.
    """

    def __init__(
        self, system: MDSystem, state: MDState, limits: Limits, timestep_fs: float
    ) -> None:
        self._checks = checks = Checks(
            system,
            replace(limits, temperatures=None),
            observables_of(system, state),
            timestep_fs=timestep_fs,
            has_spread=state.response.spread is not None,
        )
        row = checks.observe(state)
        checks.first = checks.conserved(row)
        self._everybody = np.ones(checks.n_replicas, bool)
        self._last = row
        for replica, quantity in self._faults(row, state).items():
            reason, _, _ = explain(quantity, checks, row, state, replica)
            raise ValueError(
                f"{reason}, so the equilibration cannot start there; take a relaxed "
                "structure of elements that the potential knows, or another limit of "
                "the guard"
            )

    def require(self, states: States) -> None:
        """Check the states after some steps.

        Raises:
            EquilibrationFailure: a replica is beyond a limit, or not finite.
        """
        rows = self._checks.observe_all(states)
        if not self._checks.are_sound(rows, states[0].step):
            for state, row in zip(states, rows, strict=True):
                self._require(state, row)
                self._last = row
        self._last = rows[-1]

    def _require(self, state: MDState, row: Row) -> None:
        checks, found = self._checks, self._faults(row, state)
        for replica, quantity in found.items():
            reason, _, _ = explain(quantity, checks, row, state, replica)
            advice = advise(
                quantity,
                timestep_fs=checks.timestep_fs,
                drifted=float(checks.change(self._last)[replica]),
                is_cold=False,
                file=None,
                has_failed=state.response.failure_of(replica) is not None,
            )
            more = f" (and {len(found) - 1} others)" * (len(found) > 1)
            raise EquilibrationFailure(
                f"stopped in equilibration{more}, before anything was written: "
                f"{reason}; {advice}"
            )

    def _faults(self, row: Row, state: MDState) -> dict[int, Quantity]:
        return self._checks.faults(row, state.step, self._everybody)
