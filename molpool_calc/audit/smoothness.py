"""Whether forces, or the energy itself, jump along a path.

Measure: the largest jump of any force component (eV/Å) or of the energy (eV). They are
computed at even
steps along two straight paths, a random distortion of the structure, and its outermost
atom pulled away until it is beyond the cutoff of all others. Where their third
differences are largest, for a jump survives there and a smooth force does not, the step
is halved again and again, each time keeping the half with the larger change. What is
left after ``HALVINGS`` is the jump itself, or next to nothing: a force constant of 100
eV/Å² leaves 2e-6 eV/Å. So a cutoff function with a continuous first derivative passes
(its kink is in the force constants), and a ReLU in the pooling does not.
"""

from math import isfinite

import numpy as np
from ase import Atoms
from jaxtyping import Float

from molpool_calc.audit.check import Check, unmeasured
from molpool_calc.audit.probe import Probe, moved

MAX_JUMP = 1e-5
UNIT = "eV/Å, eV"
N_STEPS = 240
N_PARTS, PER_PART = 8, 2
"""Of each path; the largest third differences are sought in every part."""
HALVINGS = 20
DISTORTION = 0.15  # Å
PULLED = 8.0
"""Å, how far an atom is pulled where the cutoff is infinite."""
WANTED = frozenset({"energy", "forces"})


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

    def at(places: Float[np.ndarray, " places"]) -> Float[np.ndarray, "places values"]:
        """Energy, then all force components, at fractions of the path."""
        structures = [moved(atoms, atoms.positions + s * path) for s in places]
        found = probe.together(structures, WANTED)
        rows = [np.append(r["energy"], r["forces"]) for r in found]
        return np.array(rows)

    places = np.linspace(0.0, 1.0, N_STEPS + 1)
    values = at(places)
    starts = _suspects(values)
    left, right = places[starts], places[starts + 1]
    at_left, at_right = values[starts], values[starts + 1]
    for _ in range(HALVINGS):
        middle = 0.5 * (left + right)
        at_middle = at(middle)
        is_left = _change(at_left, at_middle) > _change(at_middle, at_right)
        left, right = np.where(is_left, left, middle), np.where(is_left, middle, right)
        at_left = np.where(is_left[:, None], at_left, at_middle)
        at_right = np.where(is_left[:, None], at_middle, at_right)
    jumps = np.abs(at_right - at_left)
    return float(jumps[:, 1:].max()), float(jumps[:, 0].max())


def _change(
    first: Float[np.ndarray, "places values"],
    second: Float[np.ndarray, "places values"],
) -> Float[np.ndarray, " places"]:
    change: Float[np.ndarray, " places"] = np.abs(second - first).max(axis=1)
    return change


def _suspects(values: Float[np.ndarray, "places values"]) -> np.ndarray:
    """Return the steps where the values are the least smooth, some of every part."""
    # a jump in one step has the weights 1, -2, 1 in the three third differences around
    third = np.abs(np.diff(values, n=3, axis=0)).max(axis=1)
    middle_steps = np.arange(len(third)) + 1
    parts = np.array_split(np.arange(len(third)), N_PARTS)
    chosen = [part[np.argsort(third[part])[-PER_PART:]] for part in parts]
    places: np.ndarray = middle_steps[np.concatenate(chosen)]
    return places
