"""What is measured of states: by NumPy on the host, by torch elsewhere.

For a few molecules calls cost more than their arithmetic, those of torch three times as
much as those of NumPy, and all of them several times as much as usual where a network
has just emptied the caches. Hence the states of several steps are measured in one go.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.md.cell import pressure, volume
from molpool_calc.md.closeness import ClosestApproach, may_skip
from molpool_calc.md.guard import (
    closeness_weights,
    largest_forces,
    shortest_distances,
)
from molpool_calc.md.state import MDState, MDSystem, kinetic_energy, sum_over_atoms

States = Sequence[MDState]
"""Of consecutive steps."""

Numbers = Tensor | np.ndarray
"""Of every state, one row each; on the device of the system, or on the host."""

Measure = Callable[[States], Numbers]


def is_on_host(system: MDSystem) -> bool:
    """Return whether NumPy can read what belongs to a system."""
    return system.masses.device.type == "cpu"


def column_measure(system: MDSystem, name: str) -> Measure:
    """Return what gives a column that is recorded at every step."""
    if name == "kinetic":
        return kinetic_energies(system)
    columns: Mapping[str, Callable[[MDState], Tensor | None]] = {
        "energy": lambda state: state.response.energy,
        "heat": lambda state: state.heat,
        "volume": lambda state: volume(given(state.cell)),
        "pressure": lambda state: pressure(system, state),
        "force_spread": lambda state: state.response.spread,
        "dipole": lambda state: state.response.dipole,
    }
    return of_each(system, columns.get(name, lambda state: state.response.others[name]))


def of_each(system: MDSystem, of: Callable[[MDState], Tensor | None]) -> Measure:
    """Return what gives a tensor of each state."""
    if is_on_host(system):
        return lambda states: _stack(states, of)
    return lambda states: torch.stack([given(of(state)) for state in states])


def kinetic_energies(system: MDSystem) -> Measure:
    """Return what gives the kinetic energy of each replica, eV."""
    if not is_on_host(system):
        return of_each(system, lambda state: kinetic_energy(system, state.momenta))
    masses = system.masses.numpy()

    def measure(states: States) -> Numbers:
        twice = _squares(states, lambda state: state.momenta)
        twice /= masses
        # the same bits as `kinetic_energy`, and so for any number of states
        sums = [sum_over_atoms(torch.from_numpy(row), system.systems) for row in twice]
        return 0.5 * np.array([of_replicas.numpy() for of_replicas in sums])

    return measure


def forces_at_most(system: MDSystem) -> Measure:
    """Return what gives the largest force on any atom of each replica, eV/Å."""
    n_replicas = system.systems.n_segments
    if not is_on_host(system):
        return of_each(
            system, lambda state: largest_forces(state.response.forces, n_replicas)
        )

    def measure(states: States) -> Numbers:
        squares = _squares(states, lambda state: state.response.forces)
        of_replicas = squares.reshape(len(states), n_replicas, -1)
        largest: np.ndarray = np.maximum.reduce(of_replicas, axis=2)
        np.sqrt(largest, out=largest)
        return largest

    return measure


def distances_at_least(system: MDSystem, limit: float) -> Measure:
    """Return what gives the shortest distances for their size where they may be short.

    Those of systems that are certainly above the limit may be a huge number instead.
    """
    if may_skip(system):
        approach = ClosestApproach(system, limit)
        return lambda states: approach(_stack(states, lambda state: state.positions))
    weights = closeness_weights(system)
    return of_each(
        system,
        lambda state: shortest_distances(system, state.positions, weights, state.cell),
    )


def _squares(
    states: States, of: Callable[[MDState], Tensor]
) -> Float64[np.ndarray, "states atoms"]:
    """Return the squares of a vector of each atom, added up in torch's order."""
    squares = np.square(_stack(states, of))
    of_atoms: Float64[np.ndarray, "states atoms"]
    of_atoms = squares[:, :, 0] + squares[:, :, 1]
    of_atoms += squares[:, :, 2]
    return of_atoms


def _stack(
    states: States, of: Callable[[MDState], Tensor | None]
) -> Float64[np.ndarray, "states ..."]:
    """Return a tensor of each state, where they are on the host."""
    return np.array([given(of(state)).numpy() for state in states])


def in_rows(numbers: Sequence[Numbers]) -> Float64[np.ndarray, "states numbers"]:
    """Return all numbers of each state in a row on the host, after one transfer."""
    tensors = [values for values in numbers if isinstance(values, Tensor)]
    if tensors:
        return torch.cat([values.flatten(1) for values in tensors], 1).cpu().numpy()
    arrays = [values for values in numbers if isinstance(values, np.ndarray)]
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)


def given(values: Tensor | None) -> Tensor:
    """Return a tensor that must be there.

    Raises:
        TypeError: it is not.
    """
    if values is None:
        raise TypeError(
            "the force field gave a dipole at first and then none; it must give the "
            "same properties at every step"
        )
    return values
