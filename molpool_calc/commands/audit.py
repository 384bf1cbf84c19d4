"""``molpool audit``: which laws of physics a potential keeps, and how well."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molpool_calc.commands.console import Console
from molpool_calc.commands.options import (
    POTENTIAL_HELP,
    SYSTEM_HELP,
    add_device,
    positive_float,
)
from molpool_calc.commands.tables import table

NAME = "audit"
HELP = "measure the physics of a potential: symmetries, forces, smoothness, drift"
FRAMES = "reference.extxyz"
VERDICTS = {True: "passed", False: "FAILED", None: "–"}


def add_arguments(parser: ArgumentParser) -> None:
    """Add POTENTIAL, what to audit it with, and whether to keep the result."""
    parser.epilog = "example: molpool audit painn-ethanol"
    parser.add_argument("potential", metavar="POTENTIAL", help=POTENTIAL_HELP)
    parser.add_argument(
        "--system",
        metavar="SYSTEM",
        help=f"{SYSTEM_HELP}; by default the first reference frame of the potential",
    )
    parser.add_argument(
        "--picoseconds",
        type=positive_float,
        default=2.0,
        help="of dynamics to measure the drift of the energy (default: 2)",
    )
    parser.add_argument(
        "--no-store",
        action="store_true",
        help="do not write audit.json to the folder of the potential",
    )
    add_device(parser)


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Audit, store, and return what was found."""
    from molpool_calc.audit import Dynamics, audit  # noqa: PLC0415 - light start
    from molpool_calc.engine import resolve_device  # noqa: PLC0415
    from molpool_calc.molecules import read_system  # noqa: PLC0415
    from molpool_calc.storage import (  # noqa: PLC0415
        find_folder,
        load_potential,
        save_audit,
    )

    folder = find_folder(arguments.potential)
    atoms = read_system(arguments.system or _reference(folder))
    dynamics = Dynamics(picoseconds=arguments.picoseconds)
    found = audit(
        load_potential(folder),
        atoms,
        dynamics=dynamics,
        device=str(resolve_device(arguments.device)),
        progress=console.bars("step")("NVE", dynamics.n_steps),
    )
    if not arguments.no_store:
        save_audit(folder, found)
    return found


def summary(result: Mapping[str, Any]) -> str:
    """Return one line for each check, and the verdict."""
    checks = {k: v for k, v in result.items() if isinstance(v, Mapping)}
    rows = [
        [
            name.replace("_", " "),
            _number(check["value"]),
            _number(check["limit"]),
            check["unit"],
            VERDICTS[check["passed"]],
        ]
        for name, check in checks.items()
    ]
    claim = "extensive" if result["extensive"] else "not extensive"
    verdict = "passed" if result["passed"] else "FAILED"
    return "\n".join(
        [
            table(["check", "value", "limit", "unit", "verdict"], rows, n_left=1),
            "",
            f"{result['potential']} ({claim}) on {result['system']}: {verdict}",
        ]
    )


def _reference(folder: Path) -> str:
    """Return the first reference frame of a potential, as a SYSTEM.

    Raises:
        ValueError: it has none.
    """
    path = folder / FRAMES
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {FRAMES} to audit with; give a molecule with --system"
        )
    return f"{path}@0"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
