"""The gradient of the loss of one batch: what an optimiser step needs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from molpool_calc.derivatives import differentiate, loss_gradients
from molpool_calc.interfaces import AtomsBatch, NeighborList, Prediction
from molpool_calc.potential import NeuralPotential
from molpool_calc.training.frames import Labels
from molpool_calc.training.losses import Objective, loss


@runtime_checkable
class Step(Protocol):
    """Gives the loss of a batch and its gradient.

    Attributes:
        name: of the engine, as it stands in the checkpoint.
    """

    name: str

    def __call__(
        self,
        batch: AtomsBatch,
        neighbors: NeighborList,
        labels: Labels,
        shares: Float[Tensor, " properties"],
    ) -> list[Tensor]:
        """Return the loss, and its derivative by every parameter in their order.

        Args:
            batch: of training frames.
            neighbors: its pairs.
            labels: its reference values.
            shares: of each property of the objective, see ``losses.loss``.
        """
        ...


class EagerStep:
    """Runs the network and both backward passes operation by operation."""

    name = "eager"

    def __init__(self, potential: NeuralPotential, objective: Objective) -> None:
        self.potential, self.objective = potential, objective
        self.parameters = list(potential.parameters())

    def __call__(
        self,
        batch: AtomsBatch,
        neighbors: NeighborList,
        labels: Labels,
        shares: Float[Tensor, " properties"],
    ) -> list[Tensor]:
        """Return the loss and its gradient (see `Step`)."""
        prediction = differentiate(
            self.potential,
            batch,
            neighbors,
            frozenset(self.objective.weights),
            create_graph=True,
        )
        value = loss(prediction, labels, batch, self.objective, shares)
        return [value.detach(), *loss_gradients(value, self.parameters)]


class Reparametrized:
    """A potential whose parameters are given with each call; buffers are its own.

    Args:
        potential: of which everything else is taken.
        parameters: in the order of the potential's.
    """

    def __init__(
        self, potential: NeuralPotential, parameters: Sequence[Tensor]
    ) -> None:
        self.potential = potential
        self.cutoff, self.species = potential.cutoff, potential.species
        names = [name for name, _ in potential.named_parameters()]
        self._parameters = dict(zip(names, parameters, strict=True))

    @property
    def properties(self) -> frozenset[str]:
        """Names of the properties available."""
        return self.potential.properties

    def __call__(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return the wanted properties."""
        arguments = (batch, neighbors, properties)
        found = functional_call(self.potential, self._parameters, arguments)
        assert isinstance(found, Prediction)
        return found


def gradient_at(
    parameters: Sequence[Tensor],
    potential: NeuralPotential,
    objective: Objective,
    example: tuple[AtomsBatch, NeighborList, Labels, Tensor],
) -> list[Tensor]:
    """Return what a step gives at other parameters; this is what is traced.

    Args:
        parameters: in the order of the potential's.
        potential: its architecture and buffers.
        objective: to minimise.
        example: what a `Step` is called with.
    """
    batch, neighbors, labels, shares = example
    live = [parameter.detach().requires_grad_() for parameter in parameters]
    prediction = differentiate(
        Reparametrized(potential, live),
        replace(batch, positions=batch.positions.detach()),
        neighbors,
        frozenset(objective.weights),
        create_graph=True,
    )
    value = loss(prediction, labels, batch, objective, shares)
    return [value.detach(), *loss_gradients(value, live)]
