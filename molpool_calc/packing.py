"""All results of one evaluation in one buffer, so that one transfer moves them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from molpool_calc.interfaces import Prediction

TABLES = ("others", "weights")
"""The fields of a prediction that hold tensors under names of their own."""


class Place(NamedTuple):
    """Where a tensor lies in a buffer; ``table`` is empty for a field by itself.

    ``first`` counts items of its type from the start of the buffer.
    """

    table: str
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    first: int


def pack(prediction: Prediction) -> tuple[UInt8[Tensor, " bytes"], list[Place]]:
    """Return a buffer with all tensors of a prediction, and where each of them lies.

    Wide types come first, so that every tensor is aligned.
    """
    rows = sorted(named_tensors(prediction), key=lambda row: -row[1].dtype.itemsize)
    places, start = list[Place](), 0
    flat = []
    for name, given in rows:
        tensor, size = given.contiguous(), given.dtype.itemsize
        shape, strides = tuple(tensor.shape), tensor.stride()
        places.append(Place(*name, tensor.dtype, shape, strides, start // size))
        start += tensor.numel() * size
        flat.append(tensor.view(-1).view(torch.uint8))
    return torch.cat(flat), places


def unpack(buffer: UInt8[Tensor, " bytes"], places: Sequence[Place]) -> Prediction:
    """Return the prediction whose tensors are views of the buffer."""
    fields: dict[str, Any] = {}
    typed: dict[torch.dtype, Tensor] = {}
    for table, name, dtype, shape, strides, first in places:
        if dtype not in typed:  # every type fits to the wider ones before it
            whole = buffer.shape[0] // dtype.itemsize * dtype.itemsize
            typed[dtype] = buffer[:whole].view(dtype)
        part = typed[dtype].as_strided(shape, strides, first)
        if table:
            fields.setdefault(table, {})[name] = part
        else:
            fields[name] = part
    return Prediction(**fields)


def to_host(prediction: Prediction) -> Prediction:
    """Return the prediction on the CPU, after one transfer at most."""
    tensors = [tensor for _, tensor in named_tensors(prediction)]
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return prediction
    buffer, places = pack(prediction)
    return unpack(OnHost(buffer).read(buffer), places)


class OnHost:
    """Page-locked memory for buffers, which a GPU writes to without a second copy.

    Args:
        buffer: one of the size of all of them.
    """

    def __init__(self, buffer: UInt8[Tensor, " bytes"]) -> None:
        self._pinned = torch.empty(
            buffer.shape, dtype=buffer.dtype, pin_memory=buffer.is_cuda
        )

    def read(self, buffer: UInt8[Tensor, " bytes"]) -> UInt8[Tensor, " bytes"]:
        """Return a copy of a buffer, once the device has computed it."""
        self._pinned.copy_(buffer, non_blocking=True)
        if buffer.is_cuda:
            torch.cuda.current_stream(buffer.device).synchronize()
        return self._pinned.clone()


def named_tensors(
    prediction: Prediction,
) -> Iterator[tuple[tuple[str, str], Shaped[Tensor, "..."]]]:
    """Yield all tensors of a prediction, each with its table (or none) and name."""
    for name in Prediction.__dataclass_fields__:
        value = getattr(prediction, name)
        if name in TABLES:
            yield from (((name, key), value[key]) for key in sorted(value or {}))
        elif value is not None:
            yield ("", name), value
