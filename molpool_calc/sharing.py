"""Calculators of several threads that share one forward pass.

ASE gives every image of a ``NEB(parallel=True)`` a thread and wants it to have a
calculator of its own. Those made by `share_calculator` are independent for ASE, but
what their threads ask at the same time is evaluated together.
"""

import threading
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from molpool_calc.atoms import ChargeAndSpin
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.evaluator import Evaluator

PATIENCE = 0.005
"""Seconds, as long as Python lets one thread run, that a pass waits for the others."""

Results = tuple[dict[str, Any], dict[str, Any]]
Wrong = (CalculationFailed, ValueError, RuntimeError)


def share_calculator(
    calculator: MolPoolCalculator, n: int
) -> Sequence[MolPoolCalculator]:
    """Return ``n`` calculators whose threads are answered in one pass.

    Each has its own results. A structure that cannot be computed raises in its own
    thread only. A thread that stops or never asks does not hold up the others, and
    used one after another they are as fast as the original.

    Args:
        calculator: whose potential and engine are shared; while threads ask the new
            ones, it must not be asked itself.
        n: one for each thread, images of a band for example.

    Raises:
        ValueError: ``n`` is below 1.

    Example:
        >>> from molpool_calc import MolPoolCalculator
        >>> calculators = share_calculator(MolPoolCalculator("painn-ethanol"), 5)
        >>> len(set(calculators))
        5
    """
    if n < 1:
        raise ValueError(f"{n} calculators were asked for; give at least 1")
    meeting = Meeting(calculator.evaluator, n)
    return [_sharing(calculator, meeting, place) for place in range(n)]


def _sharing(
    calculator: MolPoolCalculator, meeting: "Meeting", place: int
) -> MolPoolCalculator:
    shared = copy(calculator)
    shared.atoms = None
    shared.results, shared.results_std = {}, {}
    shared.evaluator = SharedEvaluator(calculator.evaluator, meeting, place)
    return shared


class SharedEvaluator(Evaluator):
    """The evaluator of one calculator, which asks at the meeting of all.

    Args:
        evaluator: does the work.
        meeting: collects what is asked.
        place: of this one among those who meet.
    """

    def __init__(self, evaluator: Evaluator, meeting: "Meeting", place: int) -> None:
        # the same engines and limits, not copies of them
        vars(self).update(vars(evaluator))
        self._meeting, self._place = meeting, place

    def evaluate(
        self, atoms: Atoms, state: ChargeAndSpin, properties: frozenset[str]
    ) -> Results:
        """Return what `Evaluator.evaluate` returns, computed with what others ask."""
        return self._meeting.ask(self._place, Request(atoms, state, properties))


@dataclass(eq=False, slots=True)
class Request:
    """What a thread asks, and once it is done the answer to it."""

    atoms: Atoms
    state: ChargeAndSpin
    properties: frozenset[str]
    results: Results | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is an answer, good or bad."""
        return self.results is not None or self.error is not None


class Meeting:
    """Collects the requests of threads; one of the threads answers all at once.

    A thread that finds nobody at work takes over what has been asked, after waiting
    for those who came the last time, but not longer than ``PATIENCE``: who did not
    come is not waited for again before it comes back. So nobody depends on another
    thread, and if the one at work is interrupted, the next takes over.

    Args:
        evaluator: does the work.
        n: how many are expected the first time.
    """

    def __init__(self, evaluator: Evaluator, n: int) -> None:
        self.evaluator = evaluator
        self._changed = threading.Condition()
        self._waiting: dict[int, Request] = {}
        self._expected = set(range(n))
        self._busy = False

    def __getstate__(self) -> dict[str, object]:
        """Leave out the lock, which a copy has anew."""
        return {"evaluator": self.evaluator, "n": len(self._expected)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin as a new meeting."""
        Meeting.__init__(self, state["evaluator"], state["n"])

    def ask(self, place: int, request: Request) -> Results:
        """Return the answer to a request, or raise what is wrong with it."""
        while not request.is_done:
            if self._takes_over(place, request):
                self._answer_all()
        if request.error is not None:
            raise request.error
        assert request.results is not None  # it is done, and without error
        return request.results

    def _takes_over(self, place: int, request: Request) -> bool:
        """Return whether this thread must work, once it is done or nobody works."""
        with self._changed:
            alone = not self._busy and not self._waiting
            if alone and place not in self._expected:
                self._expected = set()  # the others come at other times
            self._expected.add(place)
            self._waiting[place] = request
            self._changed.notify_all()
            self._changed.wait_for(lambda: request.is_done or not self._busy)
            if request.is_done:
                return False
            self._busy = True
            return True

    def _answer_all(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting.keys() >= self._expected, PATIENCE
            )
            self._expected = set(self._waiting)
            requests, self._waiting = list(self._waiting.values()), {}
        try:
            answer(self.evaluator, requests)
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()


def answer(evaluator: Evaluator, requests: Sequence[Request]) -> None:
    """Answer requests in as few passes as they allow, each with its own error."""
    groups: dict[frozenset[str], list[Request]] = {}
    for request in requests:
        groups.setdefault(request.properties, []).append(request)
    for group in groups.values():
        try:
            found = _evaluate(evaluator, group)
        except Wrong as error:
            if len(group) == 1:
                group[0].error = error
                continue
            for request in group:  # somebody's input is wrong
                answer(evaluator, [request])
            continue
        for request, results in zip(group, found, strict=True):
            request.results = results


def _evaluate(evaluator: Evaluator, requests: Sequence[Request]) -> list[Results]:
    if len(requests) == 1:
        (only,) = requests
        return [evaluator.evaluate(only.atoms, only.state, only.properties)]
    return evaluator.evaluate_many(
        [request.atoms for request in requests],
        [request.state for request in requests],
        requests[0].properties,
    )
