"""Parts of DimeNet++: residual layers, interaction blocks, output blocks."""

from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from molpool_calc.interfaces import Edges
from molpool_calc.networks.triplets import Triplets
from molpool_calc.pair_sums import sum_neighbors

OutputInit = Literal["zeros", "orthogonal"]


def orthogonal_(weight: Float[Tensor, "n_out n_in"]) -> None:
    """Fill a matrix: orthogonal, scaled to the variance 2/(n_in + n_out) of Glorot."""
    with torch.no_grad():
        nn.init.orthogonal_(weight)
        # a single number has no variance, and is ±1
        variance = weight.var() if weight.numel() > 1 else torch.ones_like(weight)
        weight *= torch.sqrt(2.0 / (sum(weight.shape) * variance))


def orthogonal(n_in: int, n_out: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer with an orthogonal matrix and zero bias."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    orthogonal_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Residual(nn.Module):
    """x + silu(Lin₂ silu(Lin₁ x))."""

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.first = orthogonal(n_hidden, n_hidden)
        self.second = orthogonal(n_hidden, n_hidden)

    def forward(
        self, x: Float[Tensor, "pairs features"]
    ) -> Float[Tensor, "pairs features"]:
        """Return the sum."""
        return x + silu(self.second(silu(self.first(x))))


class Interaction(nn.Module):
    """Directional message passing: what arrives at j goes into the messages j → i.

    ``source`` holds Lin_ji (first half) and Lin_kj of the published code in one matrix;
    ``radial_first`` … ``angular_second`` its two-step filters of pairs and triplets.
    """

    def __init__(
        self,
        *,
        n_hidden: int,
        n_int_embedding: int,
        n_basis_embedding: int,
        n_radial: int,
        n_spherical: int,
        n_before_skip: int,
        n_after_skip: int,
    ) -> None:
        super().__init__()
        n_basis, n_angular = n_basis_embedding, n_spherical * n_radial
        self.source = orthogonal(n_hidden, 2 * n_hidden)
        for half in self.source.weight.chunk(2):
            orthogonal_(half)
        self.radial_first = orthogonal(n_radial, n_basis, bias=False)
        self.radial_second = orthogonal(n_basis, n_hidden, bias=False)
        self.angular_first = orthogonal(n_angular, n_basis, bias=False)
        self.angular_second = orthogonal(n_basis, n_int_embedding, bias=False)
        self.down = orthogonal(n_hidden, n_int_embedding, bias=False)
        self.up = orthogonal(n_int_embedding, n_hidden, bias=False)
        self.before_skip = nn.ModuleList(
            Residual(n_hidden) for _ in range(n_before_skip)
        )
        self.skip = orthogonal(n_hidden, n_hidden)
        self.after_skip = nn.ModuleList(Residual(n_hidden) for _ in range(n_after_skip))

    def radial_filter(self) -> Float[Tensor, "features radial"]:
        """Return the product of both matrices of the radial filter."""
        return self.radial_second.weight @ self.radial_first.weight

    def forward(
        self,
        messages: Float[Tensor, "pairs features"],
        radial: Float[Tensor, "pairs features"],
        angular: Float[Tensor, "pairs orders embedding"],
        paths: Triplets,
    ) -> Float[Tensor, "pairs features"]:
        """Return the messages after the block.

        Args:
            messages: before it.
            radial: filter of the arriving messages.
            angular: their filter for each order l; that of a triplet is their sum over
                l weighted by P_l of its angle.
            paths: triplets of the pairs.
        """
        own, arriving = silu(self.source(messages)).chunk(2, dim=1)
        arriving = silu(self.down(arriving * radial))
        received = paths.sum_arriving(arriving[:, None, :] * angular)
        changed = own + silu(self.up(received))
        for layer in self.before_skip:
            changed = layer(changed)
        changed = silu(self.skip(changed)) + messages
        for layer in self.after_skip:
            changed = layer(changed)
        return changed


class StackedLinear(nn.Module):
    """One linear layer for each of several blocks, applied in one operation."""

    def __init__(self, n_blocks: int, n_in: int, n_out: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_blocks, n_out, n_in))
        for block in self.weight:
            orthogonal_(block)
        self.bias = nn.Parameter(torch.zeros(n_blocks, 1, n_out)) if bias else None

    def forward(
        self, x: Float[Tensor, "blocks atoms n_in"]
    ) -> Float[Tensor, "blocks atoms n_out"]:
        """Apply each block's layer to its rows."""
        matrices = self.weight.transpose(1, 2)
        if self.bias is None:
            return x @ matrices
        return torch.baddbmm(self.bias, x, matrices)


class Outputs(nn.Module):
    """Messages before and after every interaction → features of atoms, summed.

    In each block: Lin_last(silu(Lin … silu(Lin(O Σ_j G rbf_ij ⊙ m_ij)))). The blocks
    are independent of each other and computed side by side. ``gate`` is G.
    """

    def __init__(
        self,
        *,
        n_blocks: int,
        n_hidden: int,
        n_radial: int,
        widths: tuple[int, ...],
        n_features: int,
        init: OutputInit,
    ) -> None:
        super().__init__()
        self.gate = StackedLinear(n_blocks, n_radial, n_hidden, bias=False)
        self.up = StackedLinear(n_blocks, n_hidden, widths[0], bias=False)
        self.hidden = nn.ModuleList(
            StackedLinear(n_blocks, n_in, n_out, bias=True)
            for n_in, n_out in pairwise(widths)
        )
        self.last = StackedLinear(n_blocks, widths[-1], n_features, bias=False)
        if init == "zeros":
            nn.init.zeros_(self.last.weight)

    def forward(
        self,
        messages: list[Float[Tensor, "pairs features"]],
        gates: Float[Tensor, "pairs blocks_features"],
        edges: Edges,
    ) -> Float[Tensor, "atoms n_features"]:
        """Return the sum of what the blocks give for every atom."""
        gated = torch.cat(messages, dim=1) * gates
        sums = sum_neighbors(edges, gated)
        x = sums.view(edges.n_atoms, len(messages), -1).transpose(0, 1)
        x = self.up(x)
        for layer in self.hidden:
            x = silu(layer(x))
        out: Tensor = self.last(x)
        return out.sum(0)
