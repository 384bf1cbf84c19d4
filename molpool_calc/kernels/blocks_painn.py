"""Messages of PaiNN in blocks of pairs, with their gradient derived by hand.

Schütt et al. 2021, Eqs. 7 and 8, for the pairs of a center i with neighbors j. The
gates (g₁, g₂, g₃) = W_ij ⊙ context_j are those of scalars, direction and vectors:

    Δs_i = Σ_j g₁        Δv⃗_i = Σ_j û_ij g₂ + v⃗_j g₃

With (a, b⃗) the gradients of the sums (Δs, Δv⃗) of the *neighbor*, and seen from there,
pair ji with û_ji = −û_ij, the gradient of the gates is d = (a, −û_ij·b⃗, v⃗_i·b⃗), and

    to context_i  Σ_j W_ij ⊙ d      to û_ij  −Σ_f b⃗ g₂
    to v⃗_i        Σ_j g₃ b⃗          to W_ij  context_i ⊙ d

Where all v⃗ are zero, in the first round, there is no third gate.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import Edges
from molpool_calc.kernels.blocks import Block, Blocks, Scratch
from molpool_calc.kernels.messages import Inputs, Written, messages_by


def painn_in_blocks(
    blocks: Blocks,
    edges: Edges,
    radial: Float[Tensor, "pairs radial"],
    matrix: Float[Tensor, "radial three_features"],
    written: Written,
    context: Float[Tensor, "atoms three_features"],
    vectors: Float[Tensor, "atoms 3 features"] | None,
) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms 3 features"]]:
    """Return the sums of Eqs. 7 and 8.

    Args:
        blocks: of the pairs.
        edges: with unit vectors.
        radial: functions of the distance of each pair.
        matrix: maps them to the three filters.
        written: the same in torch, of radial functions, units, context and vectors.
        context: of each atom.
        vectors: of each atom; ``None`` for zeros.
    """
    inputs = (radial, edges.vectors, context, vectors)
    change, received = messages_by(PaiNNBlocks(blocks, matrix), written, *inputs)
    return change, received


class PaiNNBlocks:
    """Both passes over the pairs.

    Args:
        blocks: of the pairs.
        matrix: maps the radial functions of a pair to its three filters.
    """

    def __init__(
        self, blocks: Blocks, matrix: Float[Tensor, "radial three_features"]
    ) -> None:
        self.blocks, self.matrix = blocks, matrix.detach()
        self.n_features = matrix.shape[1] // 3

    def start(self, inputs: Inputs) -> tuple[int, Tensor, Tensor]:
        """Return the number of gates, their filter matrix, and their context."""
        _, _, context, vectors = inputs
        n_gates = 2 if vectors is None else 3
        width = n_gates * self.n_features
        matrix = self.matrix[:, :width].contiguous()
        return n_gates, matrix, context[:, :width].contiguous()

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Return Δs and Δv⃗ of radial functions, unit vectors, context and v⃗."""
        radial, units, _, vectors = inputs
        n_gates, matrix, context = self.start(inputs)
        scratch = Scratch(self.blocks, self.n_features, context)
        gates, far = scratch.rows(n_gates), scratch.rows(n_gates)
        both = scratch.rows(4)
        sums = context.new_empty((context.shape[0], 4, self.n_features))
        for block in self.blocks.blocks:
            n = block.n_pairs
            g, x, messages = gates[:n], far[:n], both[:n]
            neighbor = self.blocks.neighbor[block.pairs]
            torch.mm(radial[block.pairs], matrix, out=g.view(n, -1))
            torch.index_select(context, 0, neighbor, out=x.view(n, -1))
            g.mul_(x)
            messages[:, 0] = g[:, 0]
            torch.mul(units[block.pairs, :, None], g[:, 1, None], out=messages[:, 1:])
            if vectors is not None:
                torch.index_select(vectors, 0, neighbor, out=x)
                messages[:, 1:].addcmul_(x, g[:, 2, None])
            sums[block.atoms] = scratch.sum_rows(messages, block)
        return sums[:, 0], sums[:, 1:]

    def backward(self, inputs: Inputs, gradients: list[Tensor]) -> Inputs:
        """Return the gradients of the inputs from those of Δs and Δv⃗."""
        backward = _Backward(self, inputs, gradients)
        for block in self.blocks.blocks:
            backward.take(block)
        to_radial, to_units = backward.to_radial.t(), backward.to_units.neg_()
        return [to_radial, to_units, backward.to_context, backward.to_vectors]


class _Backward:
    """Gradients of the inputs, and memory for one block on the way to them."""

    def __init__(
        self, forward: PaiNNBlocks, inputs: Inputs, gradients: list[Tensor]
    ) -> None:
        self.blocks = forward.blocks
        self.radial, self.units, context, self.vectors = inputs
        n_gates, self.matrix, self.context = forward.start(inputs)
        of_scalars, of_vectors = gradients
        self.incoming = torch.cat((of_scalars[:, None], of_vectors), dim=1)
        scratch = Scratch(self.blocks, forward.n_features, context)
        self.filters, self.own = scratch.rows(n_gates), scratch.rows(n_gates)
        self.of_gates, self.gates = scratch.rows(n_gates), scratch.rows(n_gates)
        self.turned, self.received = scratch.rows(3), scratch.rows(4)
        self.scratch = scratch
        # the other way round, the matrix product is twice as fast
        self.to_radial = self.radial.new_empty(self.radial.shape[::-1])
        self.to_units = torch.empty_like(self.units)
        self.to_context = torch.zeros_like(context)
        self.to_vectors = None if self.vectors is None else torch.empty_like(of_vectors)

    def take(self, block: Block) -> None:
        """Fill in the gradients of one block."""
        n, pairs = block.n_pairs, block.pairs
        filters, own, of_gates = self.filters[:n], self.own[:n], self.of_gates[:n]
        gates, received, turned = self.gates[:n], self.received[:n], self.turned[:n]
        center, neighbor = self.blocks.center[pairs], self.blocks.neighbor[pairs]
        torch.mm(self.radial[pairs], self.matrix, out=filters.view(n, -1))
        torch.index_select(self.incoming, 0, neighbor, out=received)
        b = received[:, 1:]
        of_gates[:, 0] = received[:, 0]
        _dot(self.units[pairs, :, None], b, out=of_gates[:, 1]).neg_()
        if self.vectors is not None:
            torch.index_select(self.vectors, 0, center, out=own)
            _dot(own, b, out=of_gates[:, 2])
        torch.index_select(self.context, 0, center, out=own.view(n, -1))
        torch.mul(filters, own, out=gates)
        own.mul_(of_gates)
        torch.mm(self.matrix, own.view(n, -1).t(), out=self.to_radial[:, pairs])
        filters.mul_(of_gates)
        sums = self.scratch.sum_rows(filters, block).flatten(1)
        self.to_context[block.atoms, : sums.shape[1]] = sums
        torch.mul(b, gates[:, 1, None], out=turned)
        torch.sum(turned, 2, out=self.to_units[pairs])
        if self.to_vectors is not None:
            b.mul_(gates[:, 2, None])
            self.to_vectors[block.atoms] = self.scratch.sum_rows(received, block)[:, 1:]


def _dot(
    a: Float[Tensor, "pairs 3 features_or_one"],
    b: Float[Tensor, "pairs 3 features"],
    out: Float[Tensor, "pairs features"],
) -> Float[Tensor, "pairs features"]:
    """Return a·b, summed over the three directions."""
    torch.mul(a[:, 0], b[:, 0], out=out)
    return out.addcmul_(a[:, 1], b[:, 1]).addcmul_(a[:, 2], b[:, 2])
