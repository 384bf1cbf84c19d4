"""Steps of ``ase.md`` in our runs: same records, frames and checks, no restart."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from torch import Tensor

from molpool_calc.ase_integrators import PREFIX, AseKind
from molpool_calc.ase_settings import Settings
from molpool_calc.md.state import ForceField, MDState, MDSystem, Response


class AseDynamics:
    """An integrator whose steps ASE makes, with a calculator for each replica.

    Thermostat and random numbers are inside ASE's objects: a step is no function of
    the state alone, and a run cannot be resumed. Where ASE does not know the energy
    that came from the surroundings, all change of energy counts as ``heat``.

    Args:
        name: of the class.
        kind: its row in `ase_integrators.KINDS`.
        atoms: the structure, with what its calculator reads from ``info``.
        calculator: of the first replica; the others get copies.
        settings: in units of ASE.
        record: further properties of each step.
    """

    def __init__(
        self,
        name: str,
        kind: AseKind,
        atoms: Atoms,
        calculator: Calculator,
        settings: Settings,
        *,
        record: Sequence[str] = (),
    ) -> None:
        self._name, self._kind, self._atoms = name, kind, atoms
        self._calculator, self._settings = calculator, settings
        self._record = tuple(record)
        self._dynamics: list[Any] = []
        self._first_heat: list[float] = []

    @property
    def ensemble(self) -> str:
        """``nve``, ``nvt`` or ``npt``."""
        return self._kind.ensemble

    @property
    def free(self) -> Literal["internal", "all"]:
        """The motion that the steps keep up."""
        return self._kind.free

    @property
    def timestep_fs(self) -> float:
        """Length of a step in femtoseconds."""
        return self._settings.timestep_fs

    def describe(self) -> dict[str, str | float]:
        """Return name, ensemble, the options that count, and what is known."""
        temperature = {"temperature": self._settings.temperature}
        options = sorted(self._kind.options)
        return {
            "integrator": PREFIX + self._name,
            "ensemble": self.ensemble,
            "timestep_fs": self.timestep_fs,
            **(temperature if self.ensemble != "nve" else {}),
            **{name: getattr(self._settings, name) for name in options},
            "knows_heat": self._kind.heat is not None,
            "note": self._kind.note,
        }

    def __call__(
        self, system: MDSystem, state: MDState, force_field: ForceField
    ) -> MDState:
        """Return the state one step later; the calculators stand for the force field.

        Raises:
            ValueError: if ASE cannot go on.
        """
        del force_field
        if not self._dynamics:
            self._begin(system, state)
        for dynamics in self._dynamics:
            dynamics.run(1)
        moved: list[Any] = [dynamics.atoms for dynamics in self._dynamics]
        like = state.positions

        def tensor(values: Any) -> Tensor:
            return torch.as_tensor(np.array(values), dtype=like.dtype).to(like.device)

        cell = None
        if state.cell is not None:
            cell = tensor([atoms.cell.array for atoms in moved])
        return replace(
            state,
            positions=tensor([atoms.positions for atoms in moved]).view(-1, 3),
            momenta=tensor([atoms.get_momenta() for atoms in moved]).view(-1, 3),
            cell=cell,
            response=self._response(moved, state, tensor),
            heat=tensor(self._heat()) - tensor(self._first_heat),
            step=state.step + 1,
        )

    def _begin(self, system: MDSystem, state: MDState) -> None:
        """Make the dynamics of each replica where its state says."""
        positions, momenta = state.positions.cpu(), state.momenta.cpu()
        index = system.systems.index.cpu()
        for replica in range(system.systems.n_segments):
            own = (index == replica).numpy()
            atoms: Any = deepcopy(self._atoms)
            atoms.positions = positions.numpy()[own]
            atoms.set_momenta(momenta.numpy()[own])
            first = replica == 0
            atoms.calc = self._calculator if first else deepcopy(self._calculator)
            self._dynamics.append(self._kind.make(self._name, atoms, self._settings))
        for dynamics in self._dynamics:
            dynamics.run(0)  # some set themselves up only now
        self._first_heat = self._heat()

    def _heat(self) -> list[float]:
        """Return the heat of each replica, up to a constant."""
        return [
            (self._kind.heat or _total_energy)(dynamics) for dynamics in self._dynamics
        ]

    def _response(self, moved: list[Any], state: MDState, tensor: Any) -> Response:
        """Return what the calculators say, of the same kind as the state's."""
        before = state.response
        dipole, stress = None, None
        if before.dipole is not None:
            dipole = tensor([atoms.get_dipole_moment() for atoms in moved])
        if before.stress is not None:
            stress = tensor([atoms.get_stress(voigt=False) for atoms in moved])
        forces = tensor([atoms.get_forces() for atoms in moved])
        return Response(
            energy=tensor([atoms.get_potential_energy() for atoms in moved]),
            forces=forces.view(-1, 3),
            dipole=dipole,
            others={
                name: tensor([atoms.calc.get_property(name, atoms) for atoms in moved])
                for name in self._record
            },
            stress=stress,
            spread=None if before.spread is None else tensor(_spreads(moved)),
        )


def _spreads(moved: list[Any]) -> list[float]:
    """Return by how much the members of each calculator disagree on the forces."""
    deviations = [atoms.calc.results_std["forces"] for atoms in moved]
    return [float(np.linalg.norm(rows, axis=1).max()) for rows in deviations]


def _total_energy(dynamics: Any) -> float:
    atoms = dynamics.atoms
    return float(atoms.get_potential_energy() + atoms.get_kinetic_energy())
