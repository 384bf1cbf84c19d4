"""A potential in float64, ready to be asked about any structure without a policy."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from jaxtyping import Float

from molpool_calc.atoms import (
    ChargeAndSpin,
    batch_from_atoms,
    charge_and_spin_of,
)
from molpool_calc.evaluator import MAX_ATOMS_PER_BATCH, Evaluator
from molpool_calc.interfaces import Prediction
from molpool_calc.neighbors import VerletList
from molpool_calc.potential import NeuralPotential

Results = Mapping[str, Any]
OF_SYSTEM = frozenset({"dipole", "polarizability"})
"""Arrays that have no row for each atom."""


class Probe:
    """Everything a potential gives, in float64, of one structure or of many.

    Args:
        potential: left unchanged.
        device: of the computation.
    """

    def __init__(self, potential: NeuralPotential, device: torch.device) -> None:
        self.potential = potential
        self.has_forces = "energy" in potential.properties
        self.cutoff = potential.cutoff
        self.wanted = potential.properties | (
            {"forces"} if self.has_forces else frozenset()
        )
        self._evaluator = Evaluator(
            [deepcopy(potential)], device=device, dtype=torch.float64, skin=1.0
        )

    def alone(self, atoms: Atoms) -> Results:
        """Return the results of one structure, computed as in dynamics."""
        state = charge_and_spin_of(atoms)
        return self._evaluator.evaluate(atoms, state, self.wanted)[0]

    def together(self, structures: Sequence[Atoms]) -> list[Results]:
        """Return the results of all structures, computed in batches."""
        states = [charge_and_spin_of(atoms) for atoms in structures]
        found = self._evaluator.evaluate_many(structures, states, self.wanted)
        return [results for results, _ in found]

    def energies(
        self, atoms: Atoms, positions: Float[np.ndarray, "places atoms 3"]
    ) -> Float[np.ndarray, " places"]:
        """Return energies of the structure at many sets of positions.

        Raises:
            CalculationFailed: one of them is NaN or infinite.
        """
        passes = self._passes(atoms, positions, "energy")
        return _finite(np.concatenate([_array(found.energy) for found in passes]))

    def forces(
        self, atoms: Atoms, positions: Float[np.ndarray, "places atoms 3"]
    ) -> Float[np.ndarray, "places atoms 3"]:
        """Return forces on the structure at many sets of positions.

        Raises:
            CalculationFailed: one of them is NaN or infinite.
        """
        passes = self._passes(atoms, positions, "forces")
        forces = np.concatenate([_array(found.forces) for found in passes])
        return _finite(forces.reshape(positions.shape))

    def _passes(
        self,
        atoms: Atoms,
        positions: Float[np.ndarray, "places atoms 3"],
        wanted: str,
    ) -> list[Prediction]:
        engine = self._evaluator.engines[0]
        per_pass = max(1, MAX_ATOMS_PER_BATCH // len(atoms))
        passes = []
        for first in range(0, len(positions), per_pass):
            part = positions[first : first + per_pass]
            batch = batch_from_atoms(
                [atoms] * len(part), dtype=engine.dtype, device=engine.device
            )
            places = torch.as_tensor(part.reshape(-1, 3)).to(batch.positions)
            batch = replace(batch, positions=places)
            pairs = VerletList(self.cutoff, 0.0).update(batch)
            found = engine.evaluate(batch, pairs, frozenset({wanted}))
            passes.append(found)
        return passes


def _array(values: torch.Tensor | None) -> np.ndarray:
    assert values is not None  # asked for
    return values.cpu().numpy()


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise CalculationFailed(
            "an energy or force came out as NaN or infinite near the structure; give "
            "one near its equilibrium"
        )
    return values


def differences(found: Results, expected: Results) -> dict[str, float]:
    """Return the largest deviation of each result."""
    return {
        name: float(np.abs(np.asarray(found[name]) - np.asarray(value)).max())
        for name, value in expected.items()
        if name != "free_energy"
    }


def worst_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the largest deviation of each result over several comparisons."""
    return {name: max(row[name] for row in rows) for name in rows[0]}


def is_of_atoms(name: str, value: Any) -> bool:
    """Whether a result has a row for each atom."""
    return name not in OF_SYSTEM and not isinstance(value, float)


def moved(atoms: Atoms, positions: Any) -> Atoms:
    """Return a copy at other positions."""
    copy: Atoms = atoms.copy()  # type: ignore[no-untyped-call]
    copy.positions = positions
    return copy


def joined(first: Atoms, second: Atoms, separation: float) -> Atoms:
    """Return one system of two, the second moved along x; charges and spins add."""
    along_x = separation * np.eye(3)[0]
    shifted = moved(second, second.positions + along_x)
    both: Atoms = first + shifted
    states = charge_and_spin_of(first), charge_and_spin_of(second)
    total = ChargeAndSpin(*(sum(values) for values in zip(*states, strict=True)))
    both.info = total._asdict()
    return both


def distorted(atoms: Atoms, generator: np.random.Generator, by: float) -> Atoms:
    """Return a copy with normally distributed displacements of width ``by`` (Å)."""
    step = generator.normal(0.0, by, (len(atoms), 3))
    return moved(atoms, atoms.positions + step)
