"""Heads turn atom features into a property: before (per atom) → pooling → after.

A head names the properties it gives, says whether it needs vector features, and fills
the matching fields of a ``Prediction``. It never looks into the network or pooling.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from molpool_calc.elements import MAX_ATOMIC_NUMBER, mass_table
from molpool_calc.interfaces import AtomFeatures, AtomsBatch, Pooling, Prediction
from molpool_calc.networks.layers import Activation, TwoLayer, dense
from molpool_calc.poolings import POOLINGS
from molpool_calc.segments import segment_count, segment_sum


@runtime_checkable
class Head(Protocol):
    """Features in, prediction fields out."""

    properties: frozenset[str]
    needs_vectors: bool

    def __call__(
        self, features: AtomFeatures, batch: AtomsBatch, prediction: Prediction
    ) -> Prediction:
        """Return ``prediction`` with this head's fields filled."""
        ...


def make_pooling(name: str) -> Pooling:
    """Return the pooling of that name.

    Raises:
        ValueError: the name is not in the table of poolings.
    """
    if name not in POOLINGS:
        raise ValueError(
            f"pooling {name!r} is unknown; choose one of {', '.join(POOLINGS)}"
        )
    return POOLINGS[name]()


class ElementTable(nn.Module):
    """One float64 number for each element, whatever the dtype of the network.

    Neither a parameter nor a buffer: it follows the device of the head but is never
    cast, and it is rebuilt from the constructor arguments, not from the weights.
    """

    def __init__(self, values: Float[Tensor, " elements"]) -> None:
        super().__init__()
        self.values = values.double()

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "ElementTable":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.values = self.values.to(fn(self.values).device)
        return self

    def forward(self, atomic_numbers: Int[Tensor, " atoms"]) -> Float[Tensor, " atoms"]:
        """Return the value of each atom's element, float64."""
        return self.values[atomic_numbers]


class EnergyHead(nn.Module):
    """E = scale·pool_i(MLP(x_i)) + Σ_i E⁰(Z_i), in eV and float64.

    The energies E⁰ of the elements are thousands of eV; they and the pooled sum are
    held in float64 whatever the dtype of the network, so that a float32 potential
    keeps its energy differences.

    Args:
        n_features: width of the atom features.
        n_hidden: width of the hidden layer; by default half of ``n_features``.
        pooling: name of the pooling of the atomic terms.
        activation: of the hidden layer.
        scale: energy in eV of one unit of the network's output.
        reference_energies: E⁰ in eV by atomic number; 0 where left out.
    """

    needs_vectors = False

    def __init__(
        self,
        *,
        n_features: int,
        n_hidden: int | None = None,
        pooling: str = "sum",
        activation: Activation = "silu",
        scale: float = 1.0,
        reference_energies: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__()
        self.pooling = make_pooling(pooling)
        self.properties = frozenset(
            {"energy", "energies"} if self.pooling.extensive else {"energy"}
        )
        self.scale = scale
        width = n_features // 2 if n_hidden is None else n_hidden
        self.before = TwoLayer(n_features, width, 1, activation)
        table = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
        for atomic_number, energy in (reference_energies or {}).items():
            if not 0 < atomic_number <= MAX_ATOMIC_NUMBER:
                raise ValueError(
                    f"reference_energies has the atomic number {atomic_number}; "
                    f"allowed are 1 to {MAX_ATOMIC_NUMBER}"
                )
            table[atomic_number] = energy
        self.reference = ElementTable(table)

    def forward(
        self, features: AtomFeatures, batch: AtomsBatch, prediction: Prediction
    ) -> Prediction:
        """Fill ``energy`` and, where the pooling is a sum, ``energies``."""
        atomic = self.before(features.scalars).double() * self.scale
        reference = self.reference(batch.atomic_numbers)
        pooled = self.pooling(atomic, batch.systems)[:, 0]
        systems = batch.systems
        offset = segment_sum(reference, systems.index, systems.n_segments)
        return replace(
            prediction,
            energy=pooled + offset,
            energies=atomic[:, 0] + reference if self.pooling.extensive else None,
        )


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
        half = n_features // 2
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


class MassCentered(nn.Module):
    """Positions relative to the centre of mass of each system."""

    def __init__(self) -> None:
        super().__init__()
        self.masses = ElementTable(mass_table())

    def forward(self, batch: AtomsBatch) -> Float[Tensor, "atoms 3"]:
        """Return r_i − r_COM in Å."""
        index, n = batch.systems.index, batch.systems.n_segments
        mass = self.masses(batch.atomic_numbers).to(batch.positions.dtype)[:, None]
        weighted = segment_sum(mass * batch.positions, index, n)
        return batch.positions - (weighted / segment_sum(mass, index, n))[index]


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
    """

    properties = frozenset({"dipole", "charges"})

    def __init__(
        self,
        *,
        n_features: int,
        use_vectors: bool = True,
        activation: Activation = "silu",
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__()
        self.needs_vectors = use_vectors
        self.readout = (
            GatedReadout(n_features, epsilon)
            if use_vectors
            else TwoLayer(n_features, n_features // 2, 1, activation)
        )
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


HEADS: dict[str, type[EnergyHead] | type[DipoleHead] | type[PolarizabilityHead]] = {
    "energy": EnergyHead,
    "dipole": DipoleHead,
    "polarizability": PolarizabilityHead,
}
"""The closed table of heads: name in a potential or a recipe → class."""
