"""What a training aims at: the labelled properties and their weights in the loss."""

from molpool_calc.potential import NeuralPotential
from molpool_calc.training.dataset import Dataset
from molpool_calc.training.frames import LABELS
from molpool_calc.training.recipe import Recipe

ERROR_UNITS = {
    "energy": "eV",
    "forces": "eV/Angstrom",
    "dipole": "e*Angstrom",
    "polarizability": "e^2*Angstrom^2/eV",
}


def labelled_properties(potential: NeuralPotential, dataset: Dataset) -> frozenset[str]:
    """Return the properties that both the potential and the data have."""
    available = set(potential.properties)
    available |= {"forces"} if "energy" in available else set()
    return frozenset(
        name
        for name in LABELS
        if name in available and getattr(dataset, name) is not None
    )


def loss_weights(recipe: Recipe, labelled: frozenset[str]) -> dict[str, float]:
    """Return the weights above 0 of the labelled properties, in a fixed order.

    Raises:
        ValueError: a head would not be trained.
    """
    for name in recipe.heads.names:
        if name not in labelled:
            raise ValueError(
                f"head {name} has no reference values in {recipe.data.file}; "
                f"state units.{name} and the key, or leave out [heads.{name}]"
            )
    stated = {name: float(getattr(recipe.loss, name)) for name in LABELS}
    weights = {n: value for n, value in stated.items() if n in labelled and value > 0}
    # forces are derivatives of the energy: they train its head as well
    trained = set(weights) | ({"energy"} if "forces" in weights else set())
    for name in recipe.heads.names:
        if name not in trained:
            raise ValueError(
                f"loss.{name} = 0 would leave the head {name} at random weights; "
                f"raise it, or leave out [heads.{name}]"
            )
    return weights
