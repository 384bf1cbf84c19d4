"""The processes that train together: started by ``torchrun``, or just this one.

Each has a part of every batch. Gradients are added over all, so that the weights are
the same everywhere and equal to those of one process within rounding. Only the first
process reads checkpoints and writes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Processes:
    """All processes of a training, as one of them sees them.

    Attributes:
        rank: of this one.
        size: number of all.
        rank_on_machine: of this one among those on its machine.
    """

    rank: int = 0
    size: int = 1
    rank_on_machine: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def own(self, device: torch.device, n_gpus: int) -> torch.device:
        """Return this process's device of a kind: each has a GPU of its machine.

        Raises:
            ValueError: there are more processes on it than GPUs.
        """
        if device.type == "cpu" or self.size == 1:
            return device
        if self.rank_on_machine >= n_gpus:
            raise ValueError(
                f"{self.rank_on_machine + 1} processes or more were to share the "
                f"{n_gpus} GPUs of a machine; start one for each GPU"
            )
        return torch.device(device.type, self.rank_on_machine)

    def demand_work(self, n_frames: int) -> None:
        """Check that each process has a part of a batch.

        Raises:
            ValueError: there are more processes than frames.
        """
        if n_frames < self.size:
            raise ValueError(
                f"a batch of {n_frames} frames was to be shared by {self.size} "
                "processes; raise training.batch_size, or start fewer"
            )

    def part(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """Return the indices of this process."""
        n = len(indices)
        first, last = self.rank * n // self.size, (self.rank + 1) * n // self.size
        return indices[first:last]

    def add(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sums over all processes."""
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [
            part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)
        ]

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first process makes; the others do not make it."""
        if self.size == 1:
            return make()
        values = [make() if self.is_first else None]
        distributed.broadcast_object_list(values, src=0)
        (value,) = values
        return value  # type: ignore[return-value] # filled by the broadcast

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes in order."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value] # filled by the gathering


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Give the processes that ``torchrun`` has started, or this one alone."""
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield ALONE
        return
    with_gpu = torch.cuda.is_available() and distributed.is_nccl_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if with_gpu else "gloo")
    try:
        yield Processes(
            rank=distributed.get_rank(),
            size=distributed.get_world_size(),
            rank_on_machine=distributed.get_node_local_rank(),
        )
    finally:
        distributed.destroy_process_group()
