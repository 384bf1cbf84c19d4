"""Exact laws: symmetries, independence of the batch, forces as derivatives."""

import numpy as np
from ase import Atoms
from jaxtyping import Float

from molpool_calc.audit.check import Check, unmeasured
from molpool_calc.audit.probe import (
    Probe,
    Results,
    differences,
    distorted,
    is_of_atoms,
    joined,
    moved,
    worst_of,
)

EXACT = 1e-6
"""Largest deviation of what holds but for float64 rounding, and for constants that some
published networks round to float32."""
SAME = 1e-8
"""Largest deviation of one computation done in two ways."""
UNITS = "eV, eV/Å, e·Å, …"
STEP = 5e-4
"""Å: leaves 2e-8 eV/Å of the fourth order, and 1e-8 of rounding."""
MAX_ATOMS = 12


def equivariance(probe: Probe, atoms: Atoms, generator: np.random.Generator) -> Check:
    """Turn, reflect and shift the structure."""
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    before = probe.alone(atoms)
    compared = []
    for matrix in (turn, -turn):
        after = probe.alone(moved(atoms, atoms.positions @ matrix.T + [3.0, -7.0, 2.0]))
        compared.append(differences(after, _turned(before, matrix)))
    return _compared(compared, EXACT)


def _turned(results: Results, matrix: Float[np.ndarray, "3 3"]) -> Results:
    turned = dict(results)
    for name in {"forces", "dipole"} & results.keys():
        turned[name] = results[name] @ matrix.T
    if "polarizability" in results:
        turned["polarizability"] = matrix @ results["polarizability"] @ matrix.T
    return turned


def permutation(probe: Probe, atoms: Atoms, generator: np.random.Generator) -> Check:
    """Number the atoms in another order."""
    order = generator.permutation(len(atoms))
    before = probe.alone(atoms)
    expected = {
        name: value[order] if is_of_atoms(name, value) else value
        for name, value in before.items()
    }
    return _compared([differences(probe.alone(atoms[order]), expected)], EXACT)


def batch_independence(
    probe: Probe, atoms: Atoms, generator: np.random.Generator
) -> Check:
    """Compute the structure among others of its size, and alone."""
    others = [distorted(atoms, generator, 0.05) for _ in range(3)]
    found = probe.together([others[0], atoms, *others[1:]])[1]
    return _compared([differences(found, probe.alone(atoms))], SAME)


def padding_independence(
    probe: Probe, atoms: Atoms, generator: np.random.Generator
) -> Check:
    """Compute the structure beside a larger and a smaller one, and alone."""
    larger = joined(atoms, distorted(atoms, generator, 0.05), _extent(atoms) + 3.0)
    found = probe.together([larger, atoms, atoms[:1]])[1]
    return _compared([differences(found, probe.alone(atoms))], SAME)


def finite_difference_forces(
    probe: Probe, atoms: Atoms, generator: np.random.Generator
) -> Check:
    """Compare forces with energies at four displacements of each coordinate."""
    if not probe.has_forces:
        return unmeasured("eV/Å")
    chosen = np.arange(len(atoms))
    if len(atoms) > MAX_ATOMS:
        chosen = np.sort(generator.choice(len(atoms), MAX_ATOMS, replace=False))
    # axes: moved atom, direction, multiple of the step, then positions
    displaced = np.tile(atoms.positions, (len(chosen), 3, 4, 1, 1))
    for place, atom in enumerate(chosen):
        for axis in range(3):
            displaced[place, axis, :, atom, axis] += STEP * np.array([-2, -1, 1, 2])
    energies = probe.energies(atoms, displaced.reshape(-1, len(atoms), 3))
    slopes = energies.reshape(-1, 3, 4) @ [1.0, -8.0, 8.0, -1.0] / (12.0 * STEP)
    error = np.abs(probe.alone(atoms)["forces"][chosen] + slopes).max()
    details = {"step": STEP, "n_atoms_moved": len(chosen)}
    return Check(value=float(error), limit=EXACT, unit="eV/Å", details=details)


def _compared(rows: list[dict[str, float]], limit: float) -> Check:
    worst = worst_of(rows)
    return Check(
        value=max(worst.values()), limit=limit, unit=UNITS, details={"of": worst}
    )


def _extent(atoms: Atoms) -> float:
    return float(np.ptp(atoms.positions[:, 0]))
