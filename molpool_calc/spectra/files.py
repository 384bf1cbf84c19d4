"""Spectra as comma-separated files with their unit and metadata in a comment."""

import json
import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra.spectrum import Spectrum

_HEADER = "wavenumber_cm-1,intensity,lower,upper"
_N_COLUMNS = 4
METADATA = "; metadata: "
"""Stands between the unit and the metadata, an object in JSON, of the comment."""


def write_spectrum(spectrum: Spectrum, path: str | Path) -> None:
    """Write a spectrum to a CSV file, in one step so that no half file is ever seen.

    The first line is a comment with the unit and the metadata, the second names the
    columns. Without a confidence band, the fields of its limits are empty. The
    components of the spectrum follow in columns of their own names.
    """
    path = Path(path)
    # Numbers with 10 digits: more than any spectrum is worth.
    columns = [
        [f"{value:.10g}" for value in column]
        if column is not None
        else [""] * len(spectrum.wavenumbers)
        for column in (
            spectrum.wavenumbers,
            spectrum.intensity,
            spectrum.lower,
            spectrum.upper,
            *spectrum.components.values(),
        )
    ]
    header = ",".join([_HEADER, *spectrum.components])
    rows = [",".join(fields) for fields in zip(*columns, strict=True)]
    metadata = json.dumps(dict(spectrum.metadata), ensure_ascii=True)
    comment = f"# unit: {spectrum.unit}{METADATA}{metadata}"
    write_whole(path, "\n".join([comment, header, *rows, ""]))


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step, so that no half file is ever seen."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def read_spectrum(path: str | Path) -> Spectrum:
    """Return the spectrum that a file of `write_spectrum` holds.

    The file holds no spectra of single units: the mean stands for them, so that band
    integrals of a read spectrum carry no interval of their own.

    Raises:
        ValueError: The file does not have the columns of a spectrum.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    table = [line for line in lines if line and not line.startswith("#")]
    names = table[0].split(",") if table else []
    is_spectrum = names[:_N_COLUMNS] == _HEADER.split(",")
    if not comments or "# unit: " not in comments[0] or not is_spectrum:
        raise ValueError(
            f"{path} is not a spectrum; give a file with a comment '# unit: ...' and "
            f"the columns {_HEADER}"
        )
    unit, _, metadata = comments[0].removeprefix("# unit: ").partition(METADATA)
    columns = list(zip(*(row.split(",") for row in table[1:]), strict=True))
    values = [_column(fields) for fields in columns]
    wavenumbers, intensity, lower, upper = values[:_N_COLUMNS]
    if wavenumbers is None or intensity is None:
        raise ValueError(f"{path} lacks wavenumbers or intensities; write it again")
    return Spectrum(
        wavenumbers=wavenumbers,
        intensity=intensity,
        lower=lower,
        upper=upper,
        units_intensity=intensity[None],
        unit=unit,
        metadata=MappingProxyType(json.loads(metadata or "{}")),
        components={
            name: column
            for name, column in zip(
                names[_N_COLUMNS:], values[_N_COLUMNS:], strict=True
            )
            if column is not None
        },
    )


def _column(fields: tuple[str, ...]) -> Float[np.ndarray, " bins"] | None:
    return None if "" in fields else np.array(fields, dtype=np.float64)
