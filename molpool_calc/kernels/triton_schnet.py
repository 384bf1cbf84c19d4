"""Kernels of SchNet's convolution (Schütt et al. 2018, Eq. 2); see ``messages``.

One program for each atom; ``PAIRS`` pairs × ``WIDTH`` features at a time. ``grid`` are
distances in pieces of the filter (``filters``).
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from molpool_calc.kernels.triton_parts import (
    block_sizes,
    filter_and_slope,
    filter_value,
    next_pairs,
    place_of,
)


@triton.jit
def _forward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first,
    neighbor,
    grid,
    values,
    table,
    sums,
    n_pieces,
    n_features,
    N_COEFFICIENTS: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    atom = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)
    own = f < n_features
    total = tl.zeros([PAIRS, WIDTH], dtype=table.dtype.element_ty)
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        piece, rest = place_of(grid, pair, there, n_pieces)
        mask = there[:, None] & own[None, :]
        row = table + (piece * (N_COEFFICIENTS * n_features))[:, None] + f[None, :]
        w = filter_value(row, rest[:, None], mask, n_features, N_COEFFICIENTS)
        other = tl.load(neighbor + pair, mask=there, other=0).to(tl.int64)[:, None]
        x = tl.load(values + other * n_features + f[None, :], mask=mask, other=0.0)
        total += w * x
    tl.store(sums + atom * n_features + f, tl.sum(total, 0), mask=own)


@triton.jit
def _backward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first,
    center,
    grid,
    values,
    table,
    of_sums,
    grid_out,
    values_out,
    n_pieces,
    n_features,
    N_COEFFICIENTS: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    atom = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)
    own = f < n_features
    x = tl.load(values + atom * n_features + f, mask=own, other=0.0)[None, :]
    total = tl.zeros([PAIRS, WIDTH], dtype=table.dtype.element_ty)
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        piece, rest = place_of(grid, pair, there, n_pieces)
        mask = there[:, None] & own[None, :]
        row = table + (piece * (N_COEFFICIENTS * n_features))[:, None] + f[None, :]
        w, slope = filter_and_slope(
            row, rest[:, None], mask, n_features, N_COEFFICIENTS
        )
        other = tl.load(center + pair, mask=there, other=0).to(tl.int64)[:, None]
        g = tl.load(of_sums + other * n_features + f[None, :], mask=mask, other=0.0)
        total += g * w
        tl.store(grid_out + pair, tl.sum(g * x * slope, 1), mask=there)
    tl.store(values_out + atom * n_features + f, tl.sum(total, 0), mask=own)


@torch.library.custom_op(
    "molpool::schnet_messages",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor neighbor, Tensor grid, Tensor values,"
    " Tensor table) -> Tensor",
)
def messages(
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    neighbor: Int[Tensor, " pairs"],
    grid: Float[Tensor, " pairs"],
    values: Float[Tensor, "atoms features"],
    table: Float[Tensor, "pieces coefficients features"],
) -> Float[Tensor, "atoms features"]:
    """Return Σ_j W(d_ij) ⊙ values_j; ``order`` is by center."""
    sums = torch.empty_like(values)
    n_atoms, width = values.shape
    if n_atoms:
        _forward[(n_atoms,)](
            *(order, first, neighbor, grid, values, table, sums),
            *(table.shape[0], width),
            N_COEFFICIENTS=table.shape[1],
            **block_sizes(width),
        )
    return sums


@messages.register_fake
def _(*inputs: Tensor) -> Tensor:
    return torch.empty_like(inputs[4])


@torch.library.custom_op(
    "molpool::schnet_messages_backward",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor center, Tensor grid, Tensor values,"
    " Tensor table, Tensor of_sums) -> (Tensor, Tensor)",
)
def messages_backward(
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    center: Int[Tensor, " pairs"],
    grid: Float[Tensor, " pairs"],
    values: Float[Tensor, "atoms features"],
    table: Float[Tensor, "pieces coefficients features"],
    of_sums: Float[Tensor, "atoms features"],
) -> tuple[Float[Tensor, " pairs"], Float[Tensor, "atoms features"]]:
    """Return the gradients of grid and values; ``order`` is by neighbor."""
    outputs = torch.zeros_like(grid), torch.empty_like(values)
    n_atoms, width = values.shape
    if n_atoms:
        _backward[(n_atoms,)](
            *(order, first, center, grid, values, table, of_sums),
            *(*outputs, table.shape[0], width),
            N_COEFFICIENTS=table.shape[1],
            **block_sizes(width),
        )
    return outputs


@messages_backward.register_fake
def _(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(inputs[3]), torch.empty_like(inputs[4])
