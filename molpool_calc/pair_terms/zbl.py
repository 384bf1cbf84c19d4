"""Repulsion of screened nuclei, with the form of Ziegler, Biersack and Littmark."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.edges import within
from molpool_calc.interfaces import AtomsBatch, Edges, Prediction
from molpool_calc.networks.layers import (
    CUTOFF_FUNCTIONS,
    CutoffFunction,
    choose,
    require_positive,
)
from molpool_calc.pair_terms.pairs import (
    at_both_ends,
    pair_distances,
    smooth_switch,
    sum_over_pairs,
)
from molpool_calc.units import BOHR, COULOMB

UNIVERSAL_EXPONENTS = (3.1998, 0.94229, 0.4028, 0.20162)
UNIVERSAL_WEIGHTS = (0.18175, 0.50986, 0.28022, 0.02817)
UNIVERSAL_POWER = 0.23
UNIVERSAL_LENGTH = 0.8854 * BOHR
"""The universal screening function, with which training starts."""


class ZBLRepulsion(nn.Module):
    """Σ_m c_m exp(−a_m t) · Z_i Z_j / (4πε₀ d) at short range, all numbers learned.

    t = d·δ·(Z_i^p + Z_j^p) and Σ_m c_m = 1; the learned numbers are softplus of the
    parameters, so that they stay positive. The energy is multiplied by the cutoff
    function and by a smooth switch that ends at ``reach``: this is a wall for atoms
    closer than any bond in the training data, not a potential of its own.

    Args:
        cutoff: of the cutoff function, Å.
        cutoff_function: ``"cosine"``, ``"polynomial"`` or ``"mollifier"``.
        reach: distance in Å at and beyond which there is no repulsion.

    Raises:
        ValueError: a length that is not positive or an unknown cutoff function.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        cutoff: float,
        cutoff_function: CutoffFunction = "polynomial",
        reach: float = 1.5,
    ) -> None:
        super().__init__()
        require_positive(cutoff=cutoff, reach=reach)
        self.cutoff, self.reach = float(cutoff), float(reach)
        self.envelope = choose(CUTOFF_FUNCTIONS, cutoff_function, "cutoff function")
        self.exponents = _positive(UNIVERSAL_EXPONENTS)
        self.weights = _positive(UNIVERSAL_WEIGHTS)
        self.power = _positive((UNIVERSAL_POWER,))
        self.inverse_length = _positive((1.0 / UNIVERSAL_LENGTH,))

    def forward(
        self, batch: AtomsBatch, edges: Edges, prediction: Prediction
    ) -> Float[Tensor, " atoms"]:
        """Return the energies of the atoms in eV, float64."""
        del prediction
        softplus = nn.functional.softplus
        edges = within(edges, self.reach)  # of a long-range list, most pairs are not
        d = pair_distances(edges)
        nuclear = batch.atomic_numbers.to(d.dtype)
        inverse_lengths = nuclear ** softplus(self.power) * softplus(
            self.inverse_length
        )
        z_i, z_j = at_both_ends(edges, nuclear)
        k_i, k_j = at_both_ends(edges, inverse_lengths)
        scaled = (d * (k_i + k_j))[..., None]
        weights = softplus(self.weights)
        weights = weights * (0.5 * COULOMB / weights.sum())
        screening = torch.exp(scaled * -softplus(self.exponents)) @ weights
        envelope = self.envelope(edges.distances, self.cutoff).view(d.shape)
        near = envelope * smooth_switch(d, 0.0, self.reach)
        return sum_over_pairs(edges, screening * near * (z_i * z_j) / d)


def _positive(values: tuple[float, ...]) -> nn.Parameter:
    """Return parameters whose softplus are the values."""
    return nn.Parameter(torch.tensor(values, dtype=torch.float64).expm1().log().float())
