"""Files of ``torch.save`` read as data: a zip of one pickle and its storages.

``torch.load`` is not used: with ``weights_only=False`` it runs the pickle, and with
``weights_only=True`` it refuses whole modules. The pickle is read by
``restricted_pickle``, each storage is an uncompressed entry of the zip, and every
size is checked against the file before it is used.
"""

import hashlib
import io
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from molpool_calc.importers.file_bytes import read_bounded
from molpool_calc.importers.restricted_pickle import (
    Builder,
    Name,
    PickleRules,
    read_pickle,
)

MAX_FILE_BYTES = 2**30
"""A hundred times the largest published model of this kind."""

MAX_AXES = 8

STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
}
"""Type of each storage, little endian as torch writes them."""

DTYPES = frozenset(
    f"torch.{name}" for name in ("float64", "float32", "float16", "int64", "int32")
)
PREFIXES = ("torch.nn.modules.", "torch.nn.functional.", "torch.nn.init.")
ZIP_ERRORS = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeError,
    struct.error,
)
"""What ``zipfile`` raises for damaged, encrypted or unusual archives."""


@dataclass(frozen=True, kw_only=True)
class TorchFile:
    """The object saved in a file, as records and tensors, and the file's SHA-256."""

    root: object
    sha256: str


def read_torch_file(path: Path, *, prefixes: tuple[str, ...]) -> TorchFile:
    """Return what ``torch.save`` wrote, without running any of it.

    Args:
        path: a file in the zip format of torch 1.6 and later.
        prefixes: beginnings of the globals that the file may name besides torch's
            own modules, e.g. ``("schnetpack.",)``.

    Raises:
        ValueError: the file cannot be read, is no such zip, is damaged, or names
            something else; the message names it.
    """
    content = read_bounded(path, MAX_FILE_BYTES)
    try:
        root = _Archive(content).read(prefixes)
    except ValueError as error:
        raise ValueError(f"{path} was refused: {error}") from error
    return TorchFile(root=root, sha256=hashlib.sha256(content).hexdigest())


class _Archive:
    """The entries of the zip, and the storages read so far."""

    def __init__(self, content: bytes) -> None:
        try:
            self.zip = zipfile.ZipFile(io.BytesIO(content))
        except ZIP_ERRORS as error:
            raise ValueError(
                "it is no zip archive, which torch.save writes since torch 1.6; save "
                "an older model again in the program that made it"
            ) from error
        self.entries = _checked_entries(self.zip, len(content))
        pickles = [name for name in self.entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise ValueError(
                "it is a zip archive, but not one of torch.save, which holds exactly "
                "one data.pkl in one folder"
            )
        self.folder = pickles[0].removesuffix("data.pkl")
        order = f"{self.folder}byteorder"
        if order in self.entries and self._entry(order) != b"little":
            raise ValueError("its numbers are big-endian; only little-endian is read")
        self.storages: dict[str, Tensor] = {}

    def read(self, prefixes: tuple[str, ...]) -> object:
        """Return the object in ``data.pkl``."""
        rules = PickleRules(
            names=STORAGES.keys() | DTYPES,
            prefixes=(*PREFIXES, *prefixes),
            builders=_BUILDERS,
            persistent=self._storage,
        )
        return read_pickle(self._entry(f"{self.folder}data.pkl"), rules)

    def _entry(self, name: str) -> bytes:
        if name not in self.entries:
            raise ValueError(f"it lacks the entry {name}")
        try:
            return self.zip.read(self.entries[name])
        except ZIP_ERRORS as error:
            raise ValueError(f"its entry {name} is damaged: {error}") from error

    def _storage(self, key: object) -> Tensor:
        """Return the numbers that ("storage", type, key, device, count) stands for."""
        match key:
            case ("storage", Name(kind), str(entry), str(), int(count)):
                pass
            case _:
                raise ValueError("its pickle refers to something that is no storage")
        if kind not in STORAGES:
            raise ValueError(
                f"its storage {entry} is of the kind {kind}, but only "
                f"{', '.join(STORAGES)} are read"
            )
        dtype = np.dtype(STORAGES[kind])
        if entry not in self.storages:
            raw = self._entry(f"{self.folder}data/{entry}")
            if len(raw) % dtype.itemsize:
                raise ValueError(f"its storage {entry} does not hold whole numbers")
            numbers = np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))
            self.storages[entry] = torch.from_numpy(numbers)
        storage = self.storages[entry]
        found = np.dtype(STORAGES[kind]).newbyteorder("=")
        if storage.shape[0] != count or storage.numpy().dtype != found:
            raise ValueError(
                f"its storage {entry} holds {storage.shape[0]} numbers of "
                f"{storage.dtype}, but its pickle states {count} of {kind}"
            )
        return storage


def _checked_entries(
    archive: zipfile.ZipFile, n_bytes: int
) -> Mapping[str, zipfile.ZipInfo]:
    """Return the entries by name; all uncompressed and together not above the file."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise ValueError("its zip archive has two entries of the same name")
    for name, entry in entries.items():
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError(
                f"its entry {name} is compressed or encrypted, which torch.save never "
                "does"
            )
    # entries that overlap could stand for far more than the file holds
    if sum(entry.file_size for entry in entries.values()) > n_bytes:
        raise ValueError("its entries claim more bytes than the file has")
    return entries


def _rebuild_tensor(arguments: tuple[object, ...]) -> Tensor:
    """Return the view of a storage with (offset, size, stride), all checked."""
    match arguments:
        case (Tensor() as storage, int(offset), tuple(size), tuple(stride), *_) if (
            storage.dim() == 1 and len(size) == len(stride)
        ):
            pass
        case _:
            raise ValueError("its pickle describes a tensor in an unknown way")
    shape, steps = _naturals(size), _naturals(stride)
    n = math.prod(shape)
    last = offset + sum((m - 1) * s for m, s in zip(shape, steps, strict=True))
    if offset < 0 or n == 0 or n > storage.shape[0] or last >= storage.shape[0]:
        raise ValueError(
            f"its pickle takes a tensor of shape {list(shape)} out of "
            f"{storage.shape[0]} numbers, which does not fit"
        )
    return storage.as_strided(shape, steps, offset)


def _naturals(values: tuple[object, ...]) -> tuple[int, ...]:
    if len(values) > MAX_AXES:
        raise ValueError(f"its pickle describes a tensor of {len(values)} axes")
    checked = []
    for value in values:
        # torch counts in 64-bit integers
        if type(value) is not int or not 0 <= value < 2**40:
            raise ValueError("its pickle describes a tensor of an impossible shape")
        checked.append(value)
    return tuple(checked)


def _first(arguments: tuple[object, ...]) -> object:
    if not arguments:
        raise ValueError("its pickle calls a function without its argument")
    return arguments[0]


def _ordered_dict(arguments: tuple[object, ...]) -> object:
    if arguments:
        raise ValueError("its pickle makes an ordered dict in an unknown way")
    return {}


def _set(arguments: tuple[object, ...]) -> object:
    match arguments:
        case ([*items],) if all(isinstance(item, str) for item in items):
            return set(items)
    raise ValueError("its pickle makes a set of something else than names")


_BUILDERS: Mapping[str, Builder] = {
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch.Size": _first,
    "torch.device": _first,
    "collections.OrderedDict": _ordered_dict,
    "builtins.set": _set,
    "__builtin__.set": _set,
}
"""Our own stand-in for each function that a saved module calls."""
