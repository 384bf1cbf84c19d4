"""How total charge and unpaired electrons enter the features of the atoms."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Composition
from molpool_calc.networks.layers import dense
from molpool_calc.segments import segment_sum


class ElectronEmbedding(nn.Module):
    """A number ψ of a system, shared out among its atoms by attention to elements.

    With r = 0 for ψ ≥ 0 and r = 1 for ψ < 0: y_i = softplus(q_Z · k_r / √F),
    a_i = ψ y_i / Σ_i y_i, z_i = a_i v_r, e_i = z_i + B₂ silu(B₁ silu(z_i)). No biases,
    so that ψ = 0 gives zeros (published code; after Unke et al., Nat. Commun. 12, 7273
    (2021)).
    """

    def __init__(self, n_features: int, max_atomic_number: int) -> None:
        super().__init__()
        self.queries = nn.Embedding(max_atomic_number + 1, n_features)
        self.keys = nn.Embedding(2, n_features)
        self.values = nn.Embedding(2, n_features)
        self.first = dense(n_features, n_features, bias=False)
        self.second = dense(n_features, n_features, bias=False)

    def forward(
        self, composition: Composition, amount: Float[Tensor, " systems"]
    ) -> Float[Tensor, "atoms features"]:
        """Return what ``amount`` of every system adds to its atoms."""
        systems, queries = composition.systems, self.queries(composition.atomic_numbers)
        row = (amount < 0).long()[systems.index]
        logits = (queries * self.keys(row)).sum(1) * (1.0 / sqrt(queries.shape[1]))
        share = nn.functional.softplus(logits)
        total = segment_sum(share, systems.index, systems.n_segments)
        share = share * (amount.to(share.dtype) / total)[systems.index]
        z = share[:, None] * self.values(row)
        silu = nn.functional.silu
        return torch.add(z, self.second(silu(self.first(silu(z)))))
