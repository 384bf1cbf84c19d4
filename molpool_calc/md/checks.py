"""What is observed of every state, and between which limits each number must stay."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from molpool_calc.md.cell import cell_observables, volume
from molpool_calc.md.guard import (
    Limits,
    Quantity,
    closeness_weights,
    kinetic_bounds,
    largest_forces,
    shortest_distances,
)
from molpool_calc.md.records import observable_of
from molpool_calc.md.state import MDState, MDSystem, kinetic_energy

Row = Float64[np.ndarray, " numbers"]
"""Of one state: the recorded columns one after another, then what is measured."""

_Measure = Callable[[MDState], Float64[Tensor, " systems"]]


class _Limited(NamedTuple):
    """A quantity between limits, one of each for every replica."""

    quantity: Quantity
    low: Float64[np.ndarray, " systems"]
    high: Float64[np.ndarray, " systems"]


# A cause before its consequences: atoms that meet repel, and what repels gets hot.
_ORDER: tuple[Quantity, ...] = (
    "not finite",
    "shortest distance",
    "largest force",
    "temperature",
    "energy drift",
    "force spread",
    "volume",
)


def observables_of(system: MDSystem, state: MDState) -> list[str]:
    """Return the names of what is recorded of a state at every step."""
    has_dipole = state.response.dipole is not None
    is_committee = state.response.spread is not None
    return [
        *("energy", "kinetic", "heat"),
        *cell_observables(system, state),
        *["force_spread"] * is_committee,
        *["dipole"] * has_dipole,
        *state.response.others,
    ]


class Checks:
    """Turns states into rows of numbers, and rows into what is beyond a limit.

    Args:
        system: replicas of one system.
        limits: what must not happen.
        columns: names of what is recorded at every step: energy, kinetic energy and
            heat first.
        timestep_fs: of the integration.
        has_spread: whether the force field is a committee.
    """

    def __init__(
        self,
        system: MDSystem,
        limits: Limits,
        columns: Sequence[str],
        *,
        timestep_fs: float,
        has_spread: bool,
    ) -> None:
        self.system, self._columns = system, tuple(columns)
        self.timestep_fs = timestep_fs
        self.n_replicas = n = system.systems.n_segments
        self.replica_of = np.concatenate([_replicas(n, name) for name in columns])
        self.first: Float64[np.ndarray, " systems"] = np.zeros(n)
        self._measures: list[_Measure] = []
        rows = [*self._of_records(limits), *self._measured(limits, has_spread)]
        self.quantities = tuple(row.quantity for row in rows)
        self.low = np.stack([row.low for row in rows])
        self.high = np.stack([row.high for row in rows])

    def observe(self, state: MDState) -> Row:
        """Return all numbers of a state, in one transfer from the device."""
        response = state.response
        values = {
            "energy": response.energy,
            "kinetic": kinetic_energy(self.system, state.momenta),
            "heat": state.heat,
            **cell_observables(self.system, state),
            "force_spread": response.spread,
            "dipole": response.dipole,
            **response.others,
        }
        recorded = [_given(values[name]).flatten() for name in self._columns]
        measured = [measure(state) for measure in self._measures]
        row: Row = torch.cat([*recorded, *measured]).cpu().numpy()
        return row

    def faults(
        self, row: Row, step: int, running: Bool[np.ndarray, " systems"]
    ) -> dict[int, Quantity]:
        """Return the running replicas that are beyond a limit, each with the cause."""
        beyond, broken = self.beyond(row, step), self.broken(row)
        if not (beyond.any() or broken.any()):
            return {}
        found: dict[int, Quantity] = {}
        hurt = dict(zip(self.quantities, beyond, strict=True))
        hurt["not finite"] = ~np.isfinite(self.values(row, step)).all(axis=0)
        hurt["not finite"][self.replica_of[broken]] = True
        for quantity in _ORDER:
            if quantity in hurt:
                for replica in np.flatnonzero(hurt[quantity] & running).tolist():
                    found.setdefault(replica, quantity)
        return dict(sorted(found.items()))

    def beyond(self, row: Row, step: int) -> Bool[np.ndarray, "quantities systems"]:
        """Return which quantity of which replica is beyond its limits, or no number."""
        values = self.values(row, step)
        within: Bool[np.ndarray, "quantities systems"] = (values >= self.low) & (
            values <= self.high
        )
        return ~within

    def broken(self, row: Row) -> Bool[np.ndarray, " recorded"]:
        """Return which of the recorded numbers are not finite."""
        finite: Bool[np.ndarray, " recorded"] = np.isfinite(row[: len(self.replica_of)])
        return ~finite

    def values(self, row: Row, step: int) -> Float64[np.ndarray, "quantities systems"]:
        """Return the values of the quantities, in the order of their limits."""
        n = self.n_replicas
        picoseconds = max(1.0, 1e-3 * self.timestep_fs * step)
        values = np.empty_like(self.low)
        values[0] = row[n : 2 * n]
        values[1] = np.abs(self.change(row)) / picoseconds
        values[2:] = row[len(self.replica_of) :].reshape(-1, n)
        return values

    def conserved(self, row: Row) -> Float64[np.ndarray, " systems"]:
        """Return the energy that no ensemble changes, eV."""
        n = self.n_replicas
        conserved: Float64[np.ndarray, " systems"] = (
            row[:n] + row[n : 2 * n] - row[2 * n : 3 * n]
        )
        return conserved

    def change(self, row: Row) -> Float64[np.ndarray, " systems"]:
        """Return the change of the conserved energy since step 0, meV/atom."""
        per_atom = 1e3 / self.system.systems.max_size
        change: Float64[np.ndarray, " systems"] = (
            self.conserved(row) - self.first
        ) * per_atom
        return change

    def columns_of(
        self, marked: Bool[np.ndarray, " recorded"], replica: int
    ) -> list[str]:
        """Return the columns that have marked numbers of a replica, else positions."""
        ends = np.cumsum([len(_replicas(self.n_replicas, c)) for c in self._columns])
        places = np.flatnonzero(marked & (self.replica_of == replica))
        found = np.unique(np.searchsorted(ends, places, side="right"))
        return [self._columns[k] for k in found] or ["positions"]

    def _of_records(self, limits: Limits) -> list[_Limited]:
        """Return the limits of what follows from the recorded columns."""
        n = self.n_replicas
        low, high = np.full(n, -np.inf), np.full(n, np.inf)
        freedom = self.system.degrees_of_freedom.cpu().numpy()
        if limits.temperatures is not None:
            low, high = kinetic_bounds(limits.temperatures, freedom)
        drift = np.inf if limits.drift is None else limits.drift
        return [
            _Limited("temperature", low, high),
            _Limited("energy drift", np.zeros(n), np.full(n, drift)),
        ]

    def _measured(self, limits: Limits, has_spread: bool) -> list[_Limited]:
        """Return the limits of what is measured besides, and prepare to measure it."""
        system, n = self.system, self.n_replicas
        rows: list[_Limited] = []

        def add(quantity: Quantity, low: float, high: float, measure: _Measure) -> None:
            rows.append(_Limited(quantity, np.full(n, low), np.full(n, high)))
            self._measures.append(measure)

        if limits.distance is not None and system.systems.max_size > 1:
            weights = closeness_weights(system)
            add(
                "shortest distance",
                limits.distance,
                np.inf,
                lambda state: shortest_distances(
                    system, state.positions, weights, state.cell
                ),
            )
        if limits.force is not None:
            add(
                "largest force",
                0.0,
                limits.force,
                lambda state: largest_forces(state.response.forces, n),
            )
        if limits.spread is not None and has_spread:
            add(
                "force spread",
                0.0,
                limits.spread,
                lambda state: _given(state.response.spread),
            )
        if limits.volumes is not None and "volume" in self._columns:
            add("volume", *limits.volumes, lambda state: _expansion(system, state))
        return rows


def _expansion(system: MDSystem, state: MDState) -> Float64[Tensor, " systems"]:
    """Return the volume over the first one."""
    return volume(_given(state.cell)) / volume(_given(system.cell))


def _replicas(n_replicas: int, column: str) -> np.ndarray:
    """Return which replica each number of a column belongs to."""
    width = int(np.prod(observable_of(column).shape))
    return np.repeat(np.arange(n_replicas), width)


def _given(
    values: Float64[Tensor, " *shape"] | None,
) -> Float64[Tensor, " *shape"]:
    if values is None:
        raise TypeError(
            "the force field gave a dipole at first and then none; it must give the "
            "same properties at every step"
        )
    return values
