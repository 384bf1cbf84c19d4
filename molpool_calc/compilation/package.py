"""A package in use: inputs checked, since the compiled code does not check them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from molpool_calc.compilation.request import Request, names_of

CPU = torch.device("cpu")
N_INTEGERS = (0, 4, 5)
"""Places of the inputs that are whole numbers: elements and both ends of the pairs."""


def refusal_path(target: Path) -> Path:
    """Return where the reason stands why there is no package."""
    return target.with_suffix(".refused")


class Package:
    """Compiled code of one request.

    Args:
        path: of the package.
        request: what it computes.
        dtype: of its real inputs.
        device: for which it was compiled.
    """

    def __init__(
        self,
        path: Path,
        request: Request,
        dtype: torch.dtype,
        device: torch.device = CPU,
    ) -> None:
        self.request, self.dtype, self.device = request, dtype, device
        self.names = names_of(request)
        # what lets threads share a package cannot be recorded as a CUDA graph
        single_threaded = device.type != "cpu"
        # as many runs at the same time as there are threads, see `Batches`
        n_runs = 1 if single_threaded else torch.get_num_threads()
        # the public loader imports the whole compiler, which takes seconds
        self._loader = torch._C._aoti.AOTIModelPackageLoader(
            str(path), "model", single_threaded, n_runs, -1
        )

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs in the order of ``names``.

        Raises:
            TypeError: an input of another type, layout or device than was compiled.
        """
        for place, tensor in enumerate(inputs):
            dtype = torch.int64 if place in N_INTEGERS else self.dtype
            if (
                tensor.dtype != dtype
                or not tensor.is_contiguous()
                or tensor.device.type != self.device.type
            ):
                raise TypeError(
                    f"input {place} of a package is {tensor.dtype} on {tensor.device}, "
                    f"but must be contiguous {dtype} on {self.device.type}"
                )
        outputs: list[Tensor] = self._loader.run(list(inputs))
        return outputs
