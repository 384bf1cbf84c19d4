"""What a command says besides its result: notes and progress, both on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

PREFIX = "molpool: "


class Console:
    """Writes to stderr only, so that stdout holds the result and nothing else."""

    def note(self, sentence: str) -> None:
        """Print one sentence."""
        print(PREFIX + " ".join(sentence.split()), file=sys.stderr)

    @contextmanager
    def progress(
        self, total: int | None, what: str, unit: str, *, done: int = 0
    ) -> Iterator[Any]:
        """Give a progress bar with an estimate of the time left.

        It is drawn on a terminal only, and is gone when the work is done.

        Args:
            total: number of units, if known.
            what: is being done, stands before the bar.
            unit: what is counted.
            done: units done by an earlier run.
        """
        with tqdm(
            total=total,
            desc=what,
            unit=f" {unit}",
            initial=done,
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            leave=False,
            dynamic_ncols=True,
        ) as bar:
            yield bar

    def bars(self, unit: str) -> Callable[[str, int], Callable[[int], None]]:
        """Give a maker of progress bars, each told how many units are done.

        A bar ends with its last unit, or when the next one begins.
        """
        shown: list[Any] = []

        def begin(what: str, total: int) -> Callable[[int], None]:
            for bar in shown:
                bar.close()
            bar = tqdm(
                total=total,
                desc=what,
                unit=f" {unit}",
                file=sys.stderr,
                disable=not sys.stderr.isatty(),
                dynamic_ncols=True,
            )
            shown[:] = [bar]

            def advance(done: int) -> None:
                bar.update(done - bar.n)
                if done >= total:
                    bar.close()

            return advance

        return begin
