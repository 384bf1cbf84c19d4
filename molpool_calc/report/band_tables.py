"""Tables of bands beside a spectrum: ``assignment.csv``, ``experiment.csv``, curves."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_UNIT = "# unit: "
_METADATA = "; metadata: "


@dataclass(frozen=True, kw_only=True, slots=True)
class BandTable:
    """The rows of a file with a comment that states unit and metadata."""

    unit: str
    facts: Mapping[str, Any]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def texts(self, column: str) -> list[str]:
        """Return the fields of a column."""
        place = self.columns.index(column)
        return [row[place] for row in self.rows]

    def numbers(self, column: str) -> list[float]:
        """Return a column as numbers, NaN where a field is empty."""
        return [float(text or "nan") for text in self.texts(column)]


def read_table(path: Path) -> BandTable:
    """Return the content of a file of `spectra.band_files`.

    Raises:
        ValueError: the file has no comment and header, or rows of another length.
    """
    comment, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    columns, *rows = [tuple(row) for row in csv.reader(lines)] or [()]
    fits = all(len(row) == len(columns) for row in rows)
    if not comment.startswith(_UNIT) or not columns or not fits:
        raise ValueError(
            f"{path} is no table of bands, or is damaged; remove it or write it again"
        )
    unit, _, facts = comment.removeprefix(_UNIT).partition(_METADATA)
    return BandTable(
        unit=unit,
        facts=json.loads(facts or "{}"),
        columns=columns,
        rows=tuple(rows),
    )
