"""Any other number of a molecule: orbital energies, gaps, mean polarizability."""

from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from molpool_calc.heads.elements import table_of_elements
from molpool_calc.heads.readout import Design, PoolingChoice, Readout
from molpool_calc.interfaces import AtomFeatures, AtomsBatch, Prediction
from molpool_calc.networks.layers import Activation
from molpool_calc.segments import segment_sum


class ScalarHead(Readout):
    """p = scale·y + shift + Σ_i p⁰(Z_i), y the pooled number of ``Readout``.

    The property stands in ``Prediction.others`` under the name of the head.

    Args:
        name: of the property, e.g. ``"gap"``.
        unit: of the property, as the card states it, e.g. ``"eV"``.
        n_features: width of the atom features.
        n_hidden: see ``Readout``.
        n_layers: see ``Readout``.
        pooling: see ``Readout``.
        design: see ``Readout``.
        activation: of the hidden layers.
        scale: of one unit of the network's output.
        shift: the same for every system.
        reference_values: p⁰ by atomic number, for properties that grow with size.
    """

    needs_vectors = False

    def __init__(  # noqa: PLR0913 - each is a choice of its own
        self,
        *,
        name: str,
        n_features: int,
        unit: str = "not stated",
        n_hidden: int | None = None,
        n_layers: int = 2,
        pooling: PoolingChoice = "sum",
        design: Design | None = None,
        activation: Activation = "silu",
        scale: float = 1.0,
        shift: float = 0.0,
        reference_values: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__(
            n_features=n_features,
            n_hidden=n_hidden,
            n_layers=n_layers,
            pooling=pooling,
            design=design,
            activation=activation,
        )
        self.name, self.unit, self.scale, self.shift = name, unit, scale, shift
        self.reference = table_of_elements(reference_values, "reference_values")
        weighted = {f"{name}_weights"} if self.has_weights else set()
        self.properties = frozenset({name} | weighted)

    def forward(
        self, features: AtomFeatures, batch: AtomsBatch, prediction: Prediction
    ) -> Prediction:
        """Add the property to ``others``."""
        systems = batch.systems
        pooled = self.pool(self.atomic(features.scalars), systems)
        reference = self.reference(batch.atomic_numbers)
        offset = segment_sum(reference, systems.index, systems.n_segments)
        others = dict(prediction.others or {})
        others[self.name] = self.scale * pooled + self.shift + offset
        return replace(prediction, others=others)

    def atom_weights(
        self, features: AtomFeatures, batch: AtomsBatch
    ) -> Float[Tensor, " atoms"]:
        """Return how much each atom counts; they sum to 1 over a system."""
        return self.weights(features.scalars, batch.systems)
