"""Whether forces, or the energy itself, jump along a path.

Measure: the largest jump of any force component (eV/Å) or of the energy (eV). They are
computed at even steps along two straight paths, a random distortion of the structure,
and its outermost atom pulled away until it is beyond the cutoff of all others. The
steps where their fifth differences are largest, for a jump survives there and what is
smooth does not, are divided again and again, each time keeping the part that a jump is
in. What is left of a step of 2·10⁻⁹ Å is the jump itself, or next to nothing: a force
constant of 100 eV/Å² leaves 2e-7 eV/Å. So a cutoff function with a continuous first
derivative passes (its kink is in the force constants), and a ReLU in the pooling does
not.
"""

from collections.abc import Callable
from math import isfinite

import numpy as np
from ase import Atoms
from jaxtyping import Float

from molpool_calc.audit.check import Check, unmeasured
from molpool_calc.audit.probe import Probe

MAX_JUMP = 1e-6
UNIT = "eV/Å, eV"
N_STEPS = 240
N_PARTS, PER_PART = 6, 2
"""Of each path; the largest differences are sought in every part."""
ORDER = 5
"""Of the differences; in one step, a jump has the weights 1, -4, 6, -4, 1 in them."""
DIVISIONS, DIVISOR = 3, 8
"""How often a step is divided by what, its parts compared by their differences."""
HALVINGS = 14
"""After that a jump is larger than all smooth changes, and the larger half has it."""
DISTORTION = 0.15  # Å
PULLED = 8.0
"""Å, how far an atom is pulled where the cutoff is infinite."""


def smoothness(probe: Probe, atoms: Atoms, generator: np.random.Generator) -> Check:
    """Look for jumps of the forces along both paths."""
    if not probe.has_forces:
        return unmeasured(UNIT)
    paths = {
        "distortion": generator.normal(0.0, DISTORTION, (len(atoms), 3)),
        "departure": _departure(probe, atoms),
    }
    jumps = {name: _largest_jump(probe, atoms, path) for name, path in paths.items()}
    details = {
        "of": {name: force for name, (force, _) in jumps.items()},
        "energy_jump": max(energy for _, energy in jumps.values()),
    }
    largest = max(max(jump) for jump in jumps.values())
    return Check(value=largest, limit=MAX_JUMP, unit=UNIT, details=details)


def _departure(probe: Probe, atoms: Atoms) -> Float[np.ndarray, "atoms 3"]:
    """Return how the outermost atom leaves all others behind."""
    positions: Float[np.ndarray, "atoms 3"] = atoms.positions
    from_center = positions - positions.mean(axis=0)
    distances = np.linalg.norm(from_center, axis=1)
    outermost = int(distances.argmax())
    direction = np.array([1.0, 0.0, 0.0])
    if distances[outermost] > 0:
        direction = from_center[outermost] / distances[outermost]
    reach = probe.cutoff if isfinite(probe.cutoff) else PULLED
    path = np.zeros_like(positions)
    path[outermost] = direction * (reach + 0.5)
    return path


def _largest_jump(
    probe: Probe, atoms: Atoms, path: Float[np.ndarray, "atoms 3"]
) -> tuple[float, float]:
    """Return the largest jumps of a force component and of the energy on a path."""

    def positions(places: np.ndarray) -> np.ndarray:
        """Return the structure at fractions of the path."""
        moved: np.ndarray = atoms.positions + places[:, None, None] * path
        return moved

    def forces(places: np.ndarray) -> np.ndarray:
        return probe.forces(atoms, positions(places)).reshape(len(places), -1)

    def energies(places: np.ndarray) -> np.ndarray:
        return probe.energies(atoms, positions(places))[:, None]

    return _jump(forces), _jump(energies)


def _jump(at: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the largest change of a function of 0 … 1 left in a very small step."""
    places = np.linspace(0.0, 1.0, N_STEPS + 1)
    width = float(places[1])
    left = places[_suspects(at(places))]
    for _ in range(DIVISIONS):
        width /= DIVISOR
        # as many points on both sides as differences around the first and last need
        offsets = np.arange(-(ORDER // 2), DIVISOR + ORDER // 2 + 1)
        points = left[:, None] + width * offsets
        around = at(points.reshape(-1)).reshape(*points.shape, -1)
        left = left + width * _roughness(around).argmax(axis=1)
    right = left + width
    at_left, at_right = at(left), at(right)
    for _ in range(HALVINGS):
        middle = 0.5 * (left + right)
        at_middle = at(middle)
        is_left = _change(at_left, at_middle) > _change(at_middle, at_right)
        left, right = np.where(is_left, left, middle), np.where(is_left, middle, right)
        at_left = np.where(is_left[:, None], at_left, at_middle)
        at_right = np.where(is_left[:, None], at_middle, at_right)
    return float(_change(at_left, at_right).max())


def _change(
    first: Float[np.ndarray, "places components"],
    second: Float[np.ndarray, "places components"],
) -> Float[np.ndarray, " places"]:
    change: Float[np.ndarray, " places"] = np.abs(second - first).max(axis=1)
    return change


def _roughness(
    values: Float[np.ndarray, "*rows places components"],
) -> Float[np.ndarray, "*rows steps"]:
    """Return the differences around each step but ``ORDER // 2`` at both ends."""
    rough: np.ndarray = np.abs(np.diff(values, n=ORDER, axis=-2)).max(axis=-1)
    return rough


def _suspects(values: Float[np.ndarray, "places components"]) -> np.ndarray:
    """Return the steps where values are the least smooth, some of every part."""
    rough = _roughness(values)
    parts = np.array_split(np.arange(len(rough)), N_PARTS)
    chosen = [part[np.argsort(rough[part])[-PER_PART:]] for part in parts]
    steps: np.ndarray = np.concatenate(chosen) + ORDER // 2
    return steps
