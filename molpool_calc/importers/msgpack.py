"""MessagePack with the arrays of flax, read as data.

Own and strict: no object other than maps, lists, text, bytes, numbers, nil, booleans
and flax's arrays (extension 1) is made, nothing is executed, and every size is checked
against the bytes that are there before anything of that size is made.
"""

import math
import struct
from collections.abc import Callable

import torch
from torch import Tensor

MAX_DEPTH = 32
MAX_AXES = 8
ARRAY = 1
"""Extension of flax for an array: a MessagePack list of shape, dtype and bytes."""

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
SIZED = {  # code: (kind, format of the size)
    0xC4: ("bin", ">B"),
    0xC5: ("bin", ">H"),
    0xC6: ("bin", ">I"),
    0xC7: ("ext", ">B"),
    0xC8: ("ext", ">H"),
    0xC9: ("ext", ">I"),
    0xD9: ("str", ">B"),
    0xDA: ("str", ">H"),
    0xDB: ("str", ">I"),
    0xDC: ("list", ">H"),
    0xDD: ("list", ">I"),
    0xDE: ("map", ">H"),
    0xDF: ("map", ">I"),
}
FIXED_EXT = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


def read_msgpack(content: bytes) -> object:
    """Return the one object in ``content``; arrays become tensors.

    Raises:
        ValueError: truncated or left-over bytes, an unknown code or extension, a key
            that is no text or stands twice, too deep nesting, a damaged array.
    """
    reader = _Reader(content)
    value = reader.value(0)
    if reader.offset != len(content):
        raise ValueError(
            f"{len(content) - reader.offset} bytes are left over at byte "
            f"{reader.offset}: it is no MessagePack file or a damaged one"
        )
    return value


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content, self.offset = content, 0

    def take(self, size: int) -> bytes:
        if size > len(self.content) - self.offset:
            raise ValueError(
                f"it ends within a value of {size} bytes at byte {self.offset}: the "
                "file is truncated"
            )
        taken = self.content[self.offset : self.offset + size]
        self.offset += size
        return taken

    def number(self, form: str) -> int | float:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        assert isinstance(value, int | float)
        return value

    def value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}, which no model is")
        code = self.take(1)[0]
        if code in CONSTANTS:
            return CONSTANTS[code]
        if code in NUMBERS:
            return self.number(NUMBERS[code])
        if code < 0x80 or code >= 0xE0:  # noqa: PLR2004 - the format's small integers
            return code if code < 0x80 else code - 0x100  # noqa: PLR2004
        kind, size = self.kind_and_size(code)
        read: Callable[[int, int], object] = getattr(self, f"read_{kind}")
        return read(size, depth)

    def kind_and_size(self, code: int) -> tuple[str, int]:
        if code in SIZED:
            kind, form = SIZED[code]
            return kind, int(self.number(form))
        if code in FIXED_EXT:
            return "ext", FIXED_EXT[code]
        for first, kind, mask in ((0xA0, "str", 31), (0x90, "list", 15)):
            if first <= code <= first + mask:
                return kind, code & mask
        if 0x80 <= code <= 0x8F:  # noqa: PLR2004 - the format's small maps
            return "map", code & 15
        raise ValueError(f"byte {self.offset - 1} has the unknown code {code}")

    def read_bin(self, size: int, depth: int) -> bytes:
        del depth
        return self.take(size)

    def read_str(self, size: int, depth: int) -> str:
        del depth
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"text at byte {self.offset - size} is no UTF-8"
            ) from error

    def read_list(self, size: int, depth: int) -> list[object]:
        self.require(size)
        return [self.value(depth + 1) for _ in range(size)]

    def read_map(self, size: int, depth: int) -> dict[str, object]:
        self.require(2 * size)
        result: dict[str, object] = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in result:
                raise ValueError(
                    f"the key {str(key)[:40]!r} is no text or stands twice"
                )
            result[key] = self.value(depth + 1)
        return result

    def require(self, n_values: int) -> None:
        """Check that there is at least a byte for each of the values to come."""
        if n_values > len(self.content) - self.offset:
            raise ValueError(
                f"{n_values} values are announced at byte {self.offset}, but only "
                f"{len(self.content) - self.offset} bytes are left: it is truncated"
            )

    def read_ext(self, size: int, depth: int) -> Tensor:
        (code,) = struct.unpack(">b", self.take(1))
        content = self.take(size)
        if code != ARRAY:
            raise ValueError(
                f"it has an object of the extension {code}; only arrays, extension "
                f"{ARRAY}, are read"
            )
        inner = _Reader(content)
        value = inner.value(depth + 1)
        if inner.offset != len(content):
            raise ValueError("an array has bytes left over: the file is damaged")
        return _array(value)


def _array(value: object) -> Tensor:
    match value:
        case [list(shape), str(name), bytes(content)] if name in DTYPES:
            pass
        case [_, str(name), _] if name not in DTYPES:
            raise ValueError(
                f"an array has the type {name[:40]!r}; allowed are {', '.join(DTYPES)}"
            )
        case _:
            raise ValueError("an array is not a list of shape, type and bytes")
    sizes = [size for size in shape if type(size) is int and size >= 0]
    dtype = DTYPES[name]
    if len(sizes) != len(shape) or len(shape) > MAX_AXES:
        raise ValueError("the shape of an array does not list whole numbers")
    if math.prod(sizes) * dtype.itemsize != len(content):
        raise ValueError(
            f"an array of shape {sizes} and type {name} has {len(content)} bytes"
        )
    if not content:
        return torch.zeros(sizes, dtype=dtype)
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(sizes)
