"""``molpool vib``: harmonic vibrations with infrared and Raman intensities."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from molpool_calc.commands.assignment import motions_text
from molpool_calc.commands.console import Console
from molpool_calc.commands.options import (
    add_device,
    add_potential,
    add_system,
    demand_energy,
    positive_int,
    potential_of,
    remark_on_formula,
)
from molpool_calc.commands.tables import table
from molpool_calc.units import DEBYE

if TYPE_CHECKING:
    from ase import Atoms

NAME = "vib"
HELP = "relax a molecule and compute its harmonic infrared and Raman spectrum"
EXPERIMENT = "experiment\ncm⁻¹"
FMAX_NOT_RELAXED = 1e-2
"""Above it, a structure taken as it is gets a remark."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add SYSTEM and the options."""
    parser.epilog = "example: molpool vib formaldehyde -p painn-formaldehyde"
    add_system(parser)
    add_potential(parser)
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
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder that gets harmonic.json: structure, modes, intensities",
    )
    add_device(parser)


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Relax and return the vibrations."""
    from molpool_calc.calculator import MolPoolCalculator  # noqa: PLC0415 - light start
    from molpool_calc.molecules import experiment_of, read_system  # noqa: PLC0415
    from molpool_calc.statics import TIGHT_FMAX, relax  # noqa: PLC0415

    atoms, potential = read_system(arguments.system), potential_of(arguments)
    demand_energy(potential)
    _demand_molecule(atoms)
    n_steps = 0
    if arguments.no_relax:
        atoms.calc = MolPoolCalculator(
            potential,
            device=arguments.device,
            dtype="float64",
            allow_unsuitable_pooling=True,  # nothing is propagated
        )
    else:
        done = relax(atoms, potential, steps=arguments.steps, device=arguments.device)
        atoms, n_steps = done.atoms, done.n_steps
        if not done.converged:
            return {
                "status": "stopped",
                "reason": f"the relaxation did not reach {TIGHT_FMAX:g} eV/Å in "
                f"{n_steps} steps (largest force {done.fmax:.3g} eV/Å), and vibrations "
                "have no meaning away from a minimum; raise --steps or relax it first",
            }
    result = {**_vibrations(atoms, potential, arguments.out), "n_steps": n_steps}
    experiment = experiment_of(arguments.system)
    result |= {
        "system": arguments.system,
        "experiment_cm1": list(experiment.fundamentals_cm1) if experiment else [],
        "experiment_source": experiment.fundamentals_source if experiment else "",
    }
    remark_on_formula(potential, atoms, console)
    _remark(result, console)
    return result


def _demand_molecule(atoms: "Atoms") -> None:
    if atoms.pbc.any():
        raise ValueError(
            "the system is periodic, but vib is for molecules, whose rotations it "
            "removes; give a structure without periodic boundaries"
        )
    # constrained atoms would pass for relaxed ones
    atoms.set_constraint()  # type: ignore[no-untyped-call]


def _vibrations(atoms: "Atoms", potential: str, out: Path | None) -> dict[str, Any]:
    """Return what there is to say about a structure and its calculator."""
    import numpy as np  # noqa: PLC0415 - light start

    from molpool_calc.harmonic_file import write_harmonic  # noqa: PLC0415
    from molpool_calc.run_bands import describe_motions  # noqa: PLC0415
    from molpool_calc.statics import harmonic_result  # noqa: PLC0415

    calculator: Any = atoms.calc
    device = calculator.parameters["device"]
    vibrations = harmonic_result(atoms, potential, device=device)
    files = {}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        files["file"] = str(write_harmonic(out, vibrations))
    spectrum, has_dipole = vibrations.spectrum, vibrations.has_dipole
    if has_dipole:
        moment = float(np.linalg.norm(calculator.get_dipole_moment(atoms)))
    raman = spectrum.raman_a4_amu
    forces = calculator.get_forces(atoms)
    spec = calculator.evaluator.potential.spec
    return {
        **files,
        "wavenumbers_cm1": spectrum.wavenumbers_cm1.tolist(),
        "ir_km_mol": spectrum.ir_km_mol.tolist() if has_dipole else None,
        "raman_a4_amu": None if raman is None else raman.tolist(),
        "motions": describe_motions(vibrations),
        "zpe_ev": spectrum.zpe_ev,
        "dipole_debye": moment / DEBYE if has_dipole else None,
        "energy_ev": float(calculator.get_potential_energy(atoms)),
        "fmax": float(np.linalg.norm(forces, axis=1).max()),
        "formula": atoms.symbols.get_chemical_formula(),
        "potential": spec.name,
        "level_of_theory": spec.level_of_theory,
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
    columns = _columns(result)
    rows = list(zip(*columns.values(), strict=True))
    lines += ["", table(list(columns), rows, n_left=0)]
    if "file" in result:
        lines += ["", f"written to {result['file']}"]
    lines += ["", "motions of the modes:"]
    for number, mode in enumerate(result["motions"], start=1):
        lines.append(f"{number:2d}  {motions_text(mode['motions'])}")
    if EXPERIMENT in columns:
        note = (
            "Experiment: fundamentals, in ascending order. They are anharmonic; "
            "harmonic wavenumbers are usually a few per cent higher. Source: "
            f"{result['experiment_source']}."
        )
        lines += ["", fill(note, 80)]
    return "\n".join(lines)


def _columns(result: Mapping[str, Any]) -> dict[str, list[str]]:
    wavenumbers, measured = result["wavenumbers_cm1"], result["experiment_cm1"]
    columns = {
        "mode\n": [str(i + 1) for i in range(len(wavenumbers))],
        "wavenumber\ncm⁻¹": [f"{x:.1f}" for x in wavenumbers],
    }
    if result["ir_km_mol"] is not None:
        columns["infrared\nkm/mol"] = [f"{x:.2f}" for x in result["ir_km_mol"]]
    if result["raman_a4_amu"] is not None:
        columns["Raman\nÅ⁴/amu"] = [f"{x:.2f}" for x in result["raman_a4_amu"]]
    if len(measured) == len(wavenumbers):
        columns[EXPERIMENT] = [f"{x:.0f}" for x in measured]
    return columns
