"""Kernels of sums over components of spherical coordinates; see ``attention``.

One program for each atom; ``PAIRS`` pairs × ``WIDTH`` components at a time. ``degree``
says which degree each component belongs to.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from molpool_calc.kernels.triton_parts import block_sizes, next_pairs


@triton.jit
def _invariants(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first,
    neighbor,
    chi,
    degree,
    scale,
    invariants_out,
    n_components,
    N_DEGREES: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    atom = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, WIDTH)
    own = m < n_components
    mine = tl.load(chi + atom * n_components + m, mask=own, other=0.0)[None, :]
    of = tl.load(degree + m, mask=own, other=N_DEGREES)[None, :]
    factor = tl.load(scale + m, mask=own, other=0.0)[None, :]
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        other = tl.load(neighbor + pair, mask=there, other=0).to(tl.int64)[:, None]
        mask = there[:, None] & own[None, :]
        theirs = tl.load(chi + other * n_components + m[None, :], mask=mask, other=0.0)
        square = (theirs - mine) * (theirs - mine) * factor
        for l in tl.static_range(N_DEGREES):
            to = invariants_out + pair * N_DEGREES + l
            tl.store(to, tl.sum(tl.where(of == l, square, 0.0), 1), mask=there)


@triton.jit
def _invariants_backward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first,
    other_end,
    chi,
    degree,
    scale,
    of_invariants,
    gradient,
    n_components,
    N_DEGREES: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Add what pairs give to this end of them; both ends are of one form."""
    atom = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, WIDTH)
    own = m < n_components
    at_atom = atom * n_components + m
    mine = tl.load(chi + at_atom, mask=own, other=0.0)[None, :]
    of = tl.load(degree + m, mask=own, other=0)[None, :]
    total = tl.zeros([PAIRS, WIDTH], dtype=chi.dtype.element_ty)
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        other = tl.load(other_end + pair, mask=there, other=0).to(tl.int64)[:, None]
        mask = there[:, None] & own[None, :]
        theirs = tl.load(chi + other * n_components + m[None, :], mask=mask, other=0.0)
        at = of_invariants + pair[:, None] * N_DEGREES + of
        total += (mine - theirs) * tl.load(at, mask=mask, other=0.0)
    factor = 2.0 * tl.load(scale + m, mask=own, other=0.0)
    before = tl.load(gradient + at_atom, mask=own, other=0.0)
    tl.store(gradient + at_atom, before + factor * tl.sum(total, 0), mask=own)


@triton.jit
def _sums(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first,
    weights,
    components,
    degree,
    sums,
    n_components,
    N_DEGREES: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    atom = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, WIDTH)
    own = m < n_components
    of = tl.load(degree + m, mask=own, other=0)[None, :]
    total = tl.zeros([PAIRS, WIDTH], dtype=weights.dtype.element_ty)
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        mask, pair = there[:, None] & own[None, :], pair[:, None]
        at = components + pair * n_components + m[None, :]
        y = tl.load(at, mask=mask, other=0.0)
        total += y * tl.load(weights + pair * N_DEGREES + of, mask=mask, other=0.0)
    tl.store(sums + atom * n_components + m, tl.sum(total, 0), mask=own)


@triton.jit
def _sums_backward(  # noqa: PLR0913, PLR0917 - one pointer for each array
    order,
    first,
    weights,
    components,
    degree,
    of_sums,
    weights_out,
    components_out,
    n_components,
    N_DEGREES: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    atom = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, WIDTH)
    own = m < n_components
    of = tl.load(degree + m, mask=own, other=N_DEGREES)[None, :]
    g = tl.load(of_sums + atom * n_components + m, mask=own, other=0.0)[None, :]
    end = tl.load(first + atom + 1)
    for begin in range(tl.load(first + atom), end, PAIRS):
        pair, there = next_pairs(order, begin, end, PAIRS)
        mask = there[:, None] & own[None, :]
        at = pair[:, None] * n_components + m[None, :]
        y = tl.load(components + at, mask=mask, other=0.0) * g
        w = tl.load(weights + pair[:, None] * N_DEGREES + of, mask=mask, other=0.0)
        tl.store(components_out + at, w * g, mask=mask)
        for l in tl.static_range(N_DEGREES):
            to = weights_out + pair * N_DEGREES + l
            tl.store(to, tl.sum(tl.where(of == l, y, 0.0), 1), mask=there)


