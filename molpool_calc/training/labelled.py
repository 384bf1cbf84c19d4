"""Reading of labelled data where every failure is a sentence about the file."""

import sqlite3
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

from molpool_calc.training.data import Dataset, Units, read_dataset


def read_labelled(
    path: Path,
    *,
    units: Units,
    keys: Mapping[str, str],
    format: str | None = None,  # noqa: A002 (the word ASE uses)
    check_units: bool = True,
    partly_labelled: Collection[str] = (),
) -> Dataset:
    """Return the frames of a file (see ``data.read_dataset``).

    Raises:
        ValueError: also where the file is damaged.
    """
    if path.suffix == ".npz" and path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no npz file, or damaged; fetch it again")
    try:
        return read_dataset(
            path,
            units=units,
            keys=keys,
            format=format,
            check_units=check_units,
            partly_labelled=partly_labelled,
        )
    except (zipfile.BadZipFile, sqlite3.Error, EOFError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); it is damaged or of another format than "
            "its name says"
        ) from error
