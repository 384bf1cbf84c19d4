"""What a training aims at: the labelled properties and their weights in the loss."""

import numpy as np
from jaxtyping import Int

from molpool_calc.potential import NeuralPotential, PotentialSpec
from molpool_calc.training.dataset import Dataset
from molpool_calc.training.frames import LABELS
from molpool_calc.training.losses import Objective
from molpool_calc.training.named_arrays import WEIGHTS
from molpool_calc.training.recipe import Recipe
from molpool_calc.units import SCALAR_UNITS

SUPERVISED = "orbital-weighted-average"
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
    stated = {name for name in LABELS if getattr(dataset, name) is not None}
    stated |= set(dataset.scalars) | {name + WEIGHTS for name in dataset.weights}
    return frozenset(stated & available)


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
        _demand_supervision(recipe, name, labelled)
    stated = {name: float(getattr(recipe.loss, name)) for name in LABELS}
    for name in recipe.heads.scalars:
        stated[name] = float(recipe.loss.scalars.get(name, 1.0))
        stated[name + WEIGHTS] = stated[name] * recipe.loss.atom_weights
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


def _demand_supervision(recipe: Recipe, name: str, labelled: frozenset[str]) -> None:
    pooling = recipe.heads.section(name).pooling
    kind = pooling if isinstance(pooling, str) else pooling.get("kind")
    if kind == SUPERVISED and name + WEIGHTS not in labelled:
        raise ValueError(
            f"head {name} has the pooling {SUPERVISED}, whose weights are trained on "
            f"fractions of the atoms; name them in data.keys.{name}{WEIGHTS}, or take "
            "weighted-average"
        )


def objective_of(
    recipe: Recipe, spec: PotentialSpec, labelled: frozenset[str]
) -> Objective:
    """Return what a recipe minimises."""
    scales = {name: float(spec.heads[name]["scale"]) for name in recipe.heads.scalars}
    return Objective(
        weights=loss_weights(recipe, labelled),
        scales=scales,
        absolute=recipe.loss.scalar_error == "absolute",
        partly_labelled=frozenset(recipe.data.partly_labelled),
    )


def error_unit(recipe: Recipe, name: str) -> str:
    """Return the internal unit of a property."""
    if name in recipe.data.units.scalars:
        return SCALAR_UNITS[recipe.data.units.scalars[name]][1]
    return ERROR_UNITS.get(name, "1")


def label_shares(
    dataset: Dataset,
    part: Int[np.ndarray, " m"],
    whole: Int[np.ndarray, " n"],
    objective: Objective,
) -> list[float]:
    """Return the part's share of a batch's labels, by property of the objective.

    The mean over a batch is the sum over its parts of share times mean; a part
    without labels has the share 0.
    """
    if len(part) == len(whole):
        return [1.0] * len(objective.weights)
    shares = []
    for name in objective.weights:
        count = _label_counts(dataset, name, partly=name in objective.partly_labelled)
        shares.append(float(count[part].sum() / max(1, count[whole].sum())))
    return shares


def _label_counts(
    dataset: Dataset, name: str, *, partly: bool
) -> Int[np.ndarray, " frames"]:
    """Return the number of rows with a label of every frame."""
    if name == "forces" or name.endswith(WEIGHTS):
        return dataset.sizes
    if not partly:
        return np.ones(len(dataset), dtype=np.int64)
    values = (
        dataset.scalars[name] if name in dataset.scalars else getattr(dataset, name)
    )
    missing = np.isnan(values.reshape(len(dataset), -1)).any(1)
    return np.where(missing, 0, 1)
