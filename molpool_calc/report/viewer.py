"""Frames for the three-dimensional viewer, with what the potential says of the atoms.

The viewer itself is 3Dmol.js (Rego & Koes, Bioinformatics 31, 1322, 2015), which also
draws the structures of chemiscope; it lies unchanged in ``assets/3dmol``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError
from ase.data import covalent_radii
from jaxtyping import Float64, Int

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.elements import number, symbol
from molpool_calc.harmonic_file import HarmonicResult
from molpool_calc.md.trajectory import RunData
from molpool_calc.report.content import RunContent
from molpool_calc.report.numbers import resolved, rounded

MOST_REPLICAS = 8
MOST_FRAMES = 500
"""Of one replica."""
MOST_POSITIONS = 15_000
"""Atoms of all frames together: what a potential evaluates in a few seconds."""

# Two atoms are bonded below this multiple of the sum of their covalent radii.
_BONDED = 1.25
_DECIMALS = 3
_DIGITS = 4

Evaluate = Callable[[list[Atoms]], list[dict[str, Any]]]
"""Structures in, results under ASE's names out."""


def viewer_data(run: RunData, evaluate: Evaluate | None) -> dict[str, Any]:
    """Return frames, bonds and values of the atoms, ready for JSON.

    Args:
        run: with at least one frame.
        evaluate: gives charges, forces and weights of the atoms; ``None`` leaves the
            colours of the elements only.
    """
    n_replicas, n_frames, n_atoms, _ = run.positions.shape
    shown = min(n_replicas, MOST_REPLICAS)
    places = chosen_frames(n_frames, MOST_POSITIONS // (shown * n_atoms))
    positions = run.positions[:shown, places]
    structures = [
        _structure(run, replica, frame)
        for replica, frames in enumerate(positions)
        for frame in frames
    ]
    results = _results(structures, evaluate)
    return {
        "symbols": [symbol(number) for number in run.atomic_numbers.tolist()],
        "times": resolved(run.frame_steps[places] * run.timestep_fs / 1e3),
        "n_replicas": n_replicas,
        "n_frames": n_frames,
        "positions": rounded(_centred(run, positions).reshape(shown, -1), _DECIMALS),
        "bonds": bonds(run.atomic_numbers, run.positions[0, 0]),
        "cell": _cell(run),
        "colours": [
            {"name": name, "unit": unit, "values": resolved(values, _DIGITS)}
            for name, unit, values in _of_atoms(results, (shown, -1))
        ],
    }


def evaluator_of(content: RunContent, device: str) -> Evaluate | None:
    """Return what evaluates the potential of a run, ``None`` if that is not at hand."""
    if content.source is None:
        return None
    inputs = content.manifest["inputs"]
    calculator = MolPoolCalculator(
        content.source,
        device=device,
        compile="cached",  # what made the run, where it is compiled
        charge=float(inputs.get("charge", 0)),
        num_unpaired=float(inputs.get("num_unpaired", 0)),
        allow_unsuitable_pooling=True,
    )

    def evaluate(structures: list[Atoms]) -> list[dict[str, Any]]:
        try:
            return calculator.calculate_many(structures)
        except (CalculatorError, ValueError):
            return []  # the last frames of a run that went astray

    return evaluate


def chosen_frames(n_frames: int, budget: int) -> Int[np.ndarray, " shown"]:
    """Return evenly spaced frames, the first and the last among them."""
    n = int(np.clip(budget, 1, min(n_frames, MOST_FRAMES)))
    return np.linspace(0, n_frames - 1, n).round().astype(np.int64)


def bonds(
    numbers: Int[np.ndarray, " atoms"], positions: Float64[np.ndarray, "atoms 3"]
) -> list[list[int]]:
    """Return pairs of atoms nearer than 1.25 times the sum of their covalent radii."""
    radii = covalent_radii[numbers]
    found = []
    for first in range(len(numbers) - 1):
        apart = np.linalg.norm(positions[first + 1 :] - positions[first], axis=1)
        near = apart < _BONDED * (radii[first + 1 :] + radii[first])
        found += [[first, int(k) + first + 1] for k in np.flatnonzero(near)]
    return found


def _results(
    structures: list[Atoms], evaluate: Evaluate | None
) -> list[dict[str, Any]]:
    """Return results of all structures; a replica that was stopped ends in NaN."""
    whole = [k for k, a in enumerate(structures) if np.isfinite(a.positions).all()]
    found = [] if evaluate is None else evaluate([structures[k] for k in whole])
    if not found:
        return []
    known = dict(zip(whole, found, strict=True))
    missing = {name: np.full_like(value, np.nan) for name, value in found[0].items()}
    return [known.get(k, missing) for k in range(len(structures))]


def _of_atoms(
    results: list[dict[str, Any]], shape: tuple[int, int]
) -> list[tuple[str, str, np.ndarray]]:
    """Return name, unit and values of what the potential says of every atom."""
    if not results:
        return []
    found = []
    for name in sorted(results[0]):
        if name.endswith("_weights"):
            title = f"weights of the {name.removesuffix('_weights')}"
            found.append((title, "", _stack(results, name)))
    if "forces" in results[0]:
        sizes = np.linalg.norm(_stack(results, "forces"), axis=-1)
        found.append(("force", "eV/Å", sizes))
    if "charges" in results[0]:
        found.append(("charge", "e", _stack(results, "charges")))
    return [(name, unit, values.reshape(shape)) for name, unit, values in found]


def _stack(results: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.stack([result[name] for result in results])


def _structure(run: RunData, replica: int, positions: np.ndarray) -> Atoms:
    if run.cell is None or run.pbc is None:
        return Atoms(run.atomic_numbers, positions)
    return Atoms(
        run.atomic_numbers, positions, cell=run.cell[replica], pbc=run.pbc[replica]
    )


def _centred(run: RunData, positions: np.ndarray) -> np.ndarray:
    """Return molecules about their centres of mass, periodic systems as they are."""
    if _cell(run) is not None:
        return positions
    centres = np.einsum("i,rfik->rfk", run.masses, positions) / run.masses.sum()
    return np.asarray(positions - centres[:, :, None])


def _cell(run: RunData) -> list[Any] | None:
    if run.cell is None or run.pbc is None or not run.pbc[0].any():
        return None
    return rounded(run.cell[0], _DECIMALS)


def modes_data(harmonic: HarmonicResult) -> dict[str, Any]:
    """Return structure and displacements of the normal modes, ready for JSON.

    A displacement is the mode divided by the square root of each mass, scaled so that
    the atom that moves most moves by 1.
    """
    masses, modes = harmonic.masses, harmonic.spectrum.modes
    moved = modes / np.sqrt(masses)[:, None]
    largest = np.linalg.norm(moved, axis=2).max(axis=1)[:, None, None]
    centre = masses @ harmonic.positions / masses.sum()
    numbers = np.array([number(name) for name in harmonic.symbols])
    return {
        "symbols": list(harmonic.symbols),
        "bonds": bonds(numbers, harmonic.positions),
        "wavenumbers": resolved(harmonic.spectrum.wavenumbers_cm1),
        "positions": rounded((harmonic.positions - centre).ravel(), _DECIMALS),
        "displacements": rounded((moved / largest).reshape(len(modes), -1), _DECIMALS),
    }
