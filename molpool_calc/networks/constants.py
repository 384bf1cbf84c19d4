"""Constants of a network that no dtype rounds."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Constants(nn.Module):
    """Constants that follow dtype and device, and are exact in float64.

    A float32 buffer that is made float64 keeps the rounding of float32. Here the
    originals stay in float64, and whatever ``to``, ``double`` or ``cuda`` made of the
    copies in use is replaced by them. They are no part of the weights.

    Args:
        constants: float64, by the name of the attribute.
    """

    def __init__(self, **constants: Tensor) -> None:
        super().__init__()
        self._originals = constants
        for name, value in constants.items():
            copy = value.to(torch.get_default_dtype())
            self.register_buffer(name, copy, persistent=False)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "Constants":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in self._originals.items():
            setattr(self, name, value.to(getattr(self, name)))
        return self
