"""So3krates: attention on invariant features, guided by spherical coordinates.

Frank, Unke, Müller, NeurIPS 2022 (arXiv:2205.14276), in the form of the published code
of 2023 (mlff, branch main), which differs from the paper: no biases in the attention,
one linear layer as interaction, coordinates that start at zero, and no square root,
so that all is smooth. Symbol → code:

===================================  ==========================================
x_i features                         ``x`` [atoms F]
χ_i spherical harmonic coordinates   ``chi`` [atoms m_tot], degree after degree
c_l(χ) = Σ_m χ_lm² / √(2l+1)         ``DegreeSums``
w = MLP_r(φ(d)) + MLP_s(c(χ_j−χ_i))  ``PairFilters``: one for x, one for χ
α = f_c Σ q_i k_j w / √(F/H)         ``Attention``; Δx = Σ_j α v_j, no softmax
β_l, likewise                        Δχ_lm = Σ_j β_l Y_lm(u_ij)
(a, b) = Lin[x, c(χ)]                ``Interaction``; x + a, χ_l + b_l χ_l
===================================  ==========================================

u_ij points from the center i to the neighbor j.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import AtomFeatures, Composition, Edges
from molpool_calc.kernels import PairSums, sorted_pairs
from molpool_calc.networks.layers import (
    CUTOFF_FUNCTIONS,
    LAYER_NORM_EPSILON,
    RADIAL_BASES,
    CutoffFunction,
    RadialBasis,
    ResidualMLP,
    choose,
    dense,
    require_positive,
)
from molpool_calc.networks.pair_layout import PairLayout
from molpool_calc.networks.so3krates_attention import Attention, PairFilters
from molpool_calc.networks.so3krates_kernels import attend, filters_of_distance
from molpool_calc.networks.spherical import (
    DegreeSums,
    SphericalHarmonics,
    check_degrees,
)


def check_widths(n_features: int, n_heads: int, degrees: Sequence[int]) -> None:
    """Check that the features can be cut into heads, one for each degree too.

    Raises:
        ValueError: they cannot.
    """
    for count, what in ((n_heads, "n_heads"), (len(degrees), "the number of degrees")):
        if n_features % count:
            raise ValueError(
                f"n_features is {n_features}, but must be a multiple of {what}, {count}"
            )


class Interaction(nn.Module):
    """Exchange between the features and the coordinates of each atom."""

    def __init__(self, n_features: int, degrees: Sequence[int]) -> None:
        super().__init__()
        self.n_features, self.n_degrees = n_features, len(degrees)
        width = n_features + self.n_degrees
        self.mix = dense(width, width)
        self.sums = DegreeSums(degrees)

    def forward(
        self, x: Float[Tensor, "atoms features"], chi: Float[Tensor, "atoms m_tot"]
    ) -> tuple[Float[Tensor, "atoms features"], Float[Tensor, "atoms m_tot"]]:
        """Return both after the exchange."""
        mixed = self.mix(torch.cat((x, self.sums(chi)), dim=1))
        a, b = torch.split(mixed, [self.n_features, self.n_degrees], dim=1)
        return x + a, torch.addcmul(chi, self.sums.expand(b), chi)


class So3krates(nn.Module):
    """So3krates as in the published code of 2023, with dense coordinates.

    Args:
        n_features: width F of the features; a multiple of ``n_heads`` and of the
            number of degrees.
        n_interactions: number of layers.
        degrees: of the spherical harmonics, ascending from 1 to 4.
        n_heads: heads of the attention on features; that on coordinates has one for
            each degree.
        cutoff: distance in Å at and beyond which a pair contributes nothing.
        n_rbf: number of radial basis functions.
        radial_basis: ``"physnet"``, ``"bernstein"``, ``"gaussian"`` or ``"bessel"``.
        cutoff_function: ``"cosine"`` (C¹), ``"polynomial"`` (C²), ``"mollifier"`` or
            ``"exponential"``, which are the same (C^∞).
        residual_mlp_1: a residual network after each attention.
        residual_mlp_2: a residual network after each interaction.
        layer_norm: normalize the features at the end of each layer.
        sphc_normalization: λ of coordinates that start as Σ_j f_c·Y/λ instead of zero.
        max_atomic_number: largest atomic number the embedding has a row for.

    Raises:
        ValueError: a size that is not positive, widths that cannot be cut into heads,
            other degrees, an unknown basis or cutoff function.
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
        n_rbf: int = 32,
        radial_basis: RadialBasis = "physnet",
        cutoff_function: CutoffFunction = "cosine",
        residual_mlp_1: bool = False,
        residual_mlp_2: bool = False,
        layer_norm: bool = False,
        sphc_normalization: float | None = None,
        max_atomic_number: int = 99,
    ) -> None:
        super().__init__()
        require_positive(
            n_features=n_features,
            n_interactions=n_interactions,
            n_heads=n_heads,
            cutoff=cutoff,
            n_rbf=n_rbf,
            sphc_normalization=1 if sphc_normalization is None else sphc_normalization,
        )
        check_degrees(degrees)
        check_widths(n_features, n_heads, degrees)
        self.n_features, self.cutoff = n_features, cutoff
        self.max_atomic_number = max_atomic_number
        self.sphc_normalization = sphc_normalization
        self.embedding = nn.Embedding(max_atomic_number + 1, n_features)
        self.basis = choose(RADIAL_BASES, radial_basis, "radial basis")(n_rbf, cutoff)
        self.envelope = choose(CUTOFF_FUNCTIONS, cutoff_function, "cutoff function")
        self.harmonics, self.sums = SphericalHarmonics(degrees), DegreeSums(degrees)
        layers = range(n_interactions)
        self.filters = PairFilters(
            n_interactions,
            n_rbf,
            len(degrees),
            n_features,
            (n_features, max(n_features // 4, 1)),
        )
        self.attention = Attention(n_interactions, n_features, n_heads, degrees)
        self.interactions = nn.ModuleList(
            Interaction(n_features, degrees) for _ in layers
        )
        self.after_attention = nn.ModuleList(
            ResidualMLP(n_features) if residual_mlp_1 else nn.Identity() for _ in layers
        )
        self.after_interaction = nn.ModuleList(
            _layer_end(n_features, residual_mlp_2, layer_norm) for _ in layers
        )

        self._of_distance = filters_of_distance(
            self.basis,
            self.filters,
            from_zero=sphc_normalization is None,
            cutoff=cutoff,
            n_rbf=n_rbf,
        )

    def forward(self, composition: Composition, edges: Edges) -> AtomFeatures:
        """Return scalar features of every atom."""
        pairs = PairLayout(edges)
        fc = self.envelope(edges.distances, self.cutoff)[:, None]
        units = edges.vectors / edges.distances[:, None]
        envelope, directions = (
            pairs.spread(fc),
            pairs.spread(fc * self.harmonics(units)),
        )
        matrices = self.attention.matrices().unbind(0)
        x, chi = self.embedding(composition.atomic_numbers), None
        if self.sphc_normalization is not None:
            chi = pairs.sum_neighbors(directions) / self.sphc_normalization
        order = sorted_pairs(edges, list(chain(*self._of_distance)))
        if order is None:
            radial = self.filters(self.basis(edges.distances)).unbind(0)
        for layer, interaction in enumerate(self.interactions):
            if order is not None:
                sums = PairSums(edges, order), envelope, directions, self.sums
                filtered = self._of_distance[layer], self.filters.of_invariants(layer)
                projected = self.attention.project(x, layer, matrices[layer])
                change, turn = attend(self.attention, projected, filtered, chi, sums)
            else:
                invariants = self._invariants(pairs, chi, like=x)
                filters = self.filters.add_degrees(layer, radial[layer], invariants)
                change, turn = self.attention(
                    x, layer, matrices[layer], filters, pairs, envelope, directions
                )
            x = self.after_attention[layer](x + change)
            x, chi = interaction(x, turn if chi is None else chi + turn)
            x = self.after_interaction[layer](x)
        return AtomFeatures(scalars=x, vectors=None)

    def _invariants(
        self, pairs: PairLayout, chi: Float[Tensor, "atoms m_tot"] | None, like: Tensor
    ) -> Float[Tensor, "pairs_or_one degrees"]:
        """Return c(χ_j − χ_i); ``None`` stands for the zeros of the first layer."""
        if chi is None:
            return like.new_zeros((1, self.sums.membership.shape[0]))
        difference = pairs.of_neighbors(chi) - pairs.of_centers(chi)
        invariants: Tensor = self.sums(difference)
        return invariants.flatten(0, -2)


def _layer_end(n_features: int, residual_mlp: bool, layer_norm: bool) -> nn.Module:
    steps: list[nn.Module] = [ResidualMLP(n_features)] if residual_mlp else []
    if layer_norm:
        steps.append(nn.LayerNorm(n_features, eps=LAYER_NORM_EPSILON))
    return nn.Sequential(*steps)
