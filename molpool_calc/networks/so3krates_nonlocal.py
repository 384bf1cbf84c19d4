"""So3krates with interactions that are local in spherical coordinates, not in space.

Frank, Unke, Müller, "So3krates: Equivariant attention for interactions on arbitrary
length-scales in molecular systems", NeurIPS 2022 (arXiv:2205.14276), in the form of
the code published with it (mlff, v0.1). Symbol → code:

=====================================  =============================
x_i features, χ_i coordinates          ``x`` [atoms F], ``chi`` [atoms m_tot]
χ⁰_i = Σ_j f_c Y(u_ij) / Σ_j f_c       ``So3kratesNonlocal.forward``
w = MLP_r(f_c φ(d)) + MLP_s(|χ_ij|_l)  ``PairFilters``
α = f_c Σ q_i k_j w / √(F/H)           ``Attention``; Δx = Σ_j α v_j
φ_χ(softmax_j |χ_ij|)                  ``Reach``: the cutoff in the space of χ
Δχ_l = Σ_j (f_c + φ_χ) β_l Y_l(u_ij)   ``Attention``
χ̃ = Σ k_{l₁l₂l₃} (χ_l₁ ⊗ χ_l₂)_l₃       ``SelfMix``
=====================================  =============================

u_ij points from the neighbor j to the center i here, and χ_ij = χ_i − χ_j.

Deviations from the published code: |χ| is √(|χ|² + epsilon), and Σ_j f_c has an epsilon
too, so that gradients are finite at zero and for an atom whose last neighbor leaves;
couplings in χ̃ that would change the parity are left out, so that a mirror image has
the same energy.
"""

import math
from collections.abc import Sequence
from math import sqrt
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomFeatures, Composition, Edges, Segments
from molpool_calc.networks.constants import Constants
from molpool_calc.networks.coupling import coupling_tensors
from molpool_calc.networks.layers import (
    CUTOFF_FUNCTIONS,
    RADIAL_BASES,
    CutoffFunction,
    RadialBasis,
    choose,
    dense,
    require_positive,
)
from molpool_calc.networks.pair_layout import PairLayout
from molpool_calc.networks.so3krates import check_widths
from molpool_calc.networks.so3krates_attention import Attention, PairFilters
from molpool_calc.networks.spherical import (
    DegreeSums,
    SphericalHarmonics,
    check_degrees,
)
from molpool_calc.segments import segment_count, segment_sum

RADIAL_HIDDEN, DEGREE_HIDDEN = 128, 32
"""Widths of the hidden layers of the filters, as published."""

COUPLING_SPREAD = 0.1
"""Standard deviation of the initial couplings of χ̃, as published."""


class Reach(nn.Module):
    """φ_χ: how far an atom counts as a neighbor because its coordinates are near.

    D̂_ij is the softmax of |χ_i − χ_j| over the other atoms j of the molecule, and
    φ_χ = 1 − 28y⁶ + 48y⁷ − 21y⁸ below y = D̂_ij/``chi_cut`` = 1 and 0 beyond. With
    ``"dynamic"``, ``chi_cut`` is one over the number of atoms.
    """

    def __init__(self, chi_cut: float | Literal["dynamic"]) -> None:
        super().__init__()
        self.chi_cut = chi_cut

    def forward(
        self, distances: Float[Tensor, "..."], pairs: PairLayout, systems: Segments
    ) -> Float[Tensor, "..."]:
        """Return φ_χ of every pair, in the axes of the layout."""
        if pairs.edges.n_dense is None:
            shares, others = self._listed_shares(distances, pairs.edges), None
        else:
            others = 1.0 - torch.eye(
                pairs.edges.n_dense, dtype=distances.dtype, device=distances.device
            )
            shares = self._dense_shares(distances, others)
        y = torch.clamp(shares / self._radius(pairs.edges, systems, shares), max=1.0)
        # the slope at y = 1 is zero but for rounding
        inside = (y < 1.0).to(y.dtype)
        value = (1.0 + y**6 * (-28.0 + y * (48.0 - 21.0 * y))) * inside
        return value if others is None else value * others

    def _listed_shares(
        self, distances: Float[Tensor, " pairs"], edges: Edges
    ) -> Float[Tensor, " pairs"]:
        largest = distances.new_zeros(edges.n_atoms).scatter_reduce(
            0, edges.center, distances.detach(), "amax"
        )
        weights = torch.exp(distances - largest.index_select(0, edges.center))
        sums = segment_sum(weights, edges.center, edges.n_atoms)
        return weights / sums.index_select(0, edges.center)

    def _dense_shares(
        self,
        distances: Float[Tensor, "systems atoms atoms"],
        others: Float[Tensor, "atoms atoms"],
    ) -> Float[Tensor, "systems atoms atoms"]:
        # an atom is at the least distance from itself, so the largest is another's
        largest = distances.detach().amax(2, keepdim=True)
        weights = torch.exp(distances - largest) * others
        # a single atom has no others and no share, rather than 0/0
        alone = float(others.shape[0] == 1)
        return weights / (weights.sum(2, keepdim=True) + alone)

    def _radius(
        self, edges: Edges, systems: Segments, like: Tensor
    ) -> float | Float[Tensor, " pairs"]:
        if self.chi_cut != "dynamic":
            return self.chi_cut
        if edges.n_dense is not None:
            return 1.0 / edges.n_dense
        count = segment_count(systems, like).index_select(0, systems.index)
        return 1.0 / count.index_select(0, edges.center)


