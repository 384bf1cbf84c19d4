"""Forces of one program, dipoles and polarizabilities of a MolPool potential.

The dynamics are those of any ASE calculator; at every step the network says, for all
replicas in one pass, what the spectra need.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from jaxtyping import Float, Float64
from torch import Tensor

from molpool_calc.engine import Engine
from molpool_calc.foreign import (
    ForeignCalculator,
    demand_property,
    failed,
    foreign_calculator,
)
from molpool_calc.interfaces import AtomsBatch
from molpool_calc.md.state import Response
from molpool_calc.neighbors import VerletList

_SKIN = 1.0  # Å
_STEP = 0.005
"""Displacement of atoms (Å) for second derivatives by central differences."""


class SidecarForceField:
    """Positions of all replicas in, foreign energies and forces out, with properties.

    Every replica has its own calculator, reset before each call, since a run restarts
    bit for bit only if the answer depends on the positions alone: a calculator that
    nevertheless starts from its last wave function restarts within its convergence.

    Args:
        forces: names the calculator, as in ``module:Class,key=value``.
        atoms: the structure, of which all replicas are copies.
        engine: of the potential that gives the properties.
        batch: all replicas.
        properties: of the potential, the dipole among them if it is recorded.
        others: which of them go beside the dipole.

    Raises:
        ValueError: there is no such calculator, or it has no energies or forces.
    """

    def __init__(
        self,
        forces: str,
        atoms: Atoms,
        engine: Engine,
        batch: AtomsBatch,
        properties: frozenset[str],
        *,
        others: tuple[str, ...] = (),
    ) -> None:
        self.foreign = foreign_calculator(forces)
        n_replicas = batch.systems.n_segments
        self.calculators: list[Any] = [self.foreign.make() for _ in range(n_replicas)]
        for name in ("energy", "forces"):
            demand_property(self.calculators[0], name, forces)
        self.replicas: list[Atoms] = [
            atoms.copy()  # type: ignore[no-untyped-call]
            for _ in range(n_replicas)
        ]
        for copy in self.replicas:  # constraints would change the forces
            copy.set_constraint()  # type: ignore[no-untyped-call]
        self.engine, self.batch, self.others = engine, batch, others
        self.properties = properties - {"energy", "forces"}
        self.lists = VerletList(engine.potential.cutoff, _SKIN)

    def __call__(self, positions: Float64[Tensor, "atoms 3"]) -> Response:
        """Return energies (eV), forces (eV/Å), dipoles (e·Å), others; all float64.

        A replica whose calculator fails has energy and forces NaN, and the others go
        on.
        """
        places = positions.cpu().numpy().reshape(len(self.replicas), -1, 3)
        found, failures = [], []
        for replica, place in enumerate(places):
            calculator, atoms = self.calculators[replica], self.replicas[replica]
            try:
                found.append(_energy_and_forces(self.foreign, calculator, atoms, place))
            except CalculationFailed as error:
                failures.append((replica, str(error)))
                found.append((nan, np.full_like(place, nan)))
        batch = replace(self.batch, positions=positions.to(self.engine.dtype))
        pairs = self.lists.update(batch)
        prediction = self.engine.evaluate(batch, pairs, self.properties)
        dipole = prediction.dipole if "dipole" in self.properties else None
        given = dict(prediction.others or {})
        if prediction.polarizability is not None:
            given["polarizability"] = prediction.polarizability
        return Response(
            energy=positions.new_tensor([energy for energy, _ in found]),
            forces=positions.new_tensor(np.concatenate([rows for _, rows in found])),
            dipole=None if dipole is None else dipole.to(torch.float64),
            others={name: given[name].to(torch.float64) for name in self.others},
            failures=tuple(failures),
        )


def difference_hessian(
    forces: str, atoms: Atoms
) -> Float[np.ndarray, "coordinates coordinates"]:
    """Return ∂²E/∂r∂r (eV/Å²) of a calculator by central differences of its forces.

    Raises:
        ValueError: there is no such calculator, or it has no forces.
    """
    foreign = foreign_calculator(forces)
    calculator = foreign.make()
    demand_property(calculator, "forces", forces)
    moved: Atoms = atoms.copy()  # type: ignore[no-untyped-call]
    moved.set_constraint()  # type: ignore[no-untyped-call]
    rows = []
    for coordinate in range(3 * len(atoms)):
        step = np.zeros(3 * len(atoms))
        step[coordinate] = _STEP
        sides: Sequence[np.ndarray] = [
            _energy_and_forces(
                foreign, calculator, moved, atoms.positions + sign * step.reshape(-1, 3)
            )[1]
            for sign in (1.0, -1.0)
        ]
        rows.append((sides[1] - sides[0]).ravel() / (2.0 * _STEP))
    hessian = np.array(rows)
    return np.asarray((hessian + hessian.T) / 2.0)


def _energy_and_forces(
    foreign: ForeignCalculator,
    calculator: Any,
    atoms: Atoms,
    positions: Float[np.ndarray, "atoms 3"],
) -> tuple[float, Float[np.ndarray, "atoms 3"]]:
    atoms.positions = positions
    if hasattr(calculator, "reset"):
        calculator.reset()
    try:
        forces = calculator.get_property("forces", atoms)
        energy = calculator.get_property("energy", atoms)
    except (RuntimeError, ArithmeticError, LookupError, OSError) as error:
        raise failed(foreign.text, "a step", error) from error
    return float(energy), np.asarray(forces, dtype=np.float64)
