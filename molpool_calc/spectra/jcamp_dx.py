"""Measured infrared spectra of gases from JCAMP-DX files, read with ``jcamp``.

The format: McDonald & Wilks, Appl. Spectrosc. 42, 151 (1988). The library does not
look at what it cannot read and says on standard output what it doubts; both are
turned into sentences here.
"""

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from molpool_calc.spectra.measured import MeasuredSpectrum, ordinate

_LARGEST_BYTES = 50_000_000
_FEWEST_POINTS = 16
# What the library reads in lines of data: digits, and letters of the packed forms.
_READABLE = {
    "xydata": re.compile(r"[\d\s.,+\-%@A-Za-s]*"),
    "xypoints": re.compile(r"[\d\s.,;+\-Ee]*"),
}
_MICROMETRES_PER_CM = 1e4
_ABSCISSAE = {
    "1/cm": None,
    "cm-1": None,
    "cm^-1": None,
    "wavenumbers": None,
    "wavenumber": None,
    "micrometers": 1.0,
    "micrometer": 1.0,
    "microns": 1.0,
    "micron": 1.0,
    "um": 1.0,
    "µm": 1.0,
    "nanometers": 1e-3,
    "nanometer": 1e-3,
    "nm": 1e-3,
}
_GAS = re.compile(r"\b(gas|gaseous|vapou?r)\b", re.IGNORECASE)
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)


def read_jcamp_dx(name: str | Path) -> MeasuredSpectrum:
    """Return the infrared spectrum of a gas that a JCAMP-DX file holds.

    Args:
        name: The file; of a file with several spectra, ``@`` and a number after the
            name ask for one, counted from 0.

    Raises:
        ValueError: It is no JCAMP-DX file, holds no infrared spectrum or several, or
            one of a liquid or solid, or cannot be read.
    """
    path, wanted = _path_and_block(str(name))
    spectra = [
        block
        for block in _blocks(_text_of(path))
        if _label(block, "data type", "datatype").upper() != "LINK"
    ]
    if wanted is None and len(spectra) > 1:
        titles = ", ".join(f"@{n} {_label(b, 'title')}" for n, b in enumerate(spectra))
        raise ValueError(
            f"{path} holds {len(spectra)} spectra ({titles}); add the number of one, "
            f"as in {path}@0"
        )
    number = wanted or 0
    if number >= len(spectra):
        raise ValueError(
            f"{path} holds {len(spectra)} spectra, and none with the number {number}; "
            "numbers start at 0"
        )
    try:
        return _spectrum(spectra[number])
    except ValueError as error:
        raise ValueError(f"{path} cannot be compared with: {error}") from error


def _path_and_block(name: str) -> tuple[Path, int | None]:
    path, wanted = Path(name), None
    stem, _, number = name.rpartition("@")
    if not path.exists() and number.isdecimal():
        path, wanted = Path(stem), int(number)
    if not path.is_file():
        raise ValueError(
            f"there is no file {path}; give a gas-phase infrared spectrum in JCAMP-DX "
            "(.jdx, .dx)"
        )
    return path, wanted


def _text_of(path: Path) -> str:
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise ValueError(
            f"{path} has {size} bytes, more than any infrared spectrum; give a "
            "JCAMP-DX file of less than 50 MB"
        )
    text = path.read_bytes().decode("utf-8", "replace")
    if not text.lstrip("\ufeff \t\r\n").startswith("##"):
        raise ValueError(
            f"{path} is no JCAMP-DX file, which starts with ##TITLE=; give a gas-phase "
            "infrared spectrum in JCAMP-DX"
        )
    return text


def _blocks(text: str) -> list[list[str]]:
    """Return the lines of each block, from its title to its end.

    Comments after labels are left out, which the library would take for values.
    """
    blocks: list[list[str]] = []
    is_open = False
    for line in text.lstrip("\ufeff \t\r\n").splitlines():
        label = line.partition("=")[0].replace(" ", "").upper()
        if label == "##TITLE" or not blocks:
            blocks.append([])
            is_open = True
        if is_open:
            is_label = line.startswith("##")
            blocks[-1].append(line.partition("$$")[0].rstrip() if is_label else line)
        is_open = is_open and label != "##END"
    return blocks


