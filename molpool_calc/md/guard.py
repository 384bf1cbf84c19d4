"""The guard: what a replica must not do, checked at every step, all replicas at once.

`Limits` are the thresholds; the functions that measure are pure. A
replica beyond a limit is stopped by itself: `hold` keeps it at its last good step,
where the force field can still answer, and the others go on as if it had not been
there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from molpool_calc.elements import covalent_radius_table
from molpool_calc.md.state import MDState, MDSystem
from molpool_calc.units import BOLTZMANN

Quantity = Literal[
    "not finite",
    "shortest distance",
    "temperature",
    "energy drift",
    "largest force",
    "force spread",
    "volume",
]

# A canonical kinetic energy leaves its bounds once in e^35 = 1.6e15 samples.
_RARE = 35.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds of the guard; ``None`` checks nothing.

    What is not finite stops a replica always.

    Attributes:
        distance: between any two atoms, as a fraction of the sum of their covalent
            radii (Cordero et al., Dalton Trans. 2832 (2008)).
        force: on any atom, eV/Å.
        temperatures: lowest and highest of the ensemble, K. The kinetic temperature at
            an instant may be outside by its canonical fluctuation, see
            `kinetic_bounds`.
        drift: of the conserved energy, meV/atom per ps: its change since step 0 over
            the time since then, a picosecond at least.
        spread: of the forces of a committee on any atom, eV/Å; see
            `committee.force_spread`.
        volumes: smallest and largest at constant pressure, as fractions of the first.
    """

    distance: float | None = None
    force: float | None = None
    temperatures: tuple[float, float] | None = None
    drift: float | None = None
    spread: float | None = None
    volumes: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("distance", "force", "drift", "spread"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(
                    f"the guard's {name} is {value}, but a limit must be positive; "
                    "give a number above 0, or None to check nothing"
                )
        for name in ("temperatures", "volumes"):
            window = getattr(self, name)
            if window is not None and not 0.0 <= window[0] < window[1]:
                raise ValueError(
                    f"the guard's {name} are {window[0]:g} to {window[1]:g}, but the "
                    "first must be 0 or more and below the second; swap or correct them"
                )


NO_LIMITS = Limits()
"""Stops a replica only at what is not finite."""


def usual_limits(temperature: float) -> Limits:
    """Return limits that sound dynamics at a temperature (K) stay far away from.

    Bond lengths are above 0.7 of the sum of covalent radii at 800 K, forces below
    20 eV/Å; a drift of 50 meV/atom/ps is a heating by 200 K/ps. A committee of
    schnet-ethanol and so3krates-ethanol spreads by 0.02 eV/Å at the minimum, by 0.6 at
    most with Gaussian displacements of 0.06 Å, and by 0.8 to 10 with 0.12 Å.
    """
    return Limits(
        distance=0.5,
        force=50.0,
        temperatures=(0.0, 2.0 * temperature),
        drift=50.0,
        spread=1.0,
        volumes=(0.5, 2.0),
    )


def kinetic_bounds(
    temperatures: tuple[float, float], freedom: Float64[np.ndarray, " systems"]
) -> tuple[Float64[np.ndarray, " systems"], Float64[np.ndarray, " systems"]]:
    """Return between what a canonical kinetic energy (eV) stays at temperatures (K).

    ``2K/k_BT`` is a χ² variable with f degrees of freedom, which is below
    ``f - 2 sqrt(f x)`` or above ``f + 2 sqrt(f x) + 2 x`` with a probability of at most
    ``exp(-x)`` each: Laurent & Massart, Ann. Stat. 28, 1302 (2000), Eqs. 4.3 and 4.4.
    """
    width = 2.0 * np.sqrt(_RARE * freedom)
    low = 0.5 * BOLTZMANN * temperatures[0] * np.maximum(freedom - width, 0.0)
    high = 0.5 * BOLTZMANN * temperatures[1] * (freedom + width + 2.0 * _RARE)
    return low, high


def closeness_weights(
    system: MDSystem,
) -> Float64[Tensor, "members members"]:
    """Return 1/(r_i + r_j)² of covalent radii r (Å), for the atoms of one replica."""
    numbers = system.atomic_numbers[: system.systems.max_size]
    radii = covalent_radius_table().to(numbers.device)[numbers]
    weights: Float64[Tensor, "members members"] = (radii[:, None] + radii).pow(-2)
    return weights


def shortest_distances(
    system: MDSystem,
    positions: Float64[Tensor, "atoms 3"],
    weights: Float64[Tensor, "members members"],
    cell: Float64[Tensor, "systems 3 3"] | None = None,
) -> Float64[Tensor, " systems"]:
    """Return the shortest distance in each replica over the sum of covalent radii.

    Of periodic systems the nearest images are compared, found by rounding fractional
    coordinates: exact for distances below half the smallest height of the cell.

    Args:
        system: Replicas of one system of two atoms or more.
        positions: In Å, wrapped or not.
        weights: Of `closeness_weights`.
        cell: Where it moves; else that of the system.
    """
    squares = _square_distances(system, positions, cell) * weights
    squares.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return squares.flatten(1).amin(1).sqrt()


def closest_pair(
    system: MDSystem, state: MDState, replica: int
) -> tuple[int, int, float]:
    """Return the two atoms of a replica that are closest for their size, and how far.

    Atoms count from 0 in each replica; the distance is in Å.
    """
    squares = _square_distances(system, state.positions, state.cell)[replica]
    ratios = squares * closeness_weights(system)
    ratios.diagonal().fill_(torch.inf)
    first, second = divmod(int(ratios.argmin()), len(ratios))
    return first, second, float(squares[first, second].sqrt())


def _square_distances(
    system: MDSystem,
    positions: Float64[Tensor, "atoms 3"],
    cell: Float64[Tensor, "systems 3 3"] | None,
) -> Float64[Tensor, "systems members members"]:
    n_replicas, n_atoms = system.systems.n_segments, system.systems.max_size
    x = positions.view(n_replicas, n_atoms, 3)
    vectors = x[:, :, None] - x[:, None]
    cell = system.cell if cell is None else cell
    if cell is not None and system.pbc is not None:
        # pinv leaves out the directions of a cell that has fewer than three vectors
        inverse = torch.linalg.pinv(cell)[:, None]
        crossed = (vectors @ inverse).round() * system.pbc[:, None, None]
        vectors = vectors - crossed @ cell[:, None]
    return vectors.square().sum(3)


def largest_forces(
    forces: Float64[Tensor, "atoms 3"], n_replicas: int
) -> Float64[Tensor, " systems"]:
    """Return the largest force on any atom of each replica, eV/Å."""
    return forces.square().sum(1).view(n_replicas, -1).amax(1).sqrt()


def hold(
    last: MDState,
    following: MDState,
    stopped: Bool[Tensor, " systems"],
    system: MDSystem,
) -> MDState:
    """Return the following state, but the last one for replicas that are stopped.

    Their momenta and forces are zero, so that integrators leave them where they are.
    The state of the random generator is everybody's and goes on.
    """
    of_atom = stopped[system.systems.index]
    held: MDState = _held(last, following, stopped, of_atom)
    rest = ~of_atom[:, None]
    forces = held.response.forces.where(rest, 0.0)
    return replace(
        held,
        momenta=held.momenta.where(rest, 0.0),
        response=replace(held.response, forces=forces),
    )


def _held(last: Any, following: Any, stopped: Tensor, of_atom: Tensor) -> Any:
    """Return a part of a state: whatever it holds is per system, per atom, or common.

    ``where`` picks without arithmetic, so no NaN of the following state survives.
    """
    if isinstance(following, Tensor) and isinstance(last, Tensor):
        size = following.shape[0] if following.ndim else 0
        rows = [mask for mask in (stopped, of_atom) if len(mask) == size]
        if not rows or following.dtype == torch.uint8:  # the random generator
            return following
        mask = rows[0].view(-1, *[1] * (following.ndim - 1))
        return torch.where(mask, last, following)
    if isinstance(following, Mapping):
        return {
            name: _held(last[name], value, stopped, of_atom)
            for name, value in following.items()
        }
    if is_dataclass(following) and not isinstance(following, type):
        changes = {
            field.name: _held(
                getattr(last, field.name),
                getattr(following, field.name),
                stopped,
                of_atom,
            )
            for field in fields(following)
        }
        return replace(following, **changes)
    return following
