"""From predictions to results under the names and in the types of ASE."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from ase.calculators.calculator import CalculationFailed
from jaxtyping import Float
from torch import Tensor

from molpool_calc.interfaces import Prediction

ATOMIC = ("forces", "energies", "charges", "hirshfeld_ratios")
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def as_results(
    prediction: Prediction, system: int, atoms: slice, wanted: frozenset[str]
) -> dict[str, Any]:
    """Return one system's results: floats, float64 arrays, stress as six numbers.

    The dipole and the polarizability are given only if wanted: a head gives a dipole
    with its charges, also of a periodic system, where it means nothing.

    Raises:
        CalculationFailed: a result is NaN or infinite.
    """
    results = _values(prediction, system, atoms, wanted)
    for name, value in results.items():
        # NumPy takes ten times as long for one number
        whole = (
            isfinite(value) if isinstance(value, float) else np.isfinite(value).all()
        )
        if not whole:
            raise CalculationFailed(
                f"the {name} came out as NaN or infinite; look for atoms on top of "
                "each other or far outside the training data"
            )
    return results


def _values(
    prediction: Prediction, system: int, atoms: slice, wanted: frozenset[str]
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in ATOMIC:
        value = getattr(prediction, name)
        if value is not None:
            results[name] = _doubles(value, atoms)
    for name in ("dipole", "polarizability"):
        value = getattr(prediction, name)
        if value is not None and name in wanted:
            results[name] = _doubles(value, system)
    if prediction.stress is not None:
        stress = _doubles(prediction.stress, system)
        results["stress"] = np.array([stress[place] for place in VOIGT])
    if prediction.energy is not None:
        results["energy"] = float(prediction.energy[system])
        results["free_energy"] = results["energy"]
    for name, value in (prediction.others or {}).items():
        results[name] = float(value[system])
    for name, value in (prediction.weights or {}).items():
        results[f"{name}_weights"] = _doubles(value, atoms)
    return results


def _doubles(tensor: Tensor, place: slice | int) -> Float[np.ndarray, "..."]:
    # in NumPy, which takes a quarter of torch's time
    return tensor.cpu().numpy()[place].astype(np.float64)


def over_committee(
    members: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return mean and sample standard deviation over the members."""
    if len(members) == 1:
        return dict(members[0]), {}
    mean: dict[str, Any] = {}
    spread: dict[str, Any] = {}
    for name, value in members[0].items():
        stack = np.stack([np.asarray(member[name]) for member in members])
        mean[name], spread[name] = stack.mean(0), stack.std(0, ddof=1)
        if isinstance(value, float):
            mean[name], spread[name] = float(mean[name]), float(spread[name])
    return mean, spread
