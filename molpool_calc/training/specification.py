"""From a recipe and its data to the specification of the potential."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase.formula import Formula

from molpool_calc.elements import symbol
from molpool_calc.potential import PotentialSpec
from molpool_calc.training.dataset import (
    Dataset,
    fit_elements,
    fit_reference_energies,
    sum_reference_energies,
)
from molpool_calc.training.recipe import Recipe
from molpool_calc.training.splits import Parts
from molpool_calc.units import SCALAR_UNITS

MAX_FORMULAS = 12


def build_spec(recipe: Recipe, dataset: Dataset, parts: Parts) -> PotentialSpec:
    """Return the specification of the potential a recipe describes.

    Element energies are those of the recipe, else fitted to the training part.
    """
    heads: dict[str, dict[str, Any]] = {}
    train = dataset.select(parts.train)
    for name in recipe.heads.names:
        heads[name] = dict(recipe.heads.section(name).arguments)
    if recipe.heads.energy is not None:
        given = recipe.data.reference_energies_ev
        fitted = given or fit_reference_energies(train)
        heads["energy"]["pooling"] = recipe.heads.energy.pooling
        heads["energy"]["reference_energies"] = {str(z): e for z, e in fitted.items()}
    for name in recipe.heads.scalars:
        if name in train.scalars:
            heads[name] = _scalar_head(recipe, name, train)
    counts = {name: len(getattr(parts, name)) for name in ("train", "valid", "test")}
    return PotentialSpec(
        name=recipe.potential.name,
        elements=tuple(int(z) for z in np.unique(dataset.numbers)),
        network={"kind": recipe.network.kind, **recipe.network.arguments},
        heads=heads,
        level_of_theory=recipe.potential.level_of_theory,
        description=recipe.potential.description,
        license=recipe.potential.license,
        total_charges=tuple(int(q) for q in np.unique(dataset.charges)),
        training_data={
            "file": Path(recipe.data.file).name,
            "sha256": dataset.sha256,
            **counts,
            **_labelled_frames(recipe, dataset, parts),
            **coverage(dataset.select(parts.train)),
        },
    )


def _labelled_frames(
    recipe: Recipe, dataset: Dataset, parts: Parts
) -> Mapping[str, Mapping[str, int]]:
    """Return how many frames of each part have the partly labelled properties."""
    counts = {}
    for name in recipe.data.partly_labelled:
        values = getattr(dataset, name)
        if values is None:
            raise ValueError(
                f"data.partly_labelled names {name}, which {recipe.data.file} does not "
                f"hold or units.{name} does not state; leave it out"
            )
        labelled = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        counts[f"frames_with_{name}"] = {
            part: int(labelled[getattr(parts, part)].sum())
            for part in ("train", "valid", "test")
        }
    return counts


def _scalar_head(recipe: Recipe, name: str, train: Dataset) -> dict[str, Any]:
    """Return the arguments of a head whose network sees standardised values.

    A sum of atomic numbers takes what the elements explain as given; all other
    designs take the mean.
    """
    section, values = recipe.heads.section(name), train.scalars[name]
    head: dict[str, Any] = {
        "kind": "scalar",
        "unit": SCALAR_UNITS[recipe.data.units.scalars[name]][1],
        "pooling": section.pooling,
        **section.arguments,
    }
    if section.pooling == "sum" and head.get("design", "atomwise") == "atomwise":
        fitted = fit_elements(train, values)
        head["reference_values"] = {str(z): value for z, value in fitted.items()}
        values = values - sum_reference_energies(train, fitted)
    else:
        head["shift"] = float(values.mean())
    head["scale"] = float(values.std()) or 1.0
    return head


def coverage(dataset: Dataset) -> Mapping[str, Any]:
    """Return what frames cover: formulas, periodicity, and energies of one molecule.

    ``energies_above_lowest_ev`` holds the 95th percentile and the largest.
    """
    formulas = sorted(
        {_formula(dataset.numbers[dataset.atoms_of(i)]) for i in range(len(dataset))}
    )
    covered: dict[str, Any] = {
        "n_formulas": len(formulas),
        "formulas": formulas[:MAX_FORMULAS],
        "periodic": bool(dataset.pbc.any()),
    }
    if len(formulas) == 1 and dataset.energy is not None:
        above = dataset.energy - dataset.energy.min()
        covered["energies_above_lowest_ev"] = {
            "percentile_95": round(float(np.percentile(above, 95)), 4),
            "largest": round(float(above.max()), 4),
        }
    return covered


def _formula(numbers: np.ndarray) -> str:
    symbols = [symbol(int(z)) for z in numbers]
    return str(Formula.from_list(symbols).format("hill"))
