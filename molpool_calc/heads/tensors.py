"""Dipoles and polarizabilities (Schütt et al., ICML 2021, arXiv:2102.03150)."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.elements import MAX_ATOMIC_NUMBER
from molpool_calc.heads.elements import MassCentered
from molpool_calc.interfaces import AtomFeatures, AtomsBatch, Prediction
from molpool_calc.networks.layers import Activation, TwoLayer, dense
from molpool_calc.segments import segment_count, segment_sum


class GatedEquivariantBlock(nn.Module):
    """Scalars and vectors in, fewer of both out (Schütt et al. 2021, Fig. 3).

    [V, W] = v⃗ Mᵀ; [s', g] = Lin₂(silu(Lin₁[s, |V|])); v⃗' = g ⊙ W. The hidden width
    is the input width; ``epsilon`` under the root of |V| keeps second derivatives
    finite (the published code has none).
    """

    def __init__(
        self, n_in: int, n_out: int, *, activate: bool, epsilon: float
    ) -> None:
        super().__init__()
        self.n_out, self.activate, self.epsilon = n_out, activate, epsilon
        self.mix = dense(n_in, 2 * n_out, bias=False)
        self.context = TwoLayer(n_in + n_out, n_in, 2 * n_out, "silu")

    def forward(
        self,
        scalars: Float[Tensor, "atoms n_in"],
        vectors: Float[Tensor, "atoms 3 n_in"],
    ) -> tuple[Float[Tensor, "atoms n_out"], Float[Tensor, "atoms 3 n_out"]]:
        """Return the gated scalars and vectors."""
        v_mixed, w_mixed = self.mix(vectors).chunk(2, dim=2)
        norm = torch.sqrt((v_mixed * v_mixed).sum(1) + self.epsilon)
        gated = self.context(torch.cat((scalars, norm), dim=1))
        new_scalars, gate = gated.chunk(2, dim=1)
        if self.activate:
            new_scalars = nn.functional.silu(new_scalars)
        return new_scalars, gate[:, None, :] * w_mixed


class GatedReadout(nn.Module):
    """Two gated blocks F → F/2 → 1: one scalar and one vector for each atom."""

    def __init__(self, n_features: int, epsilon: float) -> None:
        super().__init__()
        half, self.epsilon = n_features // 2, epsilon
        self.first = GatedEquivariantBlock(
            n_features, half, activate=True, epsilon=epsilon
        )
        self.second = GatedEquivariantBlock(half, 1, activate=False, epsilon=epsilon)

    def forward(
        self, features: AtomFeatures
    ) -> tuple[Float[Tensor, " atoms"], Float[Tensor, "atoms 3"]]:
        """Return the scalar and the vector of every atom."""
        scalars, vectors = self.second(*self.first(features.scalars, features.vectors))
        return scalars[:, 0], vectors[:, :, 0]


class DipoleHead(nn.Module):
    """μ = Σ_i (q_i (r_i − r_COM) + ν_i) in e·Å (Schütt et al. 2021, Eq. 11).

    The charges are shifted by the same amount on every atom so that they sum to the
    total charge: a neutral system's dipole is independent of the origin, an ion's is
    that about its centre of mass. Without vector features ν_i = 0.

    Args:
        n_features: width of the atom features.
        use_vectors: add atomic dipoles ν_i from the vector features.
        activation: of the hidden layer of the charge network without vectors.
        epsilon: see ``GatedEquivariantBlock``.
        n_hidden: width of that hidden layer; by default half of ``n_features``.
        element_charges: learn a charge of each element, added to its atoms.
    """

    properties = frozenset({"dipole", "charges"})

    def __init__(
        self,
        *,
        n_features: int,
        use_vectors: bool = True,
        activation: Activation = "silu",
        epsilon: float = 1e-8,
        n_hidden: int | None = None,
        element_charges: bool = False,
    ) -> None:
        super().__init__()
        self.needs_vectors = use_vectors
        width = n_features // 2 if n_hidden is None else n_hidden
        self.readout = (
            GatedReadout(n_features, epsilon)
            if use_vectors
            else TwoLayer(n_features, width, 1, activation)
        )
        self.element_charges = element_charges
        if element_charges:
            self.element_charge = nn.Parameter(torch.zeros(MAX_ATOMIC_NUMBER + 1))
        self.centered = MassCentered()

    def forward(
        self, features: AtomFeatures, batch: AtomsBatch, prediction: Prediction
    ) -> Prediction:
        """Fill ``dipole`` and ``charges``."""
        systems = batch.systems
        if self.needs_vectors:
            latent, atomic_dipoles = self.readout(features)
        else:
            latent, atomic_dipoles = self.readout(features.scalars)[:, 0], None
        if self.element_charges:
            latent = latent + self.element_charge[batch.atomic_numbers]
        excess = batch.total_charge.to(latent.dtype) - segment_sum(
            latent, systems.index, systems.n_segments
        )
        share = excess / segment_count(systems, latent).clamp(min=1.0)
        charges = latent + share[systems.index]
        moments = charges[:, None] * self.centered(batch)
        if atomic_dipoles is not None:
            moments = moments + atomic_dipoles
        dipole = segment_sum(moments, systems.index, systems.n_segments)
        return replace(prediction, dipole=dipole, charges=charges)


class PolarizabilityHead(nn.Module):
    """α = Σ_i [a_i 1 + ν_i r_iᵀ + r_i ν_iᵀ] in e²Å²/eV (Schütt et al. 2021, Eq. 12).

    r_i is taken from the centre of mass, which makes α independent of the origin.

    Args:
        n_features: width of the atom features.
        scale: polarizability in e²Å²/eV of one unit of the network's output.
        epsilon: see ``GatedEquivariantBlock``.
    """

    properties = frozenset({"polarizability"})
    needs_vectors = True

    def __init__(
        self, *, n_features: int, scale: float = 1.0, epsilon: float = 1e-8
    ) -> None:
        super().__init__()
        self.scale = scale
        self.readout = GatedReadout(n_features, epsilon)
        self.centered = MassCentered()

    def forward(
        self, features: AtomFeatures, batch: AtomsBatch, prediction: Prediction
    ) -> Prediction:
        """Fill ``polarizability``."""
        isotropic, vectors = self.readout(features)
        outer = vectors[:, :, None] * self.centered(batch)[:, None, :]
        identity = torch.eye(3, dtype=outer.dtype, device=outer.device)
        atomic = isotropic[:, None, None] * identity + outer + outer.transpose(1, 2)
        systems = batch.systems
        total = segment_sum(atomic, systems.index, systems.n_segments) * self.scale
        return replace(prediction, polarizability=total)
