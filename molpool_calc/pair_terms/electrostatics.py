"""Energy of the atomic charges, damped where atoms overlap."""

from math import erf, exp, isfinite, pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomsBatch, Edges, Prediction
from molpool_calc.networks.layers import require_positive
from molpool_calc.pair_terms.pairs import (
    at_both_ends,
    pair_distances,
    require_cutoff,
    smooth_switch,
    sum_over_pairs,
    without_itself,
)
from molpool_calc.units import COULOMB

SWITCH_START = 0.45
"""Fraction of the cutoff up to which the energy is only shifted (published code)."""


class DampedElectrostatics(nn.Module):
    """q_i q_j g(d)/(4πε₀) with g(d) = erf(d/s)/d, for all pairs or up to a cutoff.

    With a cutoff r_c the energy of a pair is shifted to vanish at r_c and, beyond a
    smooth switch f that begins at 0.45 r_c, so is its slope:
    g(d) − g(r_c) − (1 − f(d))·g'(r_c)·(d − r_c), and 0 from r_c on. This is what the
    published code of SO3LR computes. It is not an Ewald sum: energies depend on the
    cutoff, and only those with the same cutoff may be compared.

    Args:
        cutoff: in Å; ``None`` for all pairs, which only molecules allow.
        damping: s in Å.

    Raises:
        ValueError: a length that is not positive.
    """

    needs = frozenset({"charges"})

    def __init__(self, *, cutoff: float | None = None, damping: float = 4.0) -> None:
        super().__init__()
        require_positive(damping=damping)
        self.cutoff = require_cutoff(cutoff, "electrostatics")
        self.damping = float(damping)

    def forward(
        self, batch: AtomsBatch, edges: Edges, prediction: Prediction
    ) -> Float[Tensor, " atoms"]:
        """Return the energies of the atoms in eV, float64."""
        del batch
        if prediction.charges is None:
            raise ValueError(
                "the term electrostatics needs charges, which no head gives; add a "
                "dipole head"
            )
        d = pair_distances(edges)
        q_i, q_j = at_both_ends(edges, prediction.charges * sqrt(0.5 * COULOMB))
        kernel = torch.erf(d * (1.0 / self.damping)) / d
        if isfinite(self.cutoff):
            kernel = self._shifted(kernel, d)
        return sum_over_pairs(edges, q_i * q_j * without_itself(edges, kernel))

    def _shifted(
        self, kernel: Float[Tensor, "*pairs"], d: Float[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        end, width = self.cutoff, self.damping
        value = erf(end / width) / end
        slope = 2.0 * exp(-((end / width) ** 2)) / (sqrt(pi) * width) - value
        slope = slope / end
        switch = smooth_switch(d, SWITCH_START * end, end)
        shifted = kernel - value - slope * (1.0 - switch) * (d - end)
        return shifted * (d < end).to(d.dtype)
