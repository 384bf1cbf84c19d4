"""Filters of the distance as piecewise polynomials.

However many layers and functions a filter W(d) is made of, it depends on one number.
With the pieces narrow against the functions it is made of, a polynomial through the
filter's own values in float64 reproduces value and slope to the rounding of the dtype:
with N = 96 pieces per radial function and degree 3 in float32, N = 32 and degree 7 in
float64. (Lu et al., J. Chem. Theory Comput. 18, 5559 (2022) do so for another network,
to a chosen accuracy.) A pair then costs the same whatever the network of its filter.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from math import cos, pi
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

PIECES = {torch.float32: (96, 3), torch.float64: (32, 7)}
"""Pieces for each radial function, and their degree."""

Weights = list[tuple[Tensor, int, torch.dtype, torch.device]]


class DistanceFilter:
    """A function of the distance made of modules, and its table of polynomials.

    Args:
        function: maps the modules and distances to the filter, zero beyond the cutoff
            or multiplied later by what is.
        modules: whose weights it has; they stay those of the network.
        cutoff: in Å, where the table ends.
        n_rbf: number of radial functions, which sets how narrow the pieces are.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        *modules: nn.Module,
        cutoff: float,
        n_rbf: int,
    ) -> None:
        self.function, self.modules = function, modules
        self.cutoff, self.n_rbf = cutoff, n_rbf
        self._made: tuple[Weights, Tensor] | None = None

    def __call__(
        self, distances: Float[Tensor, " pairs"]
    ) -> Float[Tensor, "pairs features"]:
        """Return the filter as the network writes it."""
        return self.function(*self.modules, distances)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the table, which is made again."""
        return {**self.__dict__, "_made": None}

    @property
    def frozen(self) -> bool:
        """Whether no weight of the filter asks for a gradient."""
        return not any(tensor.requires_grad for tensor in self._tensors())

    def table(self) -> Float[Tensor, "pieces coefficients features"]:
        """Return the coefficients of the powers of the place within each piece.

        The whole part of d·pieces/cutoff is the piece, the rest the place within it,
        here from −½ to ½. Made anew when a weight changed.
        """
        now = [
            (tensor, _version(tensor), tensor.dtype, tensor.device)
            for tensor in self._tensors()
        ]
        if self._made is None or not _same(self._made[0], now):
            self._made = (now, self._tabulate())
        return self._made[1]

    def _tensors(self) -> Iterator[Tensor]:
        for module in self.modules:
            yield from module.parameters()
            yield from module.buffers()

    def _tabulate(self) -> Float[Tensor, "pieces coefficients features"]:
        like = next(t for t in self._tensors() if t.is_floating_point())
        per_function, degree = PIECES[like.dtype]
        n_pieces = per_function * self.n_rbf
        # both ends and the Chebyshev points between
        places = torch.tensor(
            [-0.5 * cos(pi * k / degree) for k in range(degree + 1)],
            dtype=torch.float64,
        )
        powers = torch.linalg.inv(torch.vander(places, increasing=True))
        piece = torch.arange(n_pieces, dtype=torch.float64, device=like.device)
        nodes = piece[:, None] + 0.5 + places.to(like.device)
        exact = [deepcopy(module).double() for module in self.modules]
        with torch.no_grad():
            values = self.function(*exact, nodes.flatten() * (self.cutoff / n_pieces))
            values = values.view(n_pieces, degree + 1, -1)
            coefficients: Tensor = powers.to(like.device) @ values
        return coefficients.to(like.dtype)


def _version(tensor: Tensor) -> int:
    # what was made in inference mode cannot change and counts no changes
    return 0 if tensor.is_inference() else int(tensor._version)


def _same(before: Weights, now: Weights) -> bool:
    return all(
        old[0] is new[0] and old[1:] == new[1:]
        for old, new in zip(before, now, strict=True)
    )
