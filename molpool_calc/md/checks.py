"""What is observed of every state, and between which limits each number must stay."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from torch import Tensor

from molpool_calc.md.cell import cell_observables, volume
from molpool_calc.md.guard import Limits, Quantity, kinetic_bounds
from molpool_calc.md.measures import (
    Measure,
    States,
    column_measure,
    distances_at_least,
    forces_at_most,
    given,
    in_rows,
    of_each,
)
from molpool_calc.md.records import observable_of
from molpool_calc.md.state import MDState, MDSystem

Row = Float64[np.ndarray, " numbers"]
"""Of one state: the recorded columns one after another, then what is measured."""

Rows = Float64[np.ndarray, "states numbers"]


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
        self._measures = [column_measure(system, name) for name in columns]
        rows = [*self._of_records(limits), *self._measured(limits, has_spread)]
        self.quantities = tuple(row.quantity for row in rows)
        self.low = np.stack([row.low for row in rows])
        self.high = np.stack([row.high for row in rows])
        self._lowest, self._highest = self._bounds_of_rows()

    def observe(self, state: MDState) -> Row:
        """Return all numbers of a state, in one transfer from the device."""
        row: Row = self.observe_all([state])[0]
        return row

    def observe_all(self, states: States) -> Rows:
        """Return all numbers of each of several consecutive states."""
        # a replica that has blown up is no reason to warn: it is found
        with np.errstate(invalid="ignore", over="ignore"):
            return in_rows([measure(states) for measure in self._measures])

    def faults(
        self, row: Row, step: int, running: Bool[np.ndarray, " systems"]
    ) -> dict[int, Quantity]:
        """Return the running replicas that are beyond a limit, each with the cause."""
        if self.are_sound(row[None], step):
            return {}
        beyond, broken = self.beyond(row, step), self.broken(row)
        found: dict[int, Quantity] = {}
        hurt = dict(zip(self.quantities, beyond, strict=True))
        hurt["not finite"] = ~np.isfinite(self.values(row, step)).all(axis=0)
        hurt["not finite"][self.replica_of[broken]] = True
        for quantity in _ORDER:
            if quantity in hurt:
                for replica in np.flatnonzero(hurt[quantity] & running).tolist():
                    found.setdefault(replica, quantity)
        return dict(sorted(found.items()))

    def are_sound(self, rows: Rows, step: int) -> bool:
        """Return whether all numbers of states are finite and nothing beyond a limit.

        Args:
            rows: of consecutive states.
            step: of the first.
        """
        if not ((rows >= self._lowest) & (rows <= self._highest)).all():
            return False
        limit, changes = self.high[1, 0], np.abs(self.change(rows)).max(axis=1)
        return all(
            change / self._picoseconds(step + k) <= limit
            for k, change in enumerate(changes.tolist())
        )

    def _bounds_of_rows(self) -> tuple[Row, Row]:
        """Return between what a number of a row is sound: finite, if no more."""
        n, largest = self.n_replicas, np.finfo(np.float64).max
        recorded = np.full(len(self.replica_of), largest)
        low = np.concatenate([-recorded, self.low[2:].ravel()])
        high = np.concatenate([recorded, self.high[2:].ravel()])
        low[n : 2 * n] = np.maximum(low[n : 2 * n], self.low[0])
        high[n : 2 * n] = np.minimum(high[n : 2 * n], self.high[0])
        return low, high

    def _picoseconds(self, step: int) -> float:
        """Return the time over which a drift counts."""
        return max(1.0, 1e-3 * self.timestep_fs * step)

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
        values = np.empty_like(self.low)
        values[0] = row[n : 2 * n]
        values[1] = np.abs(self.change(row)) / self._picoseconds(step)
        values[2:] = row[len(self.replica_of) :].reshape(-1, n)
        return values

    def conserved(
        self, rows: Float64[np.ndarray, "*states numbers"]
    ) -> Float64[np.ndarray, "*states systems"]:
        """Return the energy that no ensemble changes, eV."""
        n = self.n_replicas
        conserved: Float64[np.ndarray, "*states systems"] = (
            rows[..., :n] + rows[..., n : 2 * n] - rows[..., 2 * n : 3 * n]
        )
        return conserved

    def change(
        self, rows: Float64[np.ndarray, "*states numbers"]
    ) -> Float64[np.ndarray, "*states systems"]:
        """Return the change of the conserved energy since step 0, meV/atom."""
        per_atom = 1e3 / self.system.systems.max_size
        change: Float64[np.ndarray, "*states systems"] = (
            self.conserved(rows) - self.first
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

        def add(quantity: Quantity, low: float, high: float, measure: Measure) -> None:
            rows.append(_Limited(quantity, np.full(n, low), np.full(n, high)))
            self._measures.append(measure)

        if limits.distance is not None and system.systems.max_size > 1:
            measure = distances_at_least(system, limits.distance)
            add("shortest distance", limits.distance, np.inf, measure)
        if limits.force is not None:
            add("largest force", 0.0, limits.force, forces_at_most(system))
        if limits.spread is not None and has_spread:
            spread = of_each(system, lambda state: state.response.spread)
            add("force spread", 0.0, limits.spread, spread)
        if limits.volumes is not None and "volume" in self._columns:
            expansion = of_each(system, lambda state: _expansion(system, state))
            add("volume", *limits.volumes, expansion)
        return rows


def _expansion(system: MDSystem, state: MDState) -> Float64[Tensor, " systems"]:
    """Return the volume over the first one."""
    return volume(given(state.cell)) / volume(given(system.cell))


def _replicas(n_replicas: int, column: str) -> np.ndarray:
    """Return which replica each number of a column belongs to."""
    width = int(np.prod(observable_of(column).shape))
    return np.repeat(np.arange(n_replicas), width)