class SelfMix(Constants):
    """χ̃_l₃ = Σ k_{l₁l₂l₃} (χ_l₁ ⊗ χ_l₂)_l₃ over l₁ < l₂, with trained weights k."""

    tensors: Tensor

    def __init__(self, degrees: Sequence[int]) -> None:
        super().__init__(tensors=coupling_tensors(degrees).flatten(1))
        n_couplings = self.tensors.shape[0]
        self.weights = nn.Parameter(COUPLING_SPREAD * torch.randn(n_couplings))

    def forward(
        self, chi: Float[Tensor, "atoms m_tot"]
    ) -> Float[Tensor, "atoms m_tot"]:
        """Return χ̃."""
        size = chi.shape[1]
        tensor = (self.weights @ self.tensors).view(size * size, size)
        outer = (chi[:, :, None] * chi[:, None, :]).flatten(1)
        return outer @ tensor


class MixingInteraction(nn.Module):
    """Exchange between features, coordinates and the couplings of the coordinates."""

    def __init__(self, n_features: int, degrees: Sequence[int], epsilon: float) -> None:
        super().__init__()
        n_degrees = len(degrees)
        self.epsilon = epsilon
        self.widths = [n_features, n_features, n_degrees, n_degrees]
        self.mix = dense(n_features + n_degrees, sum(self.widths))
        self.gate = dense(n_degrees, n_features)
        self.self_mix, self.sums = SelfMix(degrees), DegreeSums(degrees)

    def forward(
        self, x: Float[Tensor, "atoms features"], chi: Float[Tensor, "atoms m_tot"]
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
        """Return both after the exchange."""
        norms = self.sums.norms(chi, self.epsilon)
        mixed = self.mix(torch.cat((x, norms), dim=1))
        a_1, a_2, b_1, b_2 = torch.split(mixed, self.widths, dim=1)
        coupled = self.self_mix(chi)
        gate = self.gate(self.sums.norms(coupled, self.epsilon))
        x = (x + a_1 + a_2 * gate) / sqrt(3.0)
        change = self.sums.expand(b_1) * chi + self.sums.expand(b_2) * coupled
        return x, chi + change


class So3kratesNonlocal(nn.Module):
    """So3krates of 2022: atoms far apart interact if their coordinates are near.

    With ``chi_cut`` all pairs of a molecule are needed, N² of them, ``cutoff`` of the
    network is infinite, and the energies of two molecules in one system are not their
    sum at any distance. Not for crystals.

    Args:
        n_features: width F of the features; a multiple of ``n_heads`` and of the
            number of degrees.
        n_interactions: number of layers.
        degrees: of the spherical harmonics, ascending from 1 to 4.
        n_heads: heads of the attention on features; that on coordinates has one for
            each degree.
        cutoff: distance in Å at and beyond which a pair contributes nothing to the
            features, and to the coordinates only by ``chi_cut``.
        chi_cut: where interactions in the space of coordinates end, between 0 and 1;
            ``"dynamic"``: at one over the number of atoms; None: there are none.
        n_rbf: number of radial basis functions.
        radial_basis: as in ``So3krates``.
        cutoff_function: as in ``So3krates``.
        epsilon: added to squares under a root and to Σ_j f_c, dimensionless.
        max_atomic_number: largest atomic number the embedding has a row for.

    Raises:
        ValueError: a size that is not positive, widths that cannot be cut into heads,
            other degrees, an unknown basis or cutoff function, a wrong ``chi_cut``.
    """

    has_vectors = False

    def __init__(  # noqa: PLR0913 - the hyper-parameters of the paper
        self,
        *,
        n_features: int = 132,
        n_interactions: int = 3,
        degrees: Sequence[int] = (1, 2, 3),
        n_heads: int = 4,
        cutoff: float = 5.0,
        chi_cut: float | Literal["dynamic"] | None = "dynamic",
        n_rbf: int = 32,
        radial_basis: RadialBasis = "physnet",
        cutoff_function: CutoffFunction = "cosine",
        epsilon: float = 1e-8,
        max_atomic_number: int = 99,
    ) -> None:
        super().__init__()
        require_positive(
            n_features=n_features,
            n_interactions=n_interactions,
            n_heads=n_heads,
            cutoff=cutoff,
            n_rbf=n_rbf,
            epsilon=epsilon,
        )
        check_degrees(degrees)
        check_widths(n_features, n_heads, degrees)
        self.n_features, self.max_atomic_number = n_features, max_atomic_number
        self.radial_cutoff, self.epsilon = cutoff, epsilon
        self.cutoff = cutoff if chi_cut is None else math.inf
        self.reach = None if chi_cut is None else Reach(_checked(chi_cut))
        self.embedding = nn.Embedding(max_atomic_number + 1, n_features)
        self.basis = choose(RADIAL_BASES, radial_basis, "radial basis")(n_rbf, cutoff)
        self.envelope = choose(CUTOFF_FUNCTIONS, cutoff_function, "cutoff function")
        self.harmonics, self.sums = SphericalHarmonics(degrees), DegreeSums(degrees)
        self.filters = PairFilters(
            n_interactions,
            n_rbf,
            len(degrees),
            n_features,
            (RADIAL_HIDDEN, DEGREE_HIDDEN),
        )
        self.attention = Attention(
            n_interactions, n_features, n_heads, degrees, bias=True
        )
        self.interactions = nn.ModuleList(
            MixingInteraction(n_features, degrees, epsilon)
            for _ in range(n_interactions)
        )

    def forward(self, composition: Composition, edges: Edges) -> AtomFeatures:
        """Return scalar features of every atom."""
        pairs = PairLayout(edges)
        fc = self.envelope(edges.distances, self.radial_cutoff)[:, None]
        # from neighbor to center
        harmonics = self.harmonics(edges.vectors / -edges.distances[:, None])
        radial = self.filters(self.basis(edges.distances) * fc).unbind(0)
        matrices = self.attention.matrices().unbind(0)
        envelope, harmonics = pairs.spread(fc), pairs.spread(harmonics)
        x = self.embedding(composition.atomic_numbers)
        weight = pairs.sum_neighbors(envelope) + self.epsilon
        chi = pairs.sum_neighbors(envelope * harmonics) / weight
        for layer, interaction in enumerate(self.interactions):
            difference = pairs.of_centers(chi) - pairs.of_neighbors(chi)
            norms = self.sums.norms(difference, self.epsilon).flatten(0, -2)
            filters = self.filters.add_degrees(layer, radial[layer], norms)
            near = self._near(envelope, difference, pairs, composition.systems)
            change, turn = self.attention(
                x, layer, matrices[layer], filters, pairs, envelope, near * harmonics
            )
            x, chi = interaction(x + change, chi + turn)
        return AtomFeatures(scalars=x, vectors=None)

    def _near(
        self,
        envelope: Float[Tensor, "*pairs 1"],
        difference: Float[Tensor, "*pairs m_tot"],
        pairs: PairLayout,
        systems: Segments,
    ) -> Float[Tensor, "*pairs 1"]:
        """Return f_c + φ_χ."""
        if self.reach is None:
            return envelope
        distances = torch.sqrt((difference * difference).sum(-1) + self.epsilon)
        near: Tensor = self.reach(distances, pairs, systems)
        return envelope + near[..., None]


def _checked(chi_cut: float | str) -> float | Literal["dynamic"]:
    if chi_cut == "dynamic":
        return "dynamic"
    if isinstance(chi_cut, str) or not 0.0 < chi_cut <= 1.0:
        raise ValueError(
            f"chi_cut is {chi_cut!r}, but must be above 0 and at most 1, or 'dynamic', "
            "or null for no interactions beyond the cutoff"
        )
    return float(chi_cut)
