"""``molpool vib``: harmonic vibrations with infrared and Raman intensities."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from molpool_calc.commands.console import Console
from molpool_calc.commands.options import (
    add_device,
    add_system,
    positive_int,
    system_and_calculator,
)
from molpool_calc.commands.tables import table
from molpool_calc.units import DEBYE

if TYPE_CHECKING:
    from ase import Atoms

    from molpool_calc.calculator import MolPoolCalculator
    from molpool_calc.spectra import HarmonicSpectrum

NAME = "vib"
HELP = "relax a molecule and compute its harmonic infrared and Raman spectrum"
FMAX = 1e-4
"""Largest force at the minimum, eV/Å: it moves no wavenumber by 0.1 cm⁻¹."""
FMAX_NOT_RELAXED = 1e-2
"""Above it, a structure taken as it is gets a remark."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add SYSTEM and the options."""
    parser.epilog = "example: molpool vib formaldehyde -p painn-formaldehyde"
    add_system(parser)
    parser.add_argument(
        "--no-relax",
        action="store_true",
        help="take the structure as it is, without relaxing it first",
    )
    parser.add_argument(
        "--steps",
        type=positive_int,
        default=1000,
        metavar="N",
        help="most steps of the relaxation (default: 1000)",
    )
    add_device(parser)


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Relax and return the vibrations."""
    from molpool_calc.commands.relaxation import (  # noqa: PLC0415 - light start
        demand_forces,
        largest_force,
        relax,
    )

    atoms, calculator = system_and_calculator(arguments, "float64")
    _demand_molecule(atoms)
    demand_forces(atoms)
    n_steps = 0
    if not arguments.no_relax:
        done = relax(atoms, fmax=FMAX, max_steps=arguments.steps, console=console)
        n_steps = done.n_steps
        if not done.converged:
            return {
                "status": "stopped",
                "reason": f"the relaxation did not reach {FMAX:g} eV/Å in {n_steps} "
                f"steps (largest force {done.fmax:.3g} eV/Å), and vibrations have no "
                "meaning away from a minimum; raise --steps or relax it first",
            }
    spectrum = _analyse(atoms, calculator)
    fmax = largest_force(atoms)
    result = _result(arguments, atoms, calculator, spectrum)
    result |= {"fmax": fmax, "n_steps": n_steps}
    _remark(result, console)
    return result


def _demand_molecule(atoms: "Atoms") -> None:
    if atoms.pbc.any():
        raise ValueError(
            "the system is periodic, but vib is for molecules, whose rotations it "
            "removes; give a structure without periodic boundaries"
        )
    # constrained atoms would pass for relaxed ones
    atoms.set_constraint()


def _analyse(atoms: "Atoms", calculator: "MolPoolCalculator") -> "HarmonicSpectrum":
    import numpy as np  # noqa: PLC0415 - light start

    from molpool_calc.spectra import harmonic_analysis  # noqa: PLC0415

    size, known = 3 * len(atoms), calculator.implemented_properties
    slopes, raman = np.zeros((size, 3)), None
    if "dipole" in known:
        slopes = calculator.get_dipole_derivatives(atoms).reshape(size, 3)
    if "polarizability" in known:
        raman = calculator.get_polarizability_derivatives(atoms).reshape(size, 3, 3)
    return harmonic_analysis(
        atoms.positions,
        atoms.get_masses(),
        calculator.get_hessian(atoms),
        slopes,
        raman,
    )


def _result(
    arguments: Namespace,
    atoms: "Atoms",
    calculator: "MolPoolCalculator",
    spectrum: "HarmonicSpectrum",
) -> dict[str, Any]:
    from molpool_calc.molecules import experiment_of  # noqa: PLC0415 - light start

    spec = calculator.evaluator.potential.spec
    raman, dipole = spectrum.raman_a4_amu, None
    if "dipole" in calculator.implemented_properties:
        dipole = float((atoms.get_dipole_moment() ** 2).sum() ** 0.5) / DEBYE
    experiment = experiment_of(arguments.system)
    return {
        "wavenumbers_cm1": spectrum.wavenumbers_cm1.tolist(),
        "ir_km_mol": None if dipole is None else spectrum.ir_km_mol.tolist(),
        "raman_a4_amu": None if raman is None else raman.tolist(),
        "zpe_ev": spectrum.zpe_ev,
        "dipole_debye": dipole,
        "energy_ev": float(atoms.get_potential_energy()),
        "system": arguments.system,
        "formula": atoms.get_chemical_formula(),
        "potential": spec.name,
        "level_of_theory": spec.level_of_theory,
        "experiment_cm1": list(experiment.fundamentals_cm1) if experiment else [],
        "experiment_source": experiment.fundamentals_source if experiment else "",
    }


def _remark(result: Mapping[str, Any], console: Console) -> None:
    imaginary = [f"{-x:.1f}i" for x in result["wavenumbers_cm1"] if x < 0]
    if imaginary:
        console.note(
            f"{len(imaginary)} imaginary wavenumbers ({', '.join(imaginary)} cm⁻¹), "
            "given as negative numbers: this is no minimum of the energy"
        )
    if result["fmax"] > FMAX_NOT_RELAXED:
        console.note(
            f"the largest force is {result['fmax']:.3g} eV/Å, so this is no minimum; "
            "leave out --no-relax for meaningful wavenumbers"
        )


def summary(result: Mapping[str, Any]) -> str:
    """Return a table of the vibrations."""
    lines = [
        f"{result['system']} ({result['formula']}) with {result['potential']} "
        f"({result['level_of_theory']})",
        f"largest force      {result['fmax']:.1e} eV/Å after {result['n_steps']} steps",
        f"energy             {result['energy_ev']:.6f} eV",
        f"zero-point energy  {result['zpe_ev']:.6f} eV",
    ]
    if result["dipole_debye"] is not None:
        lines.append(f"dipole             {result['dipole_debye']:.4f} D")
    wavenumbers, measured = result["wavenumbers_cm1"], result["experiment_cm1"]
    columns: dict[str, list[str]] = {
        "mode\n": [str(i + 1) for i in range(len(wavenumbers))],
        "wavenumber\ncm⁻¹": [f"{x:.1f}" for x in wavenumbers],
    }
    if result["ir_km_mol"] is not None:
        columns["infrared\nkm/mol"] = [f"{x:.2f}" for x in result["ir_km_mol"]]
    if result["raman_a4_amu"] is not None:
        columns["Raman\nÅ⁴/amu"] = [f"{x:.2f}" for x in result["raman_a4_amu"]]
    if measured and len(measured) == len(wavenumbers):
        columns["experiment\ncm⁻¹"] = [f"{x:.0f}" for x in measured]
    rows = list(zip(*columns.values(), strict=True))
    lines += ["", table(list(columns), rows, n_left=0)]
    if len(columns) and "experiment\ncm⁻¹" in columns:
        lines += [
            f"Experiment: fundamentals in ascending order ({result['experiment_source']}"
            "). They are anharmonic: harmonic wavenumbers lie 1 to 5 % higher."
        ]
    return "\n".join(lines)
