"""Potential folders: ``potential.json`` and ``weights.safetensors``, both plain data.

Nothing in a folder is executed. The JSON holds the SHA-256 of the weights; loading
checks it, refuses unknown keys, and names every missing or misshapen tensor.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from molpool_calc.elements import number
from molpool_calc.potential import NeuralPotential, PotentialSpec, count_parameters

FORMAT_VERSION = 1
SPEC_FILE = "potential.json"
WEIGHTS_FILE = "weights.safetensors"
AUDIT_FILE = "audit.json"
KINDS: dict[str, type | tuple[type, ...]] = {
    "format_version": int,
    "units": dict,
    "cutoff": (int, float, type(None)),
    "n_parameters": int,
    "elements": list,
    "network": dict,
    "heads": dict,
    "total_charges": list,
    "num_unpaired": list,
    "terms": dict,
    "training_data": dict,
    "errors": dict,
}
"""Types of the keys of ``potential.json``; the others are text."""
UNITS = {"energy": "eV", "length": "Angstrom", "dipole": "e*Angstrom"}


def bundled_folder() -> Path:
    """Return the folder of bundled potentials, in a wheel or in a source tree."""
    # looked up by path: an editable install does not map data-only sub-packages
    inside = Path(__file__).parent / "potentials"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "potentials"


def bundled_names() -> list[str]:
    """Return the names of the bundled potentials."""
    return sorted(path.parent.name for path in bundled_folder().glob(f"*/{SPEC_FILE}"))


def find_folder(potential: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundled name or of a path.

    Text is taken for a bundled name first; a ``Path`` is never a name, so that a folder
    of one's own may be called like a bundled potential.

    Raises:
        ValueError: neither a bundled name nor a folder that holds a potential.
    """
    if isinstance(potential, str) and potential in bundled_names():
        return bundled_folder() / potential
    folder = Path(potential)
    if (folder / SPEC_FILE).is_file():
        return folder
    raise ValueError(
        f"there is no potential {str(potential)!r}: it is neither a bundled name "
        f"({', '.join(bundled_names())}) nor a folder with a {SPEC_FILE}"
    )


def load_potential(potential: str | os.PathLike[str]) -> NeuralPotential:
    """Return a potential from a bundled name or a folder, in the dtype of its weights.

    Args:
        potential: e.g. ``"painn-ethanol"``, or a path.

    Raises:
        ValueError: no such potential, a corrupt file, a hash that does not match, an
            unknown key, a missing, unknown or misshapen tensor; the message names it.

    Example:
        >>> from molpool_calc import load_potential
        >>> sorted(load_potential("painn-ethanol").spec.symbols)
        ['C', 'H', 'O']
    """
    folder = find_folder(potential)
    content = read_json(folder)
    weights = _read_weights(folder, str(content["sha256"]))
    loaded = NeuralPotential(_spec_from_json(content, folder))
    _fill(loaded, weights, folder / WEIGHTS_FILE)
    _check_stated(content, loaded, folder / SPEC_FILE)
    return loaded


