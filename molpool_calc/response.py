"""Second derivatives of structures, in float64, and polarizabilities.

A float32 Hessian loses the low vibrations in rounding, so these are computed with a
float64 copy of the potential whatever the calculator's dtype. A committee gives the
mean of its members. ``Polarizability`` alone asks the calculator, in its dtype.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from molpool_calc import derivatives
from molpool_calc.atoms import ChargeAndSpin, batch_from_atoms
from molpool_calc.evaluator import Evaluator
from molpool_calc.neighbors import neighbor_list

if TYPE_CHECKING:
    from molpool_calc.calculator import MolPoolCalculator


def hessian(
    evaluator: Evaluator, atoms: Atoms, state: ChargeAndSpin
) -> Float[np.ndarray, "dof dof"]:
    """Return ∂²E/∂r∂r in eV/Å²."""
    size = 3 * len(atoms)
    rows = _mean(evaluator, atoms, state, derivatives.hessian)
    return rows.reshape(size, size)


def dipole_derivatives(
    evaluator: Evaluator, atoms: Atoms, state: ChargeAndSpin
) -> Float[np.ndarray, "atoms 3 3"]:
    """Return ∂μ_b/∂r_ia in e, axes (i, a, b)."""
    return _mean(evaluator, atoms, state, derivatives.dipole_derivatives)


def polarizability_derivatives(
    evaluator: Evaluator, atoms: Atoms, state: ChargeAndSpin
) -> Float[np.ndarray, "atoms 3 3 3"]:
    """Return ∂α_bc/∂r_ia in e²Å/eV, axes (i, a, b, c)."""
    return _mean(evaluator, atoms, state, derivatives.polarizability_derivatives)


def _mean(
    evaluator: Evaluator,
    atoms: Atoms,
    state: ChargeAndSpin,
    function: Callable[..., Tensor],
) -> np.ndarray:
    batch = batch_from_atoms(
        [atoms], dtype=torch.float64, device=evaluator.device, states=[state]
    )
    pairs = neighbor_list(batch, evaluator.cutoff, backend=evaluator.backend)
    values = [
        function(deepcopy(engine.potential).double(), batch, pairs).cpu().numpy()
        for engine in evaluator.engines
    ]
    return np.asarray(np.mean(values, axis=0))


class Polarizability:
    """Callable with a structure, returning its 3×3 polarizability in e²Å²/eV."""

    def __init__(self, calculator: "MolPoolCalculator") -> None:
        self.calculator = calculator

    def __call__(
        self, atoms: Atoms, *_arguments: Any, **_options: Any
    ) -> Float[np.ndarray, "3 3"]:
        """Return the polarizability of a structure (extra arguments are ASE's)."""
        value = self.calculator.get_property("polarizability", atoms)
        return np.asarray(value)
