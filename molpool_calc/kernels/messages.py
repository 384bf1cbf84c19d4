"""The messages of each network by kernels, with gradients of all orders.

Values and first derivatives are those of the kernels. Where the derivative shall be
differentiated again (Hessians, training on forces), it is taken of the network as
written, from the same inputs. Weights of the filters get no gradient.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import Edges
from molpool_calc.kernels.filters import DistanceFilter
from molpool_calc.kernels.pairs import SortedPairs

Written = Callable[..., tuple[Tensor, ...]]
"""Inputs → outputs, as the network writes it."""
Inputs = list[Any]
"""Tensors, or ``None``."""


def painn_messages(
    pairs: SortedPairs,
    edges: Edges,
    filters: DistanceFilter,
    written: Written,
    context: Float[Tensor, "atoms three_features"],
    vectors: Float[Tensor, "atoms 3 features"] | None,
) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms 3 features"]]:
    """Return the sums of Eqs. 7 and 8 of Schütt et al. 2021.

    Args:
        pairs: those of ``edges``.
        edges: with unit vectors.
        filters: the three filters one after another.
        written: the same in torch, of distances, unit vectors, context and vectors.
        context: of each atom.
        vectors: of each atom; ``None`` for zeros.
    """
    inputs = (edges.distances, edges.vectors, context, vectors)
    change, received = messages_by(_PaiNN(pairs, filters), written, *inputs)
    return change, received


def schnet_messages(
    pairs: SortedPairs,
    edges: Edges,
    filters: DistanceFilter,
    written: Written,
    values: Float[Tensor, "atoms features"],
) -> Float[Tensor, "atoms features"]:
    """Return Σ_j W(d_ij) ⊙ values_j, Eq. 2 of Schütt et al. 2018.

    Args:
        pairs: those of ``edges``.
        edges: the pairs of atoms.
        filters: W.
        written: the same in torch, of distances and values.
        values: of each atom.
    """
    kernels = _SchNet(pairs, filters)
    (sums,) = messages_by(kernels, written, edges.distances, values)
    return sums


@runtime_checkable
class Kernels(Protocol):
    """Two passes over the pairs: messages, and gradients of their inputs."""

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Return the messages."""
        ...

    def backward(self, inputs: Inputs, gradients: list[Tensor]) -> Inputs:
        """Return the gradients of the inputs from those of the messages."""
        ...


class Passes:
    """What both passes need of the pairs and of the filter."""

    def __init__(self, pairs: SortedPairs, filters: DistanceFilter) -> None:
        self.centers, self.neighbors = both_orders(pairs)
        self.table = filters.table()
        self.scale = self.table.shape[0] / filters.cutoff


def both_orders(pairs: SortedPairs) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return order, beginnings and other ends of the pairs of centers, of neighbors."""
    return (
        (pairs.by_center, pairs.first_of_center, pairs.neighbor),
        (pairs.by_neighbor, pairs.first_of_neighbor, pairs.center),
    )


class _PaiNN(Passes):
    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        from molpool_calc.kernels.triton_painn import messages  # noqa: PLC0415

        distances, units, context, vectors = inputs
        grid = distances * self.scale
        found: tuple[Tensor, Tensor] = messages(
            *self.centers, grid, units, context, vectors, self.table
        )
        return found

    def backward(self, inputs: Inputs, gradients: list[Tensor]) -> Inputs:
        from molpool_calc.kernels.triton_painn import (  # noqa: PLC0415
            messages_backward,
        )

        distances, units, context, vectors = inputs
        grid = distances * self.scale
        slope, *others, of_vectors = messages_backward(
            *self.neighbors, grid, units, context, vectors, self.table, *gradients
        )
        last = None if vectors is None else of_vectors
        return [slope * self.scale, *others, last]


class _SchNet(Passes):
    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        from molpool_calc.kernels.triton_schnet import messages  # noqa: PLC0415

        distances, values = inputs
        return (messages(*self.centers, distances * self.scale, values, self.table),)

    def backward(self, inputs: Inputs, gradients: list[Tensor]) -> Inputs:
        from molpool_calc.kernels.triton_schnet import (  # noqa: PLC0415
            messages_backward,
        )

        distances, values = inputs
        slope, of_values = messages_backward(
            *self.neighbors, distances * self.scale, values, self.table, *gradients
        )
        return [slope * self.scale, of_values]


def messages_by(
    kernels: Kernels, written: Written, *inputs: Tensor | None
) -> tuple[Tensor, ...]:
    """Return the messages of kernels, which ``written`` gives in torch."""
    found: tuple[Tensor, ...] = _Messages.apply(  # type: ignore[no-untyped-call]
        kernels, written, *inputs
    )
    return found


class _Messages(torch.autograd.Function):
    """Kernels in both directions, or the network as written for higher derivatives."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, written: Written, *inputs: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Return what the kernels give."""
        ctx.kernels, ctx.written = kernels, written
        ctx.save_for_backward(*inputs)
        return kernels.forward([None if x is None else x.contiguous() for x in inputs])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return gradients of kernels, or such that can be differentiated again."""
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = _differentiate(ctx.written, inputs, gradients)
        else:
            found = ctx.kernels.backward(
                [None if x is None else x.contiguous() for x in inputs],
                [gradient.contiguous() for gradient in gradients],
            )
        return None, None, *found


def _differentiate(
    written: Written, inputs: tuple[Tensor | None, ...], gradients: tuple[Tensor, ...]
) -> list[Tensor | None]:
    """Return gradients that can be differentiated again."""
    # views, because one input may depend on another
    views = [None if x is None else x.view_as(x) for x in inputs]
    wanted = [x for x in views if x is not None and x.requires_grad]
    found = iter(
        torch.autograd.grad(
            written(*views), wanted, gradients, create_graph=True, allow_unused=True
        )
    )
    return [next(found) if x is not None and x.requires_grad else None for x in views]
