"""What the kernels share: filters from their tables, rows of vectors, block sizes."""

import torch
import triton
import triton.language as tl
from torch import Tensor

PER_WARP = 128
"""Features of one pair that the 32 threads of a warp take, four each."""
ATTENTION_WARPS = 2
LEAST_PRODUCT = 16
"""Least size of a matrix product along each axis."""


def block_sizes(n_features: int) -> dict[str, int]:
    """Return the launch options: features at a time, pairs at a time, warps."""
    width = triton.next_power_of_2(n_features)
    return {
        "WIDTH": width,
        "PAIRS": max(1, PER_WARP // width),
        "num_warps": max(1, width // PER_WARP),
    }


def head_sizes(n_features: int, n_heads: int) -> dict[str, int]:
    """Return the launch options for features that are cut into heads."""
    head = n_features // n_heads
    head_width, heads = triton.next_power_of_2(head), triton.next_power_of_2(n_heads)
    return {
        "N_HEADS": n_heads,
        "HEAD": head,
        "HEADS": heads,
        "HEAD_WIDTH": head_width,
        "PAIRS": max(1, PER_WARP // (heads * head_width)),
        "num_warps": max(1, heads * head_width // PER_WARP),
    }


def attention_sizes(table: Tensor, n_heads: int, first: Tensor) -> dict[str, int]:
    """Return the launch options of attention: sizes of table, heads, hidden layer."""
    n_degrees, n_hidden = first.shape
    head, is_double = table.shape[2] // n_heads, table.dtype == torch.float64
    return {
        "N_HEADS": n_heads,
        "HEAD": head,
        "N_DEGREES": n_degrees,
        "N_COEFFICIENTS": table.shape[1],
        "PAIRS": LEAST_PRODUCT,
        "HEAD_WIDTH": max(LEAST_PRODUCT, triton.next_power_of_2(head)),
        "HIDDEN": max(LEAST_PRODUCT, triton.next_power_of_2(n_hidden)),
        # the registers of fewer warps do not hold the products
        "num_warps": ATTENTION_WARPS * (2 if is_double else 1),
    }


@triton.jit
def filter_value(rows, rest, mask, stride, N_COEFFICIENTS: tl.constexpr):
    """Return the polynomial of each pair at its place ``rest`` in the piece."""
    value = tl.load(rows + (N_COEFFICIENTS - 1) * stride, mask=mask, other=0.0)
    for k in tl.static_range(N_COEFFICIENTS - 1):
        coefficient = rows + (N_COEFFICIENTS - 2 - k) * stride
        value = value * rest + tl.load(coefficient, mask=mask, other=0.0)
    return value


@triton.jit
def filter_and_slope(rows, rest, mask, stride, N_COEFFICIENTS: tl.constexpr):
    """Return the polynomial and its derivative with respect to ``rest``."""
    value = tl.load(rows + (N_COEFFICIENTS - 1) * stride, mask=mask, other=0.0)
    slope = tl.zeros_like(value)
    for k in tl.static_range(N_COEFFICIENTS - 1):
        coefficient = rows + (N_COEFFICIENTS - 2 - k) * stride
        slope = slope * rest + value
        value = value * rest + tl.load(coefficient, mask=mask, other=0.0)
    return value, slope


@triton.jit
def load_three(first, stride, mask):
    """Return three rows ``stride`` apart, zero where masked."""
    x = tl.load(first, mask=mask, other=0.0)
    y = tl.load(first + stride, mask=mask, other=0.0)
    z = tl.load(first + 2 * stride, mask=mask, other=0.0)
    return x, y, z


@triton.jit
def store_three(first, stride, x, y, z, mask):
    """Store three rows ``stride`` apart."""
    tl.store(first, x, mask=mask)
    tl.store(first + stride, y, mask=mask)
    tl.store(first + 2 * stride, z, mask=mask)


@triton.jit
def next_pairs(order, begin, end, PAIRS: tl.constexpr):
    """Return the next pairs of an atom, and which of them there are."""
    place = begin + tl.arange(0, PAIRS)
    there = place < end
    return tl.load(order + place, mask=there, other=0), there


@triton.jit
def place_of(grid, pair, there, n_pieces):
    """Return the pieces of the filter that pairs are in, and the places within."""
    at = tl.load(grid + pair, mask=there, other=0.0)
    # the cutoff itself, to which a distance may round
    piece = tl.minimum(at.to(tl.int32), n_pieces - 1)
    return piece, at - piece - 0.5


@triton.jit
def features_of_heads(
    N_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
):
    """Return features, their heads, and which there are: heads padded to ``HEADS``.

    Each head has ``HEAD`` features, padded to ``HEAD_WIDTH``.
    """
    place = tl.arange(0, HEADS * HEAD_WIDTH)
    head = place // HEAD_WIDTH
    if HEAD == HEAD_WIDTH:
        return place, head, head < N_HEADS
    within = place % HEAD_WIDTH
    return head * HEAD + within, head, (head < N_HEADS) & (within < HEAD)
