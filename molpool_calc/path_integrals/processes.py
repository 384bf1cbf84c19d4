"""The processes in which i-PI runs, side by side, none outliving its parent."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from ase.calculators.calculator import CalculationFailed

from molpool_calc.path_integrals.protocol import FAILED, PROGRESS, steps_in

LOG = "i-pi.log"
CHILD = "molpool_calc.path_integrals.child"

Lengths = Sequence[tuple[str, int]]
"""Stages of a replica, in their order, with their numbers of steps."""


class _Children:
    """Starts processes, and ends all of them when the block is left.

    Where this process is killed itself, they see their standard input close.
    """

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._is_open = True

    def __enter__(self) -> "_Children":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._is_open = False
        for child in self._running:
            child.kill()
            child.wait()

    def start(self, words: list[str], place: Path) -> "subprocess.Popen[str]":
        """Start the program that steps i-PI in a folder."""
        with self._lock, (place / LOG).open("a", encoding="utf-8") as log:
            if not self._is_open:
                raise CalculationFailed("the run ends, and starts no more replicas")
            child = subprocess.Popen(
                [sys.executable, "-m", CHILD, *words],
                cwd=place,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the parent, which ends it
            )
            self._running.append(child)
            return child


def run_replicas(
    folders: Sequence[Path],
    stages: Lengths,
    *,
    hold: bool,
    progress: Callable[[int], None],
) -> None:
    """Run all stages of all replicas from their checkpoints to their ends.

    Args:
        folders: of the replicas, with the inputs of i-PI.
        stages: the same for all.
        hold: keep translation and rotation of the centroids at zero.
        progress: called with the steps done, of all replicas together.

    Raises:
        CalculationFailed: i-PI failed in one of them; the others are ended.
    """
    cores = os.cpu_count() or 1
    workers = min(len(folders), cores)
    options = ["hold" if hold else "free", str(max(1, cores // workers))]
    done = [0] * len(folders)
    lock = threading.Lock()

    def run(number: int) -> None:
        place = folders[number]
        reached = {stage: steps_in(place, stage) for stage, _ in stages}

        def report(stage: str, steps: int) -> None:
            with lock:
                reached[stage] = steps
                done[number] = sum(reached.values())
                progress(sum(done))

        left = [f"{name}:{n}" for name, n in stages if reached[name] < n]
        if left:
            _follow(children.start([*options, *left], place), place, report)

    # the children end first, and with them the threads that wait for them
    with ThreadPoolExecutor(max_workers=workers) as pool, _Children() as children:
        futures = [pool.submit(run, number) for number in range(len(folders))]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()


def _follow(
    child: "subprocess.Popen[str]", place: Path, report: Callable[[str, int], None]
) -> None:
    """Read what a child says until it ends.

    Raises:
        CalculationFailed: it failed.
    """
    reason = None
    with child:
        for line in child.stdout or ():
            word, _, rest = line.strip().partition(" ")
            if word == PROGRESS:
                stage, _, steps = rest.partition(" ")
                report(stage, int(steps))
            elif word == FAILED:
                reason = rest
        child.wait()
    if child.returncode != 0 and reason is None:
        lines = (place / LOG).read_text(encoding="utf-8").strip().splitlines()
        reason = (
            f"i-PI ended unexpectedly ({lines[-1] if lines else 'without a word'}); "
            f"see {place / LOG}, and go on with resume"
        )
    if reason is not None:
        raise CalculationFailed(reason)
