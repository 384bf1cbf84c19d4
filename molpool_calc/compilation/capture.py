"""CUDA graphs: the launches of a function, recorded once and repeated without Python.

The one place that touches ``torch.cuda.CUDAGraph``. What is recorded reads and writes
fixed memory, so whoever replays it must first put the inputs where they were.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

N_WARM_UPS = 3
"""Runs before the recording, in which libraries allocate and choose their kernels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """A recording: ``replay`` computes ``output`` anew, in place."""

    replay: Callable[[], None]
    output: Tensor


Capture = Callable[[Callable[[], Tensor], torch.device], Recorded]


def capture(function: Callable[[], Tensor], device: torch.device) -> Recorded:
    """Return the recording of a function of tensors at fixed places.

    Raises:
        RuntimeError: the function waits for the device, allocates on the host, or does
            something else that cannot be recorded.
    """
    current = torch.cuda.current_stream(device)
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(N_WARM_UPS):
            function()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # other threads of the process may go on using the device meanwhile
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        output = function()
    return Recorded(replay=graph.replay, output=output)
