"""Times of several things in alternating blocks, so that a loaded machine hits all."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

Steps = Callable[[int], None]
"""Makes a number of steps."""
Clock = Callable[[int], float]
"""Makes a number of steps and returns the seconds that took."""

BLOCK_SECONDS = 0.2
LEAST_BLOCKS, MOST_BLOCKS = 3, 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Milliseconds per step, one number for each block."""

    blocks: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the blocks."""
        return statistics.median(self.blocks)

    @property
    def fastest(self) -> float:
        """The shortest: what other programs disturbed least."""
        return min(self.blocks)


@contextmanager
def thread_count(n_threads: int | None) -> Iterator[int]:
    """Let torch use a number of threads, and put the old number back.

    Args:
        n_threads: as many as there are by default where ``None``.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if n_threads is None else n_threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def clock(steps: Steps) -> Clock:
    """Return what times steps of this process."""

    def seconds(n_steps: int) -> float:
        start = time.perf_counter()
        steps(n_steps)
        return time.perf_counter() - start

    return seconds


def alternate(
    clocks: Mapping[str, Clock],
    seconds: float,
    progress: Callable[[float], None] = lambda _: None,
    *,
    multiple: int = 1,
) -> dict[str, Times]:
    """Return the times of each, measured in turn, block by block.

    A first block of each warms up and says how many steps make a block of
    ``BLOCK_SECONDS``; it is not counted.

    Args:
        clocks: by name.
        seconds: how long to measure, all together; at least ``LEAST_BLOCKS`` blocks of
            each are made, however long they take.
        progress: called after each round with the fraction done.
        multiple: steps are made so many at a time.
    """
    lengths = {name: _block_length(tick, multiple) for name, tick in clocks.items()}
    found: dict[str, list[float]] = {name: [] for name in clocks}
    start = time.perf_counter()
    for round_ in range(MOST_BLOCKS):
        for name, tick in clocks.items():
            n_steps = lengths[name]
            found[name].append(1e3 * tick(n_steps) / n_steps)
        spent = (time.perf_counter() - start) / seconds
        progress(min(1.0, max(spent, (round_ + 1) / MOST_BLOCKS)))
        if spent >= 1.0 and round_ + 1 >= LEAST_BLOCKS:
            break
    return {name: Times(blocks=tuple(times)) for name, times in found.items()}


def _block_length(tick: Clock, multiple: int) -> int:
    """Return how many steps take ``BLOCK_SECONDS``; the first one may be slow."""
    tick(multiple)
    n_steps = multiple
    while (spent := tick(n_steps)) < BLOCK_SECONDS / 4:
        n_steps *= 4
    return multiple * max(1, round(n_steps / multiple * BLOCK_SECONDS / spent))
