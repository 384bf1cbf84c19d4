"""What i-PI wrote, read back whatever happened to the program that wrote it."""

import re
from bisect import bisect_left
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

# To the end of the line: one that a kill tore may stand before the next on its line.
_HEADER = re.compile(r" #EXTRAS\w*\(\w+\)# Step: +(\d+)  Bead: +\d+ *\n")


def read_extras(
    path: Path, *, n_beads: int, n_values: int
) -> tuple[Int[np.ndarray, " samples"], Float[np.ndarray, "samples beads values"]]:
    """Return steps and values of every bead from a file of i-PI's extras.

    A sample that a kill tore, at the end or before the samples of the next run, is
    left out. Where steps come again, a run went on from a checkpoint: what was written
    from that step on before is dropped, so that the series is one trajectory.

    Args:
        path: of the file with one block of ``n_beads`` rows for each step.
        n_beads: beads of the ring.
        n_values: numbers of each bead.

    Raises:
        ValueError: the steps that remain are not equally spaced.
    """
    text = path.read_text(encoding="ascii", errors="replace")
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    steps: list[int] = []
    samples: list[np.ndarray] = []
    for header, end in zip(headers, ends, strict=True):
        block, step = text[header.end() : end], int(header.group(1))
        sample = _numbers(block[: block.rfind("\n") + 1])  # only whole rows
        if sample is None or sample.size != n_beads * n_values:
            continue
        again = bisect_left(steps, step)
        del steps[again:], samples[again:]
        steps.append(step)
        samples.append(sample.reshape(n_beads, n_values))
    found = np.array(steps, dtype=np.int64)
    if len(found) > 1 and np.ptp(np.diff(found)) != 0:
        raise ValueError(
            f"{path} lacks samples: its steps are not equally spaced; run it again"
        )
    empty = np.zeros((0, n_beads, n_values))
    return found, np.stack(samples) if samples else empty


def ring_dipoles(path: Path, n_beads: int) -> Float[np.ndarray, "samples 3"]:
    """Return the dipole of a ring polymer, the mean over its beads, in e·Å."""
    _, dipoles = read_extras(path, n_beads=n_beads, n_values=3)
    return np.asarray(dipoles.mean(axis=1))


def read_properties(
    path: Path,
) -> dict[str, Float[np.ndarray, " samples"]]:
    """Return the columns of a file of i-PI's properties under their names.

    Torn lines are left out, and steps that come again replace those before.
    """
    names: list[str] = []
    rows: list[np.ndarray] = []
    steps: list[float] = []
    for line in path.read_text(encoding="ascii", errors="replace").splitlines(True):
        if line.startswith("#"):
            names.append(line.split("-->")[1].split()[0].partition("{")[0])
            continue
        row = _numbers(line)
        if not line.endswith("\n") or row is None or len(row) != len(names):
            continue
        again = bisect_left(steps, row[0])
        del steps[again:], rows[again:]
        steps.append(float(row[0]))
        rows.append(row)
    table = np.stack(rows) if rows else np.zeros((0, len(names)))
    return dict(zip(names, table.T, strict=True))


def _numbers(text: str) -> np.ndarray | None:
    """Return the numbers of a text, or ``None`` if it holds something else."""
    try:
        return np.array(text.split(), dtype=np.float64)
    except ValueError:
        return None