def save_potential(potential: NeuralPotential, folder: str | os.PathLike[str]) -> None:
    """Write a potential folder; each file appears whole or not at all.

    Args:
        potential: its weights are written in their present dtype.
        folder: created where missing.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    weights = _serialized(potential)
    content = {
        "format_version": FORMAT_VERSION,
        "units": UNITS,
        "cutoff": finite_or_none(potential.cutoff),
        "n_parameters": count_parameters(potential),
        "sha256": hashlib.sha256(weights).hexdigest(),
        **_spec_to_json(potential.spec),
    }
    # both are ready before either is written, so that no failure leaves half of them
    text = json.dumps(content, indent=2).encode() + b"\n"
    _write(target / WEIGHTS_FILE, weights)
    _write(target / SPEC_FILE, text)


def finite_or_none(cutoff: float) -> float | None:
    """Return a cutoff as JSON holds it: ``None`` where all pairs interact."""
    return cutoff if isfinite(cutoff) else None


def weights_sha256(potential: NeuralPotential) -> str:
    """Return the hash that ``potential.json`` states of these weights in this dtype."""
    return hashlib.sha256(_serialized(potential)).hexdigest()


def _serialized(potential: NeuralPotential) -> bytes:
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in potential.state_dict().items()
    }
    return save(tensors, metadata={"potential": potential.spec.name})


def copy_folder(potential: str | os.PathLike[str], target: Path) -> None:
    """Copy the folder of a potential."""
    shutil.copytree(find_folder(potential), target)


def save_audit(potential: str | os.PathLike[str], found: Mapping[str, Any]) -> None:
    """Write what an audit found into the folder of the potential.

    Raises:
        ValueError: the audit is of other weights, or there is no such folder.
    """
    folder = find_folder(potential)
    if found["sha256"] != read_json(folder)["sha256"]:
        raise ValueError(f"the audit is not of the weights in {folder}; audit them")
    text = json.dumps(found, indent=2, allow_nan=False).encode() + b"\n"
    _write(folder / AUDIT_FILE, text)


def audit_of(potential: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the audit stored with a potential; ``None`` if none is of its weights."""
    folder = find_folder(potential)
    try:
        found = json.loads((folder / AUDIT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    stated = found.get("sha256") if isinstance(found, dict) else None
    return found if stated == read_json(folder)["sha256"] else None


def read_json(folder: Path) -> dict[str, Any]:
    """Return the content of ``potential.json``, its keys checked.

    Raises:
        ValueError: not readable, of another format version, or with unknown keys.
    """
    path = folder / SPEC_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} is not of format version {FORMAT_VERSION}, which this version of "
            "MolPool reads; update MolPool or export the potential again"
        )
    known = {field.name for field in fields(PotentialSpec)}
    required = {"name", "elements", "network", "heads", "sha256"}
    other = {"format_version", "units", "cutoff", "n_parameters", "sha256"}
    for key in sorted(content.keys() - known - other):
        raise ValueError(f"{path} has the unknown key {key!r}; remove it")
    for key in sorted(required - content.keys()):
        raise ValueError(f"{path} lacks the key {key!r}")
    for key, value in content.items():
        if not isinstance(value, KINDS.get(key, str)):
            raise ValueError(f"{path}: {key} is {value!r}, which is of another type")
    if content.get("units", UNITS) != UNITS:
        raise ValueError(f"{path} states units {content['units']}; allowed are {UNITS}")
    return content


def _spec_to_json(spec: PotentialSpec) -> dict[str, Any]:
    return {**asdict(spec), "elements": spec.symbols}


def _spec_from_json(content: Mapping[str, Any], folder: Path) -> PotentialSpec:
    known = {field.name for field in fields(PotentialSpec)}
    arguments = {key: content[key] for key in content.keys() & known}
    arguments["elements"] = tuple(number(str(symbol)) for symbol in content["elements"])
    for key in ("total_charges", "num_unpaired"):
        values = content.get(key, [0])
        if not all(isinstance(value, int) for value in values):
            raise ValueError(
                f"{folder / SPEC_FILE}: {key} is {values}, but must list integers"
            )
        arguments[key] = tuple(values)
    parts = [("head", content["heads"]), ("term", content.get("terms", {}))]
    for what, tables in parts:
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise ValueError(
                    f"{folder / SPEC_FILE}: {what} {name} is {table!r}, but must be a "
                    "table of its arguments"
                )
    return PotentialSpec(**arguments)


def _check_stated(
    content: Mapping[str, Any], potential: NeuralPotential, path: Path
) -> None:
    """Check the numbers that repeat what the network already says."""
    true = {
        "cutoff": finite_or_none(potential.cutoff),
        "n_parameters": count_parameters(potential),
    }
    for key, value in true.items():
        if content.get(key, value) != value:
            raise ValueError(
                f"{path} states {key} {content[key]}, but its network has {value}; "
                "change the network's arguments, or correct the statement"
            )


def _read_weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    path = folder / WEIGHTS_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} has the SHA-256 {found}, but {SPEC_FILE} states {sha256}: the "
            "weights were changed or damaged; fetch the folder again"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error


def _fill(
    potential: NeuralPotential, weights: Mapping[str, Tensor], path: Path
) -> None:
    expected = potential.state_dict()
    for name in sorted(expected.keys() - weights.keys()):
        raise ValueError(f"{path} lacks the tensor {name}")
    for name in sorted(weights.keys() - expected.keys()):
        raise ValueError(f"{path} has the tensor {name}, unknown to {SPEC_FILE}")
    for name, value in expected.items():
        if weights[name].shape != value.shape:
            raise ValueError(
                f"{path}: tensor {name} has shape {list(weights[name].shape)}, but "
                f"{SPEC_FILE} asks for {list(value.shape)}"
            )
    dtypes = {weight.dtype for weight in weights.values()}
    potential.to(torch.float64 if torch.float64 in dtypes else torch.float32)
    potential.load_state_dict(weights)


def _write(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
