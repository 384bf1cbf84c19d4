"""Pickles of plain tables with NumPy arrays, read as data.

A pickled array is a call of ``_reconstruct`` and a state: version, shape, type, order
and bytes. ``restricted_pickle`` notes both down; the arrays are made here from the
bytes, every size checked first. NumPy's own functions are never called.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from molpool_calc.importers.file_bytes import read_bounded
from molpool_calc.importers.restricted_pickle import (
    Name,
    PickleRules,
    Record,
    read_pickle,
)

ARRAY, DTYPE = "numpy.ndarray", "numpy.dtype"
MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
"""Where NumPy 1 and NumPy 2 keep the functions that their pickles name."""

NUMBERS = {"f8": 8, "f4": 4, "f2": 2, "i8": 8, "i4": 4}
"""Types that are read, with their bytes; all little endian."""

MAX_FILE_BYTES, MAX_AXES, MAX_DEPTH = 4 * 2**20, 8, 20


@dataclass(frozen=True, kw_only=True)
class NumpyTree:
    """Arrays by the dotted names of their tables, and the file's SHA-256."""

    tensors: dict[str, Tensor]
    sha256: str


def read_numpy_pickle(path: Path) -> NumpyTree:
    """Return the arrays in a pickle of nested tables, without running any of it.

    Raises:
        ValueError: the file cannot be read, is damaged, or has anything else than
            tables of arrays of numbers; the message names it.
    """
    content = read_bounded(path, MAX_FILE_BYTES)
    try:
        tensors = dict(_tensors(read_pickle(content, _RULES), "", 0))
    except ValueError as error:
        raise ValueError(f"{path} was refused: {error}") from error
    return NumpyTree(tensors=tensors, sha256=hashlib.sha256(content).hexdigest())


def _tensors(table: object, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the arrays of a table and of the tables in it."""
    where = prefix.removesuffix(".") or "its content"
    if not isinstance(table, dict) or depth > MAX_DEPTH:
        raise ValueError(f"{where} is no table of arrays, or lies too deep")
    for key, value in table.items():
        if not isinstance(key, str):
            raise ValueError(f"{where} has a key that is no text")
        name = f"{prefix}{key}"
        if isinstance(value, Record) and value.kind == ARRAY:
            yield name, _tensor(value, name)
        else:
            yield from _tensors(value, f"{name}.", depth + 1)


def _tensor(array: Record, name: str) -> Tensor:
    match array.state:
        case (1, tuple(shape), Record() as dtype, bool(fortran), bytes(raw)):
            pass
        case _:
            raise ValueError(f"the array {name} is described in an unknown way")
    if len(shape) > MAX_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"the array {name} has an impossible shape")
    code = _type_code(dtype, name)
    if math.prod(shape) * NUMBERS[code] != len(raw) or fortran:
        raise ValueError(
            f"the array {name} of shape {list(shape)} does not fit its {len(raw)} "
            "bytes, or is in column order"
        )
    numbers = np.frombuffer(raw, np.dtype(f"<{code}"))
    native = numbers.astype(numbers.dtype.newbyteorder("="))
    return torch.from_numpy(native).reshape([int(n) for n in shape])


def _type_code(dtype: Record, name: str) -> str:
    match dtype.arguments, dtype.state:
        case (str(code), *_), (3, "<", None, None, None, -1, -1, 0) if (
            code in NUMBERS and dtype.kind == DTYPE
        ):
            return code
    raise ValueError(
        f"the array {name} is of a type that is not read; only little-endian "
        f"{', '.join(NUMBERS)} are"
    )


def _reconstruct(arguments: tuple[object, ...]) -> object:
    match arguments:
        case (Name(kind), (0,), bytes()) if kind == ARRAY:
            return Record(ARRAY, ())
    raise ValueError("its pickle makes an array in an unknown way")


def _dtype(arguments: tuple[object, ...]) -> object:
    return Record(DTYPE, arguments)


def _no_reference(key: object) -> object:
    raise ValueError(f"its pickle refers to {str(key)[:50]!r}, which is not in it")


_RULES = PickleRules(
    names=frozenset({ARRAY}),
    prefixes=(),
    builders={
        DTYPE: _dtype,
        **{f"{module}._reconstruct": _reconstruct for module in MODULES},
    },
    persistent=_no_reference,
    tuple_states=frozenset({ARRAY, DTYPE}),
)
