"""The attention weights of So3krates as operators with kernels behind them.

``first``, ``bias`` and ``second`` are A, a and B of the filter of invariants in
``triton_attention``; without invariants (no degrees) they are not read.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from molpool_calc.kernels import triton_attention as kernels
from molpool_calc.kernels.triton_parts import attention_sizes

INPUTS = (
    "Tensor grid, Tensor invariants, Tensor queries, Tensor keys, Tensor table,"
    " Tensor first, Tensor bias, Tensor second"
)


@torch.library.custom_op(
    "molpool::attention_weights",
    mutates_args=(),
    schema=f"(Tensor order, Tensor first_pair, Tensor neighbor, {INPUTS}, int n_heads)"
    " -> Tensor",
)
def weights(  # noqa: PLR0913, PLR0917 - the arrays of the kernel
    order: Int[Tensor, " pairs"],
    first_pair: Int[Tensor, " atoms_plus_one"],
    neighbor: Int[Tensor, " pairs"],
    grid: Float[Tensor, " pairs"],
    invariants: Float[Tensor, "pairs degrees"],
    queries: Float[Tensor, "atoms features"],
    keys: Float[Tensor, "atoms features"],
    table: Float[Tensor, "pieces coefficients features"],
    first: Float[Tensor, "degrees hidden"],
    bias: Float[Tensor, " hidden"],
    second: Float[Tensor, "hidden features"],
    n_heads: int,
) -> Float[Tensor, "pairs heads"]:
    """Return Σ_g q_i,hg k_j,hg w_ij,hg; ``order`` is by center."""
    out = grid.new_zeros(len(grid), n_heads)
    if len(queries):
        kernels.weights_forward[(len(queries), n_heads)](
            *(order, first_pair, neighbor, grid, invariants, queries, keys),
            *(table, first, bias, second, out, len(table), len(bias)),
            **attention_sizes(table, n_heads, first),
        )
    return out


@weights.register_fake
def _(*inputs: Any) -> Tensor:
    grid: Tensor = inputs[3]
    return grid.new_empty(len(grid), inputs[-1])


@torch.library.custom_op(
    "molpool::attention_weights_backward",
    mutates_args=(),
    schema="(Tensor order, Tensor first_pair, Tensor neighbor, Tensor by_neighbor,"
    f" Tensor first_of_neighbor, Tensor center, {INPUTS}, Tensor of_weights)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def weights_backward(  # noqa: PLR0913, PLR0917 - the arrays of the kernels
    order: Int[Tensor, " pairs"],
    first_pair: Int[Tensor, " atoms_plus_one"],
    neighbor: Int[Tensor, " pairs"],
    by_neighbor: Int[Tensor, " pairs"],
    first_of_neighbor: Int[Tensor, " atoms_plus_one"],
    center: Int[Tensor, " pairs"],
    grid: Float[Tensor, " pairs"],
    invariants: Float[Tensor, "pairs degrees"],
    queries: Float[Tensor, "atoms features"],
    keys: Float[Tensor, "atoms features"],
    table: Float[Tensor, "pieces coefficients features"],
    first: Float[Tensor, "degrees hidden"],
    bias: Float[Tensor, " hidden"],
    second: Float[Tensor, "hidden features"],
    of_weights: Float[Tensor, "pairs heads"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of grid, invariants, queries and keys."""
    outputs = _like_inputs(grid, invariants, queries, keys)
    *of_pairs, of_queries, of_keys = outputs
    by_center = (order, first_pair, neighbor)
    by_other = (by_neighbor, first_of_neighbor, center)
    filters = (table, first, bias, second, of_weights)
    if len(queries):
        sizes = attention_sizes(table, of_weights.shape[1], first)
        for ends, others, out in (
            (by_center, keys, of_queries),
            (by_other, queries, of_keys),
        ):
            kernels.ends_backward[(len(queries), of_weights.shape[1])](
                *(*ends, grid, invariants, others, *filters, out),
                *(len(table), len(bias)),
                **sizes,
            )
        sizes["num_warps"] *= 2  # all heads in one program
        kernels.pairs_backward[(len(queries),)](
            *(*by_center, grid, invariants, queries, keys, *filters, *of_pairs),
            *(len(table), len(bias)),
            **sizes,
        )
    return outputs


@weights_backward.register_fake
def _(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _like_inputs(*inputs[6:10])


def _like_inputs(
    grid: Tensor, invariants: Tensor, queries: Tensor, keys: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.zeros_like(grid),
        torch.zeros_like(invariants),
        torch.empty_like(queries),
        torch.empty_like(keys),
    )
