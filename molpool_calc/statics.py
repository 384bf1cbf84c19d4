"""Relaxation and harmonic analysis of one structure, in float64."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from jaxtyping import Float

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.foreign import foreign_calculator
from molpool_calc.harmonic_file import HarmonicResult
from molpool_calc.provenance import Potentials, provenance
from molpool_calc.sidecar import difference_hessian
from molpool_calc.spectra import HarmonicSpectrum, harmonic_analysis
from molpool_calc.threads import threads_for

TIGHT_FMAX = 1e-4
"""Largest force (eV/Å) left at a structure whose vibrations are analysed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Relaxation:
    """A relaxed structure, its energy (eV), and how the relaxation ended."""

    atoms: Atoms
    energy: float
    fmax: float
    n_steps: int
    converged: bool


def relax(
    atoms: Atoms,
    potential: Potentials,
    *,
    fmax: float = TIGHT_FMAX,
    steps: int = 500,
    device: str = "auto",
    forces: str | None = None,
) -> Relaxation:
    """Return the minimum nearest to a structure (BFGS), which is left unchanged.

    Args:
        atoms: starting structure.
        potential: bundled name or folder, or several: a committee.
        fmax: largest force on any atom at the end, eV/Å.
        steps: most steps.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        forces: names another calculator that gives them, see ``foreign.py``.
    """
    copy = atoms.copy()  # type: ignore[no-untyped-call]
    if forces is not None:
        copy.calc = foreign_calculator(forces).make()
    else:
        # nothing is propagated: whether the pooling may drive dynamics is no matter
        copy.calc = MolPoolCalculator(
            potential, device=device, dtype="float64", allow_unsuitable_pooling=True
        )
    optimizer = BFGS(copy, logfile=None)
    with threads_for(len(copy)) if forces is None else nullcontext():
        converged = bool(optimizer.run(fmax, steps))  # type: ignore[no-untyped-call]
        left = copy.get_forces()
        energy = float(copy.get_potential_energy())
    return Relaxation(
        atoms=copy,
        energy=energy,
        fmax=float(np.linalg.norm(left, axis=1).max()),
        n_steps=int(optimizer.nsteps),
        converged=converged,
    )


def harmonic_spectrum(
    atoms: Atoms, potential: Potentials, *, device: str = "auto"
) -> HarmonicSpectrum:
    """Return wavenumbers and intensities at a relaxed structure.

    Hessian, dipole derivatives and, where the potential has a polarizability, its
    derivatives are analytic.

    Raises:
        ValueError: the potential predicts no dipole.
    """
    calculator = MolPoolCalculator(potential, device=device, dtype="float64")
    size = 3 * len(atoms)
    derivatives = calculator.get_dipole_derivatives(atoms).reshape(size, 3)
    return _harmonic(calculator, atoms, derivatives, None)


def harmonic_result(
    atoms: Atoms,
    potential: Potentials,
    *,
    device: str = "auto",
    forces: str | None = None,
) -> HarmonicResult:
    """Return the vibrations at a relaxed structure, ready for ``harmonic.json``.

    With ``forces`` of another calculator, the Hessian is that of differences of them.

    A potential without dipole gives vibrations without infrared intensities.
    """
    calculator = MolPoolCalculator(potential, device=device, dtype="float64")
    has_dipole = "dipole" in calculator.implemented_properties
    derivatives = np.zeros((3 * len(atoms), 3))
    with threads_for(len(atoms)) if forces is None else nullcontext():
        if has_dipole:
            derivatives = calculator.get_dipole_derivatives(atoms).reshape(-1, 3)
        spectrum = _harmonic(calculator, atoms, derivatives, forces)
    origin = provenance(potential)["potential"]
    return HarmonicResult(
        potential=origin["potential"],
        sha256=origin["sha256"],
        symbols=tuple(atoms.get_chemical_symbols()),  # type: ignore[no-untyped-call]
        positions=atoms.positions.copy(),
        masses=atoms.get_masses(),
        spectrum=spectrum,
        has_dipole=has_dipole,
    )


def _harmonic(
    calculator: MolPoolCalculator,
    atoms: Atoms,
    dipole_derivatives: Float[np.ndarray, "coordinates 3"],
    forces: str | None,
) -> HarmonicSpectrum:
    polarizability = None
    if "polarizability" in calculator.implemented_properties:
        derivatives = calculator.get_polarizability_derivatives(atoms)
        polarizability = derivatives.reshape(-1, 3, 3)
    if forces is None:
        hessian = calculator.get_hessian(atoms)
    else:
        hessian = difference_hessian(forces, atoms)
    return harmonic_analysis(
        atoms.positions,
        atoms.get_masses(),
        hessian,
        dipole_derivatives,
        polarizability,
    )