def _label(block: list[str], *names: str) -> str:
    for line in block:
        label, found, value = line.removeprefix("##").partition("=")
        if line.startswith("##") and found and label.strip().lower() in names:
            return value.strip()
    return ""


def _spectrum(block: list[str]) -> MeasuredSpectrum:
    kind = _label(block, "data type", "datatype")
    if "INFRARED SPECTRUM" not in kind.upper():
        raise ValueError(
            f"its data type is {kind or 'not stated'!r}; give one of the data type "
            "INFRARED SPECTRUM"
        )
    state = _label(block, "state")
    if state and not _GAS.search(state):
        raise ValueError(
            f"it was measured of the state {state!r}, whose bands are not those of one "
            "molecule; give a spectrum of the gas"
        )
    content = _parse(block)
    facts = {key: str(value) for key, value in content.items() if key not in {"x", "y"}}
    x, y = np.asarray(content["x"], np.float64), np.asarray(content["y"], np.float64)
    wavenumbers = _wavenumbers(x, facts.get("xunits", ""))
    found = ordinate(y, facts.get("yunits", "").strip(), facts)
    order = np.argsort(wavenumbers, kind="stable")
    unstated = () if state else ("it states no phase and is taken to be of the gas",)
    return MeasuredSpectrum(
        wavenumbers=wavenumbers[order],
        intensity=found.intensity[order],
        saturated=found.saturated[order],
        unit=found.unit,
        title=_label(block, "title"),
        source=", ".join(filter(None, _origins(facts))),
        remarks=unstated + found.remarks,
    )


def _origins(facts: Mapping[str, str]) -> list[str]:
    return [
        " ".join(facts.get(name, "").split("\n")[0].split())
        for name in ("origin", "owner", "source reference")
    ]


def _parse(block: list[str]) -> Mapping[str, Any]:
    """Return labels and data as the library reads them, or say why it cannot."""
    _require_readable(block)
    import jcamp  # noqa: PLC0415 - needed only where there is such a file

    said = io.StringIO()
    try:
        with redirect_stdout(said):
            content: Mapping[str, Any] = jcamp.read(iter(block))
    except _UNREADABLE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"its data cannot be read ({reason}); export it again as JCAMP-DX with "
            "XYDATA=(X++(Y..Y))"
        ) from error
    n_x, n_y = len(content["x"]), len(content["y"])
    stated = content.get("npoints", n_y)
    if n_y < _FEWEST_POINTS or n_x != n_y or stated != n_y:
        raise ValueError(
            f"it states {stated} points and has {n_y}, so that it is cut off, empty or "
            f"packed in a way that cannot be read; give a whole file with "
            f"{_FEWEST_POINTS} points or more"
        )
    if not np.isfinite(np.stack([content["x"], content["y"]])).all():
        raise ValueError("it holds values that are not finite; export it again")
    if said.getvalue():
        doubt = " ".join(said.getvalue().splitlines()[0].split())
        raise ValueError(f"its check values disagree ({doubt}); get it again")
    return content


def _require_readable(block: list[str]) -> None:
    """Refuse what the library would stop at without a type of error of its own."""
    n_characters = sum(map(len, block))
    stated = _label(block, "npoints")
    if stated.isdecimal() and int(stated) > n_characters:
        raise ValueError(
            f"it states {stated} points in {n_characters} characters; give a whole file"
        )
    readable = None
    for line in block:
        if line.startswith("##"):
            label = line[2:].partition("=")[0].strip().lower()
            readable = _READABLE.get(label)
        elif readable and not line.startswith("$$") and not readable.fullmatch(line):
            raise ValueError(
                f"its data hold the line {line[:40]!r}, which is no number in any form "
                "of JCAMP-DX; export it again"
            )


def _wavenumbers(
    x: Float[np.ndarray, " points"], unit: str
) -> Float[np.ndarray, " points"]:
    name = "".join(unit.lower().split())
    if name not in _ABSCISSAE:
        raise ValueError(
            f"its abscissa is {unit or 'not stated'!r}; give one in 1/CM, MICROMETERS "
            "or NANOMETERS"
        )
    factor = _ABSCISSAE[name]
    if not (x > 0.0).all():
        raise ValueError("it has an abscissa of 0 or below; export it again")
    return x if factor is None else _MICROMETRES_PER_CM / (x * factor)
