"""Steps of ``ase.md`` in our runs: same records, frames and checks, no restart."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from math import nan
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError
from torch import Tensor

from molpool_calc.ase_integrators import PREFIX, AseKind
from molpool_calc.ase_settings import Settings
from molpool_calc.md.failure import ForceFailure
from molpool_calc.md.state import ForceField, MDState, MDSystem, Response

_Row = dict[str, Tensor]
"""What belongs to one replica in a state, by name."""


class AseDynamics:
    """An integrator whose steps ASE makes, with a calculator for each replica.

    Thermostat and random numbers are inside ASE's objects: a step is no function of
    the state alone, and a run cannot be resumed. Where ASE does not know the energy
    that came from the surroundings, all change of energy counts as ``heat``.

    Each replica has random numbers of its own. One that cannot go on, or that a guard
    holds (which shows in a state that is not the one returned last), is not stepped
    again, and the others do not feel it.

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
        self._returned: MDState | None = None
        self._ended: set[int] = set()

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
            ForceFailure: if no replica can begin.
        """
        del force_field
        try:
            if not self._dynamics:
                self._begin(system, state)
        except CalculatorError as error:
            raise ForceFailure(_first_part(error)) from error
        self._ended |= self._held(state)
        rows, failures = [], []
        for replica in range(len(self._dynamics)):
            row = self._row_of(state, replica)
            if replica not in self._ended:
                try:
                    row = self._step(replica, state)
                except (CalculatorError, ValueError, ArithmeticError) as error:
                    row = {**row, "energy": row["energy"] * nan}
                    failures.append((replica, _first_part(error)))
            rows.append(row)
        self._returned = self._state_of(rows, state, tuple(failures))
        return self._returned

    def _held(self, state: MDState) -> set[int]:
        """Return the replicas that are not where the last step left them."""
        if self._returned is None:
            return set()
        now, then = self._numbers(state), self._numbers(self._returned)
        return set((now != then).any(1).nonzero().flatten().tolist())

    def _numbers(self, state: MDState) -> Tensor:
        """Return what `guard.hold` changes, a row for each replica."""
        response = state.response
        parts = (state.positions, state.momenta, response.forces, response.energy)
        return torch.cat([part.reshape(len(self._dynamics), -1) for part in parts], 1)

    def _row_of(self, state: MDState, replica: int) -> _Row:
        """Return the part of a state that belongs to a replica."""
        response, n_atoms = state.response, len(self._atoms)
        own = slice(replica * n_atoms, (replica + 1) * n_atoms)
        row = {
            "positions": state.positions[own],
            "momenta": state.momenta[own],
            "heat": state.heat[replica],
            "energy": response.energy[replica],
            "forces": response.forces[own],
        }
        optional = {
            "cell": state.cell,
            "dipole": response.dipole,
            "stress": response.stress,
            "spread": response.spread,
            **{name: response.others[name] for name in self._record},
        }
        given = {key: value for key, value in optional.items() if value is not None}
        return {**row, **{key: value[replica] for key, value in given.items()}}

    def _step(self, replica: int, state: MDState) -> _Row:
        """Return the same of the state one step later."""
        dynamics = self._dynamics[replica]
        dynamics.run(1)
        atoms = dynamics.atoms
        values = {
            "positions": atoms.positions,
            "momenta": atoms.get_momenta(),
            "heat": self._heat(dynamics) - self._first_heat[replica],
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
        }
        if state.cell is not None:
            values["cell"] = atoms.cell.array
        if state.response.dipole is not None:
            values["dipole"] = atoms.get_dipole_moment()
        if state.response.stress is not None:
            values["stress"] = atoms.get_stress(voigt=False)
        if state.response.spread is not None:
            values["spread"] = _spread(atoms)
        for name in self._record:
            values[name] = atoms.calc.get_property(name, atoms)
        like = state.positions
        return {
            key: torch.as_tensor(np.array(value), dtype=like.dtype).to(like.device)
            for key, value in values.items()
        }

    def _state_of(
        self, rows: list[_Row], state: MDState, failures: tuple[tuple[int, str], ...]
    ) -> MDState:
        """Return the state that rows make up, one step after another."""
        all_of = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        response = Response(
            energy=all_of["energy"],
            forces=all_of["forces"].view(-1, 3),
            dipole=all_of.get("dipole"),
            others={name: all_of[name] for name in self._record},
            stress=all_of.get("stress"),
            spread=all_of.get("spread"),
            failures=failures,
        )
        return replace(
            state,
            positions=all_of["positions"].view(-1, 3),
            momenta=all_of["momenta"].view(-1, 3),
            cell=all_of.get("cell"),
            response=response,
            heat=all_of["heat"],
            step=state.step + 1,
        )

    def _begin(self, system: MDSystem, state: MDState) -> None:
        """Make the dynamics of each replica where its state says."""
        positions, momenta = state.positions.cpu(), state.momenta.cpu()
        index = system.systems.index.cpu()
        rngs = self._settings.rng.spawn(system.systems.n_segments)
        for replica, rng in enumerate(rngs):
            own = (index == replica).numpy()
            atoms: Any = deepcopy(self._atoms)
            atoms.positions = positions.numpy()[own]
            atoms.set_momenta(momenta.numpy()[own])
            first = replica == 0
            atoms.calc = self._calculator if first else deepcopy(self._calculator)
            settings = replace(self._settings, rng=rng)
            self._dynamics.append(self._kind.make(self._name, atoms, settings))
        for dynamics in self._dynamics:
            dynamics.run(0)  # some set themselves up only now
        self._first_heat = [self._heat(dynamics) for dynamics in self._dynamics]

    def _heat(self, dynamics: Any) -> float:
        """Return the heat of a replica, up to a constant."""
        return (self._kind.heat or _total_energy)(dynamics)


def _first_part(error: Exception) -> str:
    """Return what went wrong, without the advice after it."""
    return str(error).partition(";")[0] or type(error).__name__


def _spread(atoms: Any) -> float:
    """Return by how much the members of a calculator disagree on the forces."""
    return float(np.linalg.norm(atoms.calc.results_std["forces"], axis=1).max())


def _total_energy(dynamics: Any) -> float:
    atoms = dynamics.atoms
    return float(atoms.get_potential_energy() + atoms.get_kinetic_energy())
