"""What the folder of a run holds, read so that damaged parts become remarks."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.symbols import Symbols

from molpool_calc.harmonic_file import HarmonicResult, read_harmonic
from molpool_calc.md.manifest import Manifest, read_manifest
from molpool_calc.md.run_files import MANIFEST
from molpool_calc.md.trajectory import RunData, read_run
from molpool_calc.molecules import Experiment, experiment_of
from molpool_calc.report.band_tables import BandTable, read_table
from molpool_calc.spectra import Spectrum, read_spectrum
from molpool_calc.storage import find_folder, read_json

SPECTRA = ("ir", "raman", "vdos")
"""Kinds of ``spectrum_KIND.csv``, in the order of the tabs."""

QUANTUM = "ir_quantum"

TABLES = ("assignment", "experiment", "experiment_curve")
"""Names of the tables of bands, without their suffix."""

_NOT_DATA = (".html", ".png", ".tmp", ".part")
_CHUNK = 1 << 20


class DataFile(NamedTuple):
    """A file of the run as it was when the report was made."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class RunContent:
    """All that a report shows; ``None`` or empty where a run has no such thing.

    ``potential`` is the content of ``potential.json`` with the hash that the run
    states. ``source`` is where that potential lies. ``quantum`` is the infrared
    spectrum of ring polymers. ``tables`` stand under the names in `TABLES`.
    ``remarks`` are sentences on what could not be read, and why.
    """

    folder: Path
    manifest: Manifest
    run: RunData | None
    spectra: Mapping[str, Spectrum]
    harmonic: HarmonicResult | None
    quantum: Spectrum | None
    tables: Mapping[str, BandTable]
    experiment: Experiment | None
    potential: Mapping[str, Any] | None
    source: Path | None
    files: tuple[DataFile, ...]
    remarks: tuple[str, ...]

    @property
    def formula(self) -> str:
        """The chemical formula of one replica."""
        numbers = np.array(self.manifest["dynamics"]["atomic_numbers"])
        return str(Symbols(numbers).get_chemical_formula())

    @property
    def system(self) -> str:
        """The name under which the structure was given, else its formula."""
        return str(self.manifest.get("system") or self.formula)


@dataclass(slots=True)
class _Reader:
    """Reads parts; one that fails is left out, and the reason is remarked."""

    remarks: list[str] = field(default_factory=list)

    def attempt(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (ValueError, OSError, ArithmeticError, LookupError, TypeError) as error:
            self.remarks.append(" ".join(str(error).split()))
            return None


def read_content(folder: Path, potential: str | None = None) -> RunContent:
    """Return what the folder of a run holds; writes nothing.

    Args:
        folder: of a run of ``molpool md`` or ``ir``: finished, interrupted, stopped or
            killed.
        potential: bundled name or folder of the potential it was made with; needed
            only where its name does not say so.

    Raises:
        ValueError: the folder holds no run, or ``potential`` is not that of the run.
    """
    manifest = read_manifest(folder)
    reader = _Reader()
    run = reader.attempt(lambda: read_run(folder))
    spectra = {
        kind: reader.attempt(partial(read_spectrum, folder / f"spectrum_{kind}.csv"))
        for kind in (*SPECTRA, QUANTUM)
        if (folder / f"spectrum_{kind}.csv").is_file()
    }
    tables = {
        name: reader.attempt(partial(read_table, folder / f"{name}.csv"))
        for name in TABLES
        if (folder / f"{name}.csv").is_file()
    }
    source = _source(manifest, potential, reader)
    return RunContent(
        folder=folder,
        manifest=manifest,
        run=run,
        spectra={k: found for k, found in spectra.items() if found and k in SPECTRA},
        quantum=spectra.get(QUANTUM),
        tables={name: found for name, found in tables.items() if found is not None},
        harmonic=reader.attempt(lambda: read_harmonic(folder)),
        experiment=experiment_of(str(manifest.get("system", ""))),
        potential=None if source is None else read_json(source),
        source=source,
        files=tuple(_data_files(folder)),
        remarks=tuple(reader.remarks),
    )


def _source(manifest: Manifest, potential: str | None, reader: _Reader) -> Path | None:
    """Return the folder of the potential, its hash compared with that of the run."""
    stated = manifest["inputs"].get("sha256")
    named = potential or manifest["inputs"].get("potential")
    if not isinstance(named, str):
        return None

    def find() -> Path:
        folder = find_folder(named)
        found = read_json(folder)["sha256"]
        if found != stated:
            raise ValueError(
                f"{named} has the SHA-256 {found}, but the run was made with {stated}; "
                "give the potential of the run with -p"
            )
        return folder

    if potential is not None:
        return find()
    found: Path | None = reader.attempt(find)
    return found


def _data_files(folder: Path) -> list[DataFile]:
    """Return the files of a run, ``run.json`` first."""
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix not in _NOT_DATA and path.name[0] != "."
    ]
    paths.sort(key=lambda path: path.name != MANIFEST)
    return [DataFile(p.name, p.stat().st_size, _sha256(p)) for p in paths]


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
