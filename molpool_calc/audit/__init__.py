"""The physics of a potential, measured: which laws it keeps, how well, how far.

Each check is a number with the limit it must stay below. A potential that claims to be
extensive is held to it; one that does not is measured without judgement. What needs
forces is ``null`` for a potential without energy.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ase import Atoms

from molpool_calc.atoms import (
    charge_and_spin_of,
    check_positions,
    check_species,
)
from molpool_calc.audit.check import Check
from molpool_calc.audit.conservation import Dynamics, nve_drift
from molpool_calc.audit.probe import Probe
from molpool_calc.audit.reach import extensivity, influence_radius
from molpool_calc.audit.smoothness import smoothness
from molpool_calc.audit.symmetries import (
    batch_independence,
    equivariance,
    finite_difference_forces,
    padding_independence,
    permutation,
)
from molpool_calc.potential import NeuralPotential
from molpool_calc.replicas import Progress
from molpool_calc.storage import weights_sha256

CHECKS = {
    "equivariance": equivariance,
    "permutation": permutation,
    "finite_difference_forces": finite_difference_forces,
    "smoothness": smoothness,
    "extensivity": extensivity,
    "influence_radius": influence_radius,
    "batch_independence": batch_independence,
    "padding_independence": padding_independence,
}
NAMES = (*CHECKS, "nve_drift", "globals_unchanged")
"""Keys of the checks in a result."""

__all__ = ["NAMES", "Dynamics", "audit"]


def audit(
    potential: NeuralPotential,
    atoms: Atoms,
    *,
    dynamics: Dynamics | None = None,
    device: str = "cpu",
    progress: Progress = lambda _step: None,
) -> dict[str, Any]:
    """Return what the checks found, ready for JSON.

    Args:
        potential: left unchanged.
        atoms: a molecule near its equilibrium; charge and spin as in ``atoms.info``.
        dynamics: of the check of energy conservation; by default 2 ps at 300 K.
        device: of the computation.
        progress: told the number of steps of dynamics done.

    Returns:
        ``passed``; ``potential``, ``sha256`` of its weights, ``system``; and for each
        of ``NAMES`` its ``value``, ``limit``, ``unit``, ``passed`` and details.

    Raises:
        ValueError: a periodic structure, or one with elements that the potential does
            not know.
    """
    _check(potential, atoms)
    before = _process_state()
    place = torch.device(device)
    probe = Probe(potential, place)
    found: dict[str, Check] = {}
    for name, check in CHECKS.items():
        # one generator each, so that a check does not depend on those before it
        found[name] = check(probe, atoms, np.random.default_rng(0))
    found["nve_drift"] = nve_drift(
        potential, atoms, place, dynamics or Dynamics(), progress
    )
    found["globals_unchanged"] = _unchanged(before)
    return {
        "passed": all(check.passed is not False for check in found.values()),
        "potential": potential.spec.name,
        "sha256": weights_sha256(potential),
        "system": atoms.get_chemical_formula(),  # type: ignore[no-untyped-call]
        "n_atoms": len(atoms),
        "extensive": potential.extensive,
        "smooth": potential.smooth,
        **{name: check.describe() for name, check in found.items()},
    }


def _check(potential: NeuralPotential, atoms: Atoms) -> None:
    check_positions(atoms.positions)
    check_species(atoms.numbers, potential.species, potential.spec.name)
    charge_and_spin_of(atoms)
    if atoms.pbc.any():
        raise ValueError(
            "the structure is periodic, but an audit moves molecules far apart; give a "
            "molecule, or set pbc to False"
        )


def _process_state() -> Mapping[str, Any]:
    """Return what belongs to the process and not to a potential."""
    return {
        "threads": torch.get_num_threads(),
        "default_dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "torch_random": torch.random.get_rng_state().numpy().tobytes(),
        # the old global one, which is what somebody could disturb
        "numpy_random": str(np.random.get_state()),  # noqa: NPY002
    }


def _unchanged(before: Mapping[str, Any]) -> Check:
    after = _process_state()
    changed = [name for name, value in before.items() if after[name] != value]
    details = {"changed": changed}
    return Check(value=float(len(changed)), limit=0.0, unit="1", details=details)
