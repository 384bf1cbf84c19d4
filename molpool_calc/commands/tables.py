"""Tables and numbers for people to read."""

from collections.abc import Sequence
from math import floor, log10


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, n_left: int) -> str:
    """Return aligned columns under a ruled header.

    Args:
        header: of each column; a line break in it starts a second line.
        rows: cells.
        n_left: that many columns stand flush left, the others flush right.
    """
    depth = max(text.count("\n") for text in header) + 1
    split = [(text.split("\n") + [""] * depth)[:depth] for text in header]
    head = [[lines[i] for lines in split] for i in range(depth)]
    every = [*head, *rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < n_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([*map(line, head), rule, *map(line, rows)])


def significant(value: float, digits: int = 3) -> str:
    """Return a number with that many digits, in powers of ten below 0.0001."""
    if abs(value) < 1e-4:  # noqa: PLR2004 - as Python's own g format
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - floor(log10(abs(value))))
    return f"{value:.{decimals}f}"
