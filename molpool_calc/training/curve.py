"""The learning curve as CSV and as a picture."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_curve(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write the rows so far; the file is replaced at once, never half written."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({k: f"{v:.9g}" for k, v in row.items()} for row in rows)
    os.replace(temporary, path)


def plot_curve(path: Path, rows: Sequence[Mapping[str, float]], title: str) -> None:
    """Draw losses and validation errors against the epoch."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow import, rarely needed

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [row["epoch"] for row in rows]
    for name in rows[0]:
        if name not in {"epoch", "learning_rate"}:
            axes.semilogy(epochs, [row[name] for row in rows], label=name, lw=1.2)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss; errors in eV, eV/Å, e·Å")
    axes.set_title(title)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
