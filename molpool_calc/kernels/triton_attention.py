"""Kernels of So3krates' attention weights; see ``messages``.

Σ_g q_i,hg k_j,hg w_ij,hg for each pair and head h, with the filter

    w_ij = W(d_ij) + silu(c_ij A + a) B

of distances and of the invariants c of both atoms' spherical coordinates. One program
for each atom and head, except for the gradients of pairs; ``PAIRS`` pairs × the
features of a head at a time, padded to a power of two. ``grid`` are distances in pieces
of W (``filters``).
"""

import triton
import triton.language as tl

from molpool_calc.kernels.triton_parts import (
    filter_and_slope,
    filter_value,
    next_pairs,
    place_of,
)


@triton.jit
def _hidden(
    invariants,
    pair,
    there,
    first,
    bias,
    n_hidden,
    N_DEGREES: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    """Return c A + a of each pair."""
    m = tl.arange(0, HIDDEN)
    sums = tl.load(bias + m, mask=m < n_hidden, other=0.0)[None, :]
    for l in tl.static_range(N_DEGREES):
        c = tl.load(invariants + pair * N_DEGREES + l, mask=there, other=0.0)
        row = tl.load(first + l * n_hidden + m, mask=m < n_hidden, other=0.0)
        sums += c[:, None] * row[None, :]
    return sums


@triton.jit
def _second(
    second, f, g, n_hidden, n_features, HEAD: tl.constexpr, HIDDEN: tl.constexpr
):
    """Return the columns of B of one head, zero where padded."""
    m = tl.arange(0, HIDDEN)[:, None]
    at = second + m * n_features + f[None, :]
    return tl.load(at, mask=(m < n_hidden) & (g < HEAD)[None, :], other=0.0)


@triton.jit
def weights_forward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first_pair,
    neighbor,
    grid,
    invariants,
    queries,
    keys,
    table,
    first,
    bias,
    second,
    weights_out,
    n_pieces,
    n_hidden,
    N_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    N_DEGREES: tl.constexpr,
    N_COEFFICIENTS: tl.constexpr,
    PAIRS: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    """Store Σ_g q_i,hg k_j,hg w_ij,hg; ``order`` is by center."""
    atom, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    n_features: tl.constexpr = N_HEADS * HEAD
    g = tl.arange(0, HEAD_WIDTH)
    f = head * HEAD + g
    q = tl.load(queries + atom * n_features + f, mask=g < HEAD, other=0.0)[None, :]
    if N_DEGREES > 0:
        b = _second(second, f, g, n_hidden, n_features, HEAD, HIDDEN)
    end = tl.load(first_pair + atom + 1)
    for begin in range(tl.load(first_pair + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        piece, rest = place_of(grid, pair, there, n_pieces)
        mask = there[:, None] & (g < HEAD)[None, :]
        row = table + (piece * (N_COEFFICIENTS * n_features))[:, None] + f[None, :]
        w = filter_value(row, rest[:, None], mask, n_features, N_COEFFICIENTS)
        if N_DEGREES > 0:
            c = _hidden(
                invariants, pair, there, first, bias, n_hidden, N_DEGREES, HIDDEN
            )
            w += tl.dot(c * tl.sigmoid(c), b, input_precision="ieee", out_dtype=w.dtype)
        other = tl.load(neighbor + pair, mask=there, other=0).to(tl.int64)[:, None]
        k = tl.load(keys + other * n_features + f[None, :], mask=mask, other=0.0)
        to = weights_out + pair * N_HEADS + head
        tl.store(to, tl.sum(q * k * w, 1), mask=there)


@triton.jit
def ends_backward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first_pair,
    other_end,
    grid,
    invariants,
    of_others,
    table,
    first,
    bias,
    second,
    of_weights,
    gradient_out,
    n_pieces,
    n_hidden,
    N_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    N_DEGREES: tl.constexpr,
    N_COEFFICIENTS: tl.constexpr,
    PAIRS: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    """Store the gradient of queries (by center, of keys) or keys (by neighbor)."""
    atom, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    n_features: tl.constexpr = N_HEADS * HEAD
    g = tl.arange(0, HEAD_WIDTH)
    f = head * HEAD + g
    if N_DEGREES > 0:
        b = _second(second, f, g, n_hidden, n_features, HEAD, HIDDEN)
    total = tl.zeros([PAIRS, HEAD_WIDTH], dtype=table.dtype.element_ty)
    end = tl.load(first_pair + atom + 1)
    for begin in range(tl.load(first_pair + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        piece, rest = place_of(grid, pair, there, n_pieces)
        mask = there[:, None] & (g < HEAD)[None, :]
        row = table + (piece * (N_COEFFICIENTS * n_features))[:, None] + f[None, :]
        w = filter_value(row, rest[:, None], mask, n_features, N_COEFFICIENTS)
        if N_DEGREES > 0:
            c = _hidden(
                invariants, pair, there, first, bias, n_hidden, N_DEGREES, HIDDEN
            )
            w += tl.dot(c * tl.sigmoid(c), b, input_precision="ieee", out_dtype=w.dtype)
        other = tl.load(other_end + pair, mask=there, other=0).to(tl.int64)[:, None]
        x = tl.load(of_others + other * n_features + f[None, :], mask=mask, other=0.0)
        of = tl.load(of_weights + pair * N_HEADS + head, mask=there, other=0.0)
        total += w * x * of[:, None]
    to = gradient_out + atom * n_features + f
    tl.store(to, tl.sum(total, 0), mask=g < HEAD)


@triton.jit
def pairs_backward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first_pair,
    neighbor,
    grid,
    invariants,
    queries,
    keys,
    table,
    first,
    bias,
    second,
    of_weights,
    grid_out,
    invariants_out,
    n_pieces,
    n_hidden,
    N_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    N_DEGREES: tl.constexpr,
    N_COEFFICIENTS: tl.constexpr,
    PAIRS: tl.constexpr,
    HEAD_WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    """Store the gradients of distances and invariants, head after head; by center."""
    atom = tl.program_id(0).to(tl.int64)
    n_features: tl.constexpr = N_HEADS * HEAD
    g = tl.arange(0, HEAD_WIDTH)
    m = tl.arange(0, HIDDEN)
    end = tl.load(first_pair + atom + 1)
    for begin in range(tl.load(first_pair + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        piece, rest = place_of(grid, pair, there, n_pieces)
        other = tl.load(neighbor + pair, mask=there, other=0).to(tl.int64)
        mask = there[:, None] & (g < HEAD)[None, :]
        of_grid = tl.zeros([PAIRS], dtype=table.dtype.element_ty)
        of_c = tl.zeros([PAIRS, HIDDEN], dtype=table.dtype.element_ty)
        for head in range(N_HEADS):
            f = head * HEAD + g
            q = tl.load(queries + atom * n_features + f, mask=g < HEAD, other=0.0)
            at = keys + (other * n_features)[:, None] + f[None, :]
            of = tl.load(of_weights + pair * N_HEADS + head, mask=there, other=0.0)
            of_filter = q[None, :] * tl.load(at, mask=mask, other=0.0) * of[:, None]
            row = table + (piece * (N_COEFFICIENTS * n_features))[:, None] + f[None, :]
            _, slope = filter_and_slope(
                row, rest[:, None], mask, n_features, N_COEFFICIENTS
            )
            of_grid += tl.sum(of_filter * slope, 1)
            if N_DEGREES > 0:
                at = second + m[None, :] * n_features + f[:, None]
                inside = (m < n_hidden)[None, :] & (g < HEAD)[:, None]
                b = tl.load(at, mask=inside, other=0.0)
                of_c += tl.dot(
                    of_filter, b, input_precision="ieee", out_dtype=of_c.dtype
                )
        tl.store(grid_out + pair, of_grid, mask=there)
        if N_DEGREES > 0:
            c = _hidden(
                invariants, pair, there, first, bias, n_hidden, N_DEGREES, HIDDEN
            )
            s = tl.sigmoid(c)
            of_c *= s * (1.0 + c * (1.0 - s))
            for l in tl.static_range(N_DEGREES):
                a = tl.load(first + l * n_hidden + m, mask=m < n_hidden, other=0.0)
                to = invariants_out + pair * N_DEGREES + l
                tl.store(to, tl.sum(of_c * a[None, :], 1), mask=there)
