"""Dispersion energy from Hirshfeld volume ratios (van der Waals–QDO)."""

from collections.abc import Callable
from math import isfinite, pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomsBatch, Edges, Prediction
from molpool_calc.networks.layers import require_positive
from molpool_calc.pair_terms.free_atoms import C6_COEFFICIENTS, POLARIZABILITIES
from molpool_calc.pair_terms.pairs import (
    at_both_ends,
    pair_distances,
    require_cutoff,
    smooth_switch,
    sum_over_pairs,
    without_itself,
)
from molpool_calc.units import (
    BOHR,
    COULOMB,
    ELEMENTARY_CHARGE,
    HARTREE,
    PLANCK,
    SPEED_OF_LIGHT,
)

FINE_STRUCTURE = COULOMB * 2 * pi / (PLANCK * SPEED_OF_LIGHT * 1e10) * ELEMENTARY_CHARGE
"""e²/(4πε₀ħc)."""

WIDTH = (-0.00433008, 0.24428889, 0.04125273, -0.00078893)
"""Width of the oscillator as a cubic polynomial of the van der Waals radius, Bohr."""

DAMPING_LENGTH = 2 * 2.54
"""Length beside α^(1/7) at which the damping sets in, Bohr (published code)."""


class QDODispersion(nn.Module):
    """−Σ_n C_n/(dⁿ + pⁿ), n = 6, 8, 10, from quantum Drude oscillators on the atoms.

    Atomic units; h_i is the Hirshfeld ratio, α⁰ and C6⁰ belong to the free atom:

    - α_i = α⁰ h_i, C6_i = C6⁰ h_i², α_ij = (α_i + α_j)/2,
      C6_ij = 2 C6_i C6_j / (C6_j α_i/α_j + C6_i α_j/α_i)
    - r_vdW = α_fs^(−4/21) α_ij^(1/7); its cubic polynomial ς is the width of the
      oscillator; C8 = 10 ς² C6, C10 = 122.5 ς⁴ C6
    - p = damping · 5.08 · α_ij^(1/7)

    as the published code of SO3LR computes it. C6_ij is h_i h_j times a number of the
    two elements.

    Args:
        cutoff: in Å; ``None`` for all pairs, which only molecules allow.
        switching_width: the energy is switched off smoothly over the last so many Å.
        damping: factor of p, dimensionless.

    Raises:
        ValueError: a length that is not positive, or switching over more than the
            cutoff.
    """

    needs = frozenset({"hirshfeld_ratios"})

    def __init__(
        self,
        *,
        cutoff: float | None = None,
        switching_width: float = 2.0,
        damping: float = 1.2,
    ) -> None:
        super().__init__()
        require_positive(switching_width=switching_width, damping=damping)
        self.cutoff = require_cutoff(cutoff, "dispersion")
        if switching_width > self.cutoff:
            raise ValueError(
                f"dispersion is to be switched off over {switching_width} Å, but its "
                f"cutoff is {self.cutoff} Å; give a larger cutoff"
            )
        self.switching_width = float(switching_width)
        self.damping = float(damping)
        # neither parameters nor buffers: float64 whatever the dtype of the network
        free = torch.tensor((0.0, *POLARIZABILITIES), dtype=torch.float64)
        c6 = torch.tensor((0.0, *C6_COEFFICIENTS), dtype=torch.float64)
        self._half_polarizability = 0.5 * free
        self._c6 = _mixed_c6(free, c6) * (-0.5 * HARTREE)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "QDODispersion":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(self._c6).device
        self._c6 = self._c6.to(device)
        self._half_polarizability = self._half_polarizability.to(device)
        return self

    @property
    def tables(
        self,
    ) -> tuple[Float[Tensor, "elements elements"], Float[Tensor, " elements"]]:
        """Energies −½ C6_ij/(h_i h_j) in eV·Bohr⁶, and half of α⁰ in Bohr³."""
        return self._c6, self._half_polarizability

    def forward(
        self, batch: AtomsBatch, edges: Edges, prediction: Prediction
    ) -> Float[Tensor, " atoms"]:
        """Return the energies of the atoms in eV, float64."""
        ratios = prediction.hirshfeld_ratios
        if ratios is None:
            raise ValueError(
                "the term dispersion needs Hirshfeld ratios, which no head gives; add "
                "a hirshfeld head"
            )
        d, numbers = pair_distances(edges), batch.atomic_numbers
        free = self._half_polarizability[numbers].to(ratios.dtype)
        c6 = without_itself(edges, self._c6[at_both_ends(edges, numbers)].to(d.dtype))
        h_i, h_j = at_both_ends(edges, ratios)
        a_i, a_j = at_both_ends(edges, free * ratios)
        root = (a_i + a_j) ** (1.0 / 7.0)
        series = self._series(d * (1.0 / BOHR), root)
        energies = c6 * (h_i * h_j) * series
        if isfinite(self.cutoff):
            start = self.cutoff - self.switching_width
            energies = energies * smooth_switch(d, start, self.cutoff)
        return sum_over_pairs(edges, energies)

    def _series(
        self, distances: Float[Tensor, "*pairs"], root: Float[Tensor, "*pairs"]
    ) -> Float[Tensor, "*pairs"]:
        """Return Σ_n C_n/C6 / (dⁿ + pⁿ) from d and α^(1/7), atomic units."""
        radius = FINE_STRUCTURE ** (-4.0 / 21.0)
        w0, w1, w2, w3 = (w * radius**k for k, w in enumerate(WIDTH))
        width = w0 + root * (w1 + root * (w2 + root * w3))
        ends = torch.stack((distances, root * (self.damping * DAMPING_LENGTH)))
        square = ends * ends
        fourth = square * square
        sixth, eighth, tenth = (
            (power * fourth).sum(0).reciprocal()
            for power in (square, fourth, square * fourth)
        )
        width2 = width * width
        series: Tensor = sixth + width2 * (10.0 * eighth + 122.5 * width2 * tenth)
        return series


def _mixed_c6(
    free: Float[Tensor, " elements"], c6: Float[Tensor, " elements"]
) -> Float[Tensor, "elements elements"]:
    """Return C6_ij/(h_i h_j): the ratios h cancel in C6/α², so 2 w_i w_j/(s_i + s_j).

    w = C6/α and s = C6/α² of the free atoms.
    """
    safe = free.clamp(min=1.0)  # row 0 is no element
    w, s = c6 / safe, c6 / safe**2
    return 2.0 * w[:, None] * w / (s[:, None] + s).clamp(min=1e-12)
