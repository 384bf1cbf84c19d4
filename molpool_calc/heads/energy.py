"""The energy, from one pooling or from a sum with a pooled correction."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.elements import MAX_ATOMIC_NUMBER
from molpool_calc.heads.elements import table_of_elements
from molpool_calc.heads.readout import Design, Layers, PoolingChoice, Readout
from molpool_calc.interfaces import AtomFeatures, AtomsBatch, Prediction
from molpool_calc.networks.layers import Activation
from molpool_calc.segments import segment_sum


class EnergyHead(Readout):
    """E = scale·(y + y_c) + Σ_i E⁰(Z_i), in eV and float64.

    y is the pooled energy of ``Readout`` and y_c an optional correction, pooled in
    another way, which starts at zero. The energies E⁰ of the elements are thousands of
    eV; they and the pooled sum are held in float64 whatever the dtype of the network,
    so that a float32 potential keeps its energy differences.

    Args:
        n_features: width of the atom features.
        n_hidden: width of the hidden layer; by default half of ``n_features``; 0: the
            one feature is the atomic energy.
        n_layers: dense layers of the network.
        pooling: of the atomic energies, name or table.
        design: see ``Readout``.
        activation: of the hidden layer.
        scale: energy in eV of one unit of the network's output.
        reference_energies: E⁰ in eV by atomic number; 0 where left out.
        element_scales: learn a factor and an offset of the atomic energies for each
            element.
        correction: ``pooling`` and other arguments of the ``Readout`` of y_c.

    Attributes:
        extensive: whether energies of systems far apart add up.
        smooth: whether the forces are continuous as far as the poolings go.
    """

    needs_vectors = False

    def __init__(  # noqa: PLR0913 - each is a choice of its own
        self,
        *,
        n_features: int,
        n_hidden: int | None = None,
        n_layers: int = 2,
        pooling: PoolingChoice = "sum",
        design: Design | None = None,
        activation: Activation = "silu",
        scale: float = 1.0,
        reference_energies: Mapping[int, float] | None = None,
        element_scales: bool = False,
        correction: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            n_features=n_features,
            n_hidden=n_hidden,
            n_layers=n_layers,
            pooling=pooling,
            design=design,
            activation=activation,
        )
        self.scale = scale
        self.reference = table_of_elements(reference_energies, "reference_energies")
        self.correction = _correction(n_features, correction)
        if self.correction is not None:
            self.extensive = False
            self.smooth = self.smooth and self.correction.smooth
        self.element_scales = element_scales
        if element_scales:
            if self.pooling.learned:
                raise ValueError(
                    "element_scales act on atomic energies, which a learned pooling "
                    "does not have; leave them out or take the pooling sum"
                )
            shape = MAX_ATOMIC_NUMBER + 1
            self.element_factor = nn.Parameter(torch.ones(shape))
            self.element_offset = nn.Parameter(torch.zeros(shape))
        names = {"energy"} | ({"energies"} if self.extensive else set())
        weighted = self.has_weights or (
            self.correction is not None and self.correction.has_weights
        )
        self.properties = frozenset(names | ({"energy_weights"} if weighted else set()))

    def forward(
        self, features: AtomFeatures, batch: AtomsBatch, prediction: Prediction
    ) -> Prediction:
        """Fill ``energy`` and, where the energy is extensive, ``energies``."""
        systems, numbers = batch.systems, batch.atomic_numbers
        atomic = self.atomic(features.scalars)
        if self.element_scales:
            factor, offset = self.element_factor[numbers], self.element_offset[numbers]
            offset = offset.double()[:, None] / self.scale
            atomic = torch.addcmul(offset, atomic, factor[:, None])
        reference = self.reference(numbers)
        pooled = self.pool(atomic, systems)
        if self.correction is not None:
            values = self.correction.atomic(features.scalars)
            pooled = pooled + self.correction.pool(values, systems)
        references = segment_sum(reference, systems.index, systems.n_segments)
        energy = self.scale * pooled + references
        energies = None
        if self.extensive:
            energies = self.scale * atomic[:, 0] + reference
        return replace(prediction, energy=energy, energies=energies)

    def atom_weights(
        self, features: AtomFeatures, batch: AtomsBatch
    ) -> Float[Tensor, " atoms"]:
        """Return the weights of the atoms in the correction, else in the energy."""
        weighted = self.correction if self.correction is not None else self
        return weighted.weights(features.scalars, batch.systems)


def _correction(n_features: int, arguments: Mapping[str, Any] | None) -> Readout | None:
    if arguments is None:
        return None
    correction = Readout(n_features=n_features, **arguments)
    for stage in (correction.before, correction.after):
        if isinstance(stage, Layers):  # the energy starts as that without correction
            nn.init.zeros_(stage.last.weight)
    return correction
