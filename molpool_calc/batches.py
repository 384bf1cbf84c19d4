"""Cuts many structures into passes: as many atoms each as memory and speed allow.

On a GPU one pass should be as large as memory holds. On the CPU larger passes soon
gain nothing, and passes run beside each other, one thread each, whereas the operations
of one pass are too small to be shared between threads. Measured for ethanol (PaiNN, 128
features, float32, operation by operation), processor time per molecule: 5.2 ms alone,
2.0 in passes of 4, 1.6 of 8, 1.4 of 10, 1.5 of 32, 1.3 of 100.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

ATOMS_ON_CPU = 90
"""Ten ethanols: with fewer the cost of calls shows, with more the caches overflow."""
OUT_OF_MEMORY = "can't allocate memory"
"""What torch says on the CPU, where it has no class for it."""

T = TypeVar("T")
Pass = Callable[[int, int], list[T]]
"""Evaluates the structures from one index to before another."""


class Batches:
    """Evaluates rows of structures in passes of a size that fits.

    A pass that runs out of memory is repeated in halves, down to one structure. The
    size that fitted is kept: later calls begin with it. How structures are put
    together does not depend on the number of threads, so neither do the results.

    Args:
        device: on which passes run.
        most_atoms: in one pass, to begin with.

    Attributes:
        most_atoms: in one pass, as far as is known by now.
    """

    def __init__(self, device: torch.device, most_atoms: int) -> None:
        self.device, self.most_atoms = device, most_atoms

    def evaluate(self, sizes: Sequence[int], one_pass: Pass[T]) -> list[T]:
        """Return what the passes give, in the order of the structures.

        Args:
            sizes: number of atoms of each structure.
            one_pass: evaluates the structures ``first`` to before ``last``; called
                from several threads on the CPU.

        Raises:
            RuntimeError: the memory does not even suffice for one structure.
        """
        on_cpu = self.device.type == "cpu"
        ranges = cut(sizes, min(self.most_atoms, ATOMS_ON_CPU if on_cpu else 2**62))
        n_threads = min(torch.get_num_threads(), len(ranges)) if on_cpu else 1

        def attempt(place: tuple[int, int]) -> list[T] | None:
            return _unless_out_of_memory(one_pass, *place)

        results: list[T] = []
        for place, found in zip(
            ranges, beside(attempt, ranges, n_threads), strict=True
        ):
            # repeated after the others, when their memory is free again
            results += (
                self._in_halves(sizes, place, one_pass) if found is None else found
            )
        return results

    def _in_halves(
        self, sizes: Sequence[int], place: tuple[int, int], one_pass: Pass[T]
    ) -> list[T]:
        first, last = place
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if last - first == 1:
            return one_pass(first, last)
        self.most_atoms = max(1, min(self.most_atoms, sum(sizes[first:last]) // 2))
        results: list[T] = []
        for start, end in cut(sizes[first:last], self.most_atoms):
            part = (first + start, first + end)
            found = _unless_out_of_memory(one_pass, *part)
            results += (
                self._in_halves(sizes, part, one_pass) if found is None else found
            )
        return results


def cut(sizes: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Return ranges of structures with at most ``most`` atoms each, or of just one."""
    ranges, first, atoms = [], 0, 0
    for index, size in enumerate(sizes):
        if atoms and atoms + size > most:
            ranges.append((first, index))
            first, atoms = index, 0
        atoms += size
    return [*ranges, (first, len(sizes))] if sizes else []


def _unless_out_of_memory(one_pass: Pass[T], first: int, last: int) -> list[T] | None:
    """Return what the pass gives, or ``None`` where memory did not suffice."""
    try:
        return one_pass(first, last)
    except torch.cuda.OutOfMemoryError:
        pass
    except RuntimeError as error:
        if OUT_OF_MEMORY not in str(error):
            raise
    # here the traceback, which held the tensors of the pass, is gone
    return None


def beside(
    function: Callable[[tuple[int, int]], T],
    places: Sequence[tuple[int, int]],
    n_threads: int,
) -> list[T]:
    """Return the function's values, of several places at the same time."""
    if n_threads <= 1:
        return list(map(function, places))
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            n_threads,
            thread_name_prefix="molpool",
            initializer=torch.set_num_threads,
            initargs=(1,),  # each pass has a core of its own
        ) as pool:
            return list(pool.map(function, places))
    finally:
        # it is a matter of each thread, but torch tells it to threads yet to come
        torch.set_num_threads(before)
