"""``molpool relax``: geometry optimisation."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molpool_calc.commands import output
from molpool_calc.commands.console import Console
from molpool_calc.commands.options import (
    add_device,
    add_force,
    add_potential,
    add_system,
    demand_energy,
    positive_float,
    positive_int,
    potential_of,
    remark_on_formula,
)

NAME = "relax"
HELP = "move the atoms to a minimum of the energy (the cell stays)"


def add_arguments(parser: ArgumentParser) -> None:
    """Add SYSTEM and the options."""
    parser.epilog = "example: molpool relax smiles:CCO -p painn-ethanol --out x.xyz"
    add_system(parser)
    add_potential(parser)
    parser.add_argument(
        "--fmax",
        type=positive_float,
        default=0.01,
        metavar="EV_PER_A",
        help="largest force on an atom at the end, eV/Å (default: 0.01)",
    )
    parser.add_argument(
        "--steps",
        type=positive_int,
        default=500,
        metavar="N",
        help="most steps of the optimiser (default: 500)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="X.xyz",
        help="relaxed structure, in the format that the name asks ASE for",
    )
    add_force(parser)
    add_device(parser)


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Relax, write the structure, and return how it went."""
    from molpool_calc.commands.structures import (  # noqa: PLC0415 - light start
        format_of,
        write_structure,
    )
    from molpool_calc.molecules import read_system  # noqa: PLC0415
    from molpool_calc.statics import relax  # noqa: PLC0415

    output.check_file(arguments.out, force=arguments.force)
    file_format = format_of(arguments.out)
    atoms, potential = read_system(arguments.system), potential_of(arguments)
    demand_energy(potential)
    done = relax(
        atoms,
        potential,
        fmax=arguments.fmax,
        steps=arguments.steps,
        device=arguments.device,
    )
    remark_on_formula(potential, atoms, console)
    write_structure(arguments.out, done.atoms, file_format)
    result = {
        "energy_ev": done.energy,
        "fmax": done.fmax,
        "n_steps": done.n_steps,
        "converged": done.converged,
        "out": str(arguments.out),
    }
    if not done.converged:
        result["reason"] = (
            f"not converged: the largest force is {done.fmax:.3g} eV/Å after "
            f"{done.n_steps} steps; start again from {arguments.out} or raise --steps"
        )
    return result


def summary(result: Mapping[str, Any]) -> str:
    """Return what happened in four lines."""
    state = "converged" if result["converged"] else "NOT converged"
    return (
        f"{state} after {result['n_steps']} steps\n"
        f"energy         {result['energy_ev']:.6f} eV\n"
        f"largest force  {result['fmax']:.2g} eV/Å\n"
        f"written to     {result['out']}"
    )
