"""Kernels of sums over neighbors weighted by head; see ``messages``.

One program for each atom; ``PAIRS`` pairs × all features at a time, the features of a
head padded to a power of two.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from molpool_calc.kernels.triton_parts import features_of_heads, head_sizes, next_pairs


@triton.jit
def _forward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first,
    neighbor,
    weights,
    values,
    sums,
    N_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    PAIRS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
):
    atom = tl.program_id(0).to(tl.int64)
    f, head, own = features_of_heads(N_HEADS, HEAD, HEADS, HEAD_WIDTH)
    n_features: tl.constexpr = N_HEADS * HEAD
    total = tl.zeros([PAIRS, HEADS * HEAD_WIDTH], dtype=values.dtype.element_ty)
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        mask = there[:, None] & own[None, :]
        other = tl.load(neighbor + pair, mask=there, other=0).to(tl.int64)
        at = weights + pair[:, None] * N_HEADS + head[None, :]
        w = tl.load(at, mask=mask, other=0.0)
        at = values + other[:, None] * n_features + f[None, :]
        total += w * tl.load(at, mask=mask, other=0.0)
    tl.store(sums + atom * n_features + f, tl.sum(total, 0), mask=own)


@triton.jit
def _backward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first,
    center,
    weights,
    values,
    of_sums,
    weights_out,
    values_out,
    N_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    PAIRS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
):
    atom = tl.program_id(0).to(tl.int64)
    f, head, own = features_of_heads(N_HEADS, HEAD, HEADS, HEAD_WIDTH)
    n_features: tl.constexpr = N_HEADS * HEAD
    v = tl.load(values + atom * n_features + f, mask=own, other=0.0)[None, :]
    total = tl.zeros([PAIRS, HEADS * HEAD_WIDTH], dtype=values.dtype.element_ty)
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        mask = there[:, None] & own[None, :]
        other = tl.load(center + pair, mask=there, other=0).to(tl.int64)
        at = of_sums + other[:, None] * n_features + f[None, :]
        g = tl.load(at, mask=mask, other=0.0)
        at = weights + pair[:, None] * N_HEADS + head[None, :]
        total += g * tl.load(at, mask=mask, other=0.0)
        of_heads = tl.sum(tl.reshape(g * v, (PAIRS, HEADS, HEAD_WIDTH)), 2)
        h = tl.arange(0, HEADS)[None, :]
        to = weights_out + pair[:, None] * N_HEADS + h
        tl.store(to, of_heads, mask=there[:, None] & (h < N_HEADS))
    tl.store(values_out + atom * n_features + f, tl.sum(total, 0), mask=own)


@torch.library.custom_op(
    "molpool::weighted_by_head",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor neighbor, Tensor weights,"
    " Tensor values) -> Tensor",
)
def sums(
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    neighbor: Int[Tensor, " pairs"],
    weights: Float[Tensor, "pairs heads"],
    values: Float[Tensor, "atoms features"],
) -> Float[Tensor, "atoms features"]:
    """Return Σ_j weights_ijh values_jhf; ``order`` is by center."""
    out = torch.empty_like(values)
    if len(values):
        sizes = head_sizes(values.shape[1], weights.shape[1])
        _forward[(len(values),)](order, first, neighbor, weights, values, out, **sizes)
    return out


@sums.register_fake
def _(*inputs: Tensor) -> Tensor:
    return torch.empty_like(inputs[4])


@torch.library.custom_op(
    "molpool::weighted_by_head_backward",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor center, Tensor weights,"
    " Tensor values, Tensor of_sums) -> (Tensor, Tensor)",
)
def sums_backward(
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    center: Int[Tensor, " pairs"],
    weights: Float[Tensor, "pairs heads"],
    values: Float[Tensor, "atoms features"],
    of_sums: Float[Tensor, "atoms features"],
) -> tuple[Float[Tensor, "pairs heads"], Float[Tensor, "atoms features"]]:
    """Return the gradients of weights and values; ``order`` is by neighbor."""
    outputs = torch.zeros_like(weights), torch.empty_like(values)
    if len(values):
        sizes = head_sizes(values.shape[1], weights.shape[1])
        _backward[(len(values),)](
            *(order, first, center, weights, values, of_sums, *outputs), **sizes
        )
    return outputs


@sums_backward.register_fake
def _(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(inputs[3]), torch.empty_like(inputs[4])
