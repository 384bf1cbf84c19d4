"""The closest atoms of molecules on the host, compared only when that can matter."""

import numpy as np
from jaxtyping import Float64

from molpool_calc.elements import covalent_radius_table
from molpool_calc.md.guard import closeness_weights
from molpool_calc.md.state import MDSystem

# Far above the rounding of distances (Å), far below what they change by in a step.
_ROUNDING = 1e-9
_FAR = float(np.finfo(np.float64).max)


def may_skip(system: MDSystem) -> bool:
    """Return whether `ClosestApproach` knows these systems: molecules on the host."""
    isolated = system.pbc is None or not bool(system.pbc.any())
    return isolated and system.masses.device.type == "cpu"


class ClosestApproach:
    r"""Shortest distances over sums of covalent radii, or a huge one if all are long.

    Let r⁰ be positions at which all pairs were compared, and u the longest way that
    any atom is from there now. No pair is closer than |r⁰_ij| - 2u, so that no ratio
    |r_ij|/(R_i + R_j) is below the limit while::

        2 u ≤ min_ij (|r⁰_ij| - limit (R_i + R_j))

    and nothing need be compared: the answer is a huge number for all systems. Ethanol
    at 300 K is compared at every fourteenth step of 0.5 fs. What is not a number is no
    such way, and is compared.

    Args:
        system: replicas of one molecule of two atoms or more, see `may_skip`.
        limit: no ratio may be below it.

    Attributes:
        n_compared: how often all pairs were compared.
    """

    def __init__(self, system: MDSystem, limit: float) -> None:
        self._shape = (system.systems.n_segments, system.systems.max_size, 3)
        self._first, self._second = np.triu_indices(system.systems.max_size, 1)
        numbers = system.atomic_numbers[: system.systems.max_size]
        radii = covalent_radius_table()[numbers].numpy()
        self._least = limit * (radii[self._first] + radii[self._second])
        self._weights = closeness_weights(system).numpy()[self._first, self._second]
        self._before: Float64[np.ndarray, "atoms 3"] = np.zeros((1, 3))
        self._room = -1.0
        self.n_compared = 0

    def __call__(
        self, positions: Float64[np.ndarray, "states atoms 3"]
    ) -> Float64[np.ndarray, "states systems"]:
        """Return the shortest ratios of consecutive states, huge where not compared.

        Warnings of NumPy about what is not finite are the caller's to silence.
        """
        found = np.full((len(positions), self._shape[0]), _FAR)
        start = 0
        while start < len(positions):
            beyond = ~(self._ways(positions[start:]) <= self._room)
            if not beyond.any():
                break
            start += int(beyond.argmax())
            found[start] = self._compare(positions[start])
            start += 1
        return found

    def _ways(
        self, positions: Float64[np.ndarray, "states atoms 3"]
    ) -> Float64[np.ndarray, " states"]:
        """Return 4 u² of each state."""
        way = positions - self._before
        way *= way
        squares = way[:, :, 0] + way[:, :, 1]
        squares += way[:, :, 2]
        ways: Float64[np.ndarray, " states"] = 4.0 * np.maximum.reduce(squares, axis=1)
        return ways

    def _compare(
        self, positions: Float64[np.ndarray, "atoms 3"]
    ) -> Float64[np.ndarray, " systems"]:
        self.n_compared += 1
        x, y, z = np.moveaxis(positions.reshape(self._shape), 2, 0)
        squares = self._square_along(x)
        squares += self._square_along(y)
        squares += self._square_along(z)
        room = float((np.sqrt(squares) - self._least).min()) - _ROUNDING
        self._room = room * room if room > 0.0 else -1.0
        self._before = positions.copy()  # whoever gave them may change them in place
        squares *= self._weights
        shortest: Float64[np.ndarray, " systems"] = squares.min(1)
        np.sqrt(shortest, out=shortest)
        return shortest

    def _square_along(
        self, x: Float64[np.ndarray, "systems members"]
    ) -> Float64[np.ndarray, "systems pairs"]:
        way: Float64[np.ndarray, "systems pairs"]
        way = x[:, self._first] - x[:, self._second]
        way *= way
        return way