@torch.library.custom_op(
    "molpool::degree_invariants",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor neighbor, Tensor chi, Tensor degree,"
    " Tensor scale, int n_degrees) -> Tensor",
)
def invariants(
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    neighbor: Int[Tensor, " pairs"],
    chi: Float[Tensor, "atoms m_tot"],
    degree: Int[Tensor, " m_tot"],
    scale: Float[Tensor, " m_tot"],
    n_degrees: int,
) -> Float[Tensor, "pairs degrees"]:
    """Return Σ_m scale_m (χ_jm − χ_im)² of each degree; ``order`` is by center."""
    out = chi.new_zeros(len(order), n_degrees)
    if len(chi):
        _invariants[(len(chi),)](
            *(order, first, neighbor, chi, degree, scale, out, chi.shape[1]),
            N_DEGREES=n_degrees,
            **block_sizes(chi.shape[1]),
        )
    return out


@invariants.register_fake
def _(*inputs: Any) -> Tensor:
    chi: Tensor = inputs[3]
    return chi.new_empty(len(inputs[0]), inputs[-1])


@torch.library.custom_op(
    "molpool::degree_invariants_backward",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor neighbor, Tensor by_neighbor,"
    " Tensor first_of_neighbor, Tensor center, Tensor chi, Tensor degree,"
    " Tensor scale, Tensor of_invariants) -> Tensor",
)
def invariants_backward(  # noqa: PLR0913, PLR0917 - the arrays of the kernel
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    neighbor: Int[Tensor, " pairs"],
    by_neighbor: Int[Tensor, " pairs"],
    first_of_neighbor: Int[Tensor, " atoms_plus_one"],
    center: Int[Tensor, " pairs"],
    chi: Float[Tensor, "atoms m_tot"],
    degree: Int[Tensor, " m_tot"],
    scale: Float[Tensor, " m_tot"],
    of_invariants: Float[Tensor, "pairs degrees"],
) -> Float[Tensor, "atoms m_tot"]:
    """Return the gradient of χ."""
    gradient = torch.zeros_like(chi)
    for ends in (
        (order, first, neighbor),
        (by_neighbor, first_of_neighbor, center),
    ):
        if len(chi):
            _invariants_backward[(len(chi),)](
                *(*ends, chi, degree, scale, of_invariants, gradient, chi.shape[1]),
                N_DEGREES=of_invariants.shape[1],
                **block_sizes(chi.shape[1]),
            )
    return gradient


@invariants_backward.register_fake
def _(*inputs: Tensor) -> Tensor:
    return torch.empty_like(inputs[6])


@torch.library.custom_op(
    "molpool::weighted_by_degree",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor weights, Tensor components,"
    " Tensor degree) -> Tensor",
)
def sums(
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    weights: Float[Tensor, "pairs degrees"],
    components: Float[Tensor, "pairs m_tot"],
    degree: Int[Tensor, " m_tot"],
) -> Float[Tensor, "atoms m_tot"]:
    """Return Σ_j weights_ijl components_ij,lm; ``order`` is by center."""
    out = _per_atom(first, components)
    if len(out):
        _sums[(len(out),)](
            *(order, first, weights, components, degree, out, out.shape[1]),
            N_DEGREES=weights.shape[1],
            **block_sizes(out.shape[1]),
        )
    return out


@sums.register_fake
def _(*inputs: Tensor) -> Tensor:
    return _per_atom(inputs[1], inputs[3])


@torch.library.custom_op(
    "molpool::weighted_by_degree_backward",
    mutates_args=(),
    schema="(Tensor order, Tensor first, Tensor weights, Tensor components,"
    " Tensor degree, Tensor of_sums) -> (Tensor, Tensor)",
)
def sums_backward(
    order: Int[Tensor, " pairs"],
    first: Int[Tensor, " atoms_plus_one"],
    weights: Float[Tensor, "pairs degrees"],
    components: Float[Tensor, "pairs m_tot"],
    degree: Int[Tensor, " m_tot"],
    of_sums: Float[Tensor, "atoms m_tot"],
) -> tuple[Float[Tensor, "pairs degrees"], Float[Tensor, "pairs m_tot"]]:
    """Return the gradients of weights and components; ``order`` is by center."""
    outputs = torch.zeros_like(weights), torch.zeros_like(components)
    if len(of_sums):
        _sums_backward[(len(of_sums),)](
            *(order, first, weights, components, degree, of_sums, *outputs),
            of_sums.shape[1],
            N_DEGREES=weights.shape[1],
            **block_sizes(of_sums.shape[1]),
        )
    return outputs


@sums_backward.register_fake
def _(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(inputs[2]), torch.empty_like(inputs[3])


def _per_atom(first: Tensor, components: Tensor) -> Tensor:
    return components.new_empty(len(first) - 1, components.shape[1])
