"""Kernels of PaiNN's messages (Schütt et al. 2021, Eqs. 7 and 8); see ``messages``.

One program for each atom; ``PAIRS`` pairs × ``WIDTH`` features at a time. ``grid`` are
distances in pieces of the filter (``filters``). The filters s, d, v are those of the
scalars, of the directions and of the vectors.
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
    load_three,
    next_pairs,
    place_of,
    store_three,
)


@triton.jit
def _forward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first,
    neighbor,
    grid,
    units,
    context,
    vectors,
    table,
    scalars_out,
    vectors_out,
    n_pieces,
    n_features,
    HAS_VECTORS: tl.constexpr,
    N_COEFFICIENTS: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    atom = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)
    own, stride = f < n_features, 3 * n_features
    zero = tl.zeros([PAIRS, WIDTH], dtype=table.dtype.element_ty)
    scalar, x, y, z = zero, zero, zero, zero
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        piece, rest = place_of(grid, pair, there, n_pieces)
        mask, s = there[:, None] & own[None, :], rest[:, None]
        row = table + (piece * (N_COEFFICIENTS * stride))[:, None] + f[None, :]
        other = tl.load(neighbor + pair, mask=there, other=0).to(tl.int64)
        at_other = (other * stride)[:, None] + f[None, :]
        c_s, c_d, c_v = load_three(context + at_other, n_features, mask)
        scalar += c_s * filter_value(row, s, mask, stride, N_COEFFICIENTS)
        u_x, u_y, u_z = load_three(units + 3 * pair, 1, there)
        gate = c_d * filter_value(row + n_features, s, mask, stride, N_COEFFICIENTS)
        x += gate * u_x[:, None]
        y += gate * u_y[:, None]
        z += gate * u_z[:, None]
        if HAS_VECTORS:
            v_x, v_y, v_z = load_three(vectors + at_other, n_features, mask)
            row += 2 * n_features
            gate = c_v * filter_value(row, s, mask, stride, N_COEFFICIENTS)
            x += gate * v_x
            y += gate * v_y
            z += gate * v_z
    tl.store(scalars_out + atom * n_features + f, tl.sum(scalar, 0), mask=own)
    to = vectors_out + atom * stride + f
    store_three(to, n_features, tl.sum(x, 0), tl.sum(y, 0), tl.sum(z, 0), own)


@triton.jit
def _backward(  # noqa: PLR0913, PLR0915, PLR0917 - one pointer for each array
    order,
    first,
    center,
    grid,
    units,
    context,
    vectors,
    table,
    of_scalars,
    of_vectors,
    grid_out,
    units_out,
    context_out,
    vectors_out,
    n_pieces,
    n_features,
    HAS_VECTORS: tl.constexpr,
    N_COEFFICIENTS: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    atom = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)[None, :]
    own, stride = f < n_features, 3 * n_features
    at_atom = atom * stride + f
    c_s, c_d, c_v = load_three(context + at_atom, n_features, own)
    v_x, v_y, v_z = load_three(vectors + at_atom, n_features, own & HAS_VECTORS)
    zero = tl.zeros([PAIRS, WIDTH], dtype=table.dtype.element_ty)
    sum_s, sum_d, sum_v, sum_x, sum_y, sum_z = zero, zero, zero, zero, zero, zero
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        piece, rest = place_of(grid, pair, there, n_pieces)
        mask, s = there[:, None] & own, rest[:, None]
        row = table + (piece * (N_COEFFICIENTS * stride))[:, None] + f
        other = tl.load(center + pair, mask=there, other=0).to(tl.int64)[:, None]
        g = tl.load(of_scalars + other * n_features + f, mask=mask, other=0.0)
        g_x, g_y, g_z = load_three(of_vectors + other * stride + f, n_features, mask)
        w, slope = filter_and_slope(row, s, mask, stride, N_COEFFICIENTS)
        sum_s += g * w
        change = g * c_s * slope
        row += n_features
        w, slope = filter_and_slope(row, s, mask, stride, N_COEFFICIENTS)
        u_x, u_y, u_z = load_three(units + 3 * pair, 1, there)
        along = u_x[:, None] * g_x + u_y[:, None] * g_y + u_z[:, None] * g_z
        sum_d += along * w
        change += along * c_d * slope
        w *= c_d
        d_x, d_y, d_z = tl.sum(w * g_x, 1), tl.sum(w * g_y, 1), tl.sum(w * g_z, 1)
        store_three(units_out + 3 * pair, 1, d_x, d_y, d_z, there)
        if HAS_VECTORS:
            row += n_features
            w, slope = filter_and_slope(row, s, mask, stride, N_COEFFICIENTS)
            along = v_x * g_x + v_y * g_y + v_z * g_z
            sum_v += along * w
            change += along * c_v * slope
            w *= c_v
            sum_x += w * g_x
            sum_y += w * g_y
            sum_z += w * g_z
        tl.store(grid_out + pair, tl.sum(change, 1), mask=there)
    f = tl.arange(0, WIDTH)
    own, at_atom = f < n_features, atom * stride + f
    d_s, d_d, d_v = tl.sum(sum_s, 0), tl.sum(sum_d, 0), tl.sum(sum_v, 0)
    store_three(context_out + at_atom, n_features, d_s, d_d, d_v, own)
    if HAS_VECTORS:
        d_x, d_y, d_z = tl.sum(sum_x, 0), tl.sum(sum_y, 0), tl.sum(sum_z, 0)
        store_three(vectors_out + at_atom, n_features, d_x, d_y, d_z, own)


@torch.library.custom_op(
    "molpool::painn_messages",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor neighbor, Tensor grid, Tensor units,"
    " Tensor context, Tensor? vectors, Tensor table) -> (Tensor, Tensor)",
)
def messages(
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    neighbor: Int[Tensor, " pairs"],
    grid: Float[Tensor, " pairs"],
    units: Float[Tensor, "pairs 3"],
    context: Float[Tensor, "atoms three_features"],
    vectors: Float[Tensor, "atoms 3 features"] | None,
    table: Float[Tensor, "pieces coefficients three_features"],
) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms 3 features"]]:
    """Return the sums of Eqs. 7 and 8; ``order`` is by center."""
    scalars_out, vectors_out = _like_features(context)
    n_atoms, width = scalars_out.shape
    if n_atoms:
        _forward[(n_atoms,)](
            *(order, first, neighbor, grid, units, context),
            *(context if vectors is None else vectors, table),
            *(scalars_out, vectors_out, table.shape[0], width),
            HAS_VECTORS=vectors is not None,
            N_COEFFICIENTS=table.shape[1],
            **block_sizes(width),
        )
    return scalars_out, vectors_out


@messages.register_fake
def _(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    return _like_features(inputs[5])


@torch.library.custom_op(
    "molpool::painn_messages_backward",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor center, Tensor grid, Tensor units,"
    " Tensor context, Tensor? vectors, Tensor table, Tensor of_scalars,"
    " Tensor of_vectors) -> (Tensor, Tensor, Tensor, Tensor)",
)
def messages_backward(  # noqa: PLR0913, PLR0917 - those of ``messages`` and more
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    center: Int[Tensor, " pairs"],
    grid: Float[Tensor, " pairs"],
    units: Float[Tensor, "pairs 3"],
    context: Float[Tensor, "atoms three_features"],
    vectors: Float[Tensor, "atoms 3 features"] | None,
    table: Float[Tensor, "pieces coefficients three_features"],
    of_scalars: Float[Tensor, "atoms features"],
    of_vectors: Float[Tensor, "atoms 3 features"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of grid, units, context, vectors; ``order`` by neighbor."""
    has_vectors = vectors is not None
    outputs = _like_inputs(grid, units, context, has_vectors=has_vectors)
    n_atoms, width = of_scalars.shape
    if n_atoms:
        _backward[(n_atoms,)](
            *(order, first, center, grid, units, context),
            *(vectors if has_vectors else context, table, of_scalars, of_vectors),
            *(*outputs, table.shape[0], width),
            HAS_VECTORS=has_vectors,
            N_COEFFICIENTS=table.shape[1],
            **block_sizes(width),
        )
    return outputs


@messages_backward.register_fake
def _(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _like_inputs(*inputs[3:6], has_vectors=inputs[6] is not None)


def _like_features(context: Tensor) -> tuple[Tensor, Tensor]:
    n_atoms, width = context.shape[0], context.shape[1] // 3
    return context.new_empty(n_atoms, width), context.new_empty(n_atoms, 3, width)


def _like_inputs(
    grid: Tensor, units: Tensor, context: Tensor, *, has_vectors: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = (context.shape[0] if has_vectors else 0, 3, context.shape[1] // 3)
    return (
        torch.zeros_like(grid),
        torch.zeros_like(units),
        torch.empty_like(context),
        context.new_empty(rows),
    )
