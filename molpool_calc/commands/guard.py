"""The options of the guard, which ``md`` and ``ir`` share."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from molpool_calc.commands.options import positive_float

if TYPE_CHECKING:
    from molpool_calc.md.guard import Limits


def add_guard(parser: ArgumentParser) -> None:
    """Add ``--guard`` and its thresholds."""
    group = parser.add_argument_group(
        "guard",
        "A replica beyond a limit is stopped by itself, its last frames are kept, and "
        "the exit code is 3.",
    )
    add = group.add_argument
    add(
        "--guard",
        choices=("on", "off"),
        default="on",
        help="off: only what is not finite stops a replica (default: on)",
    )
    add(
        "--guard-distance",
        type=positive_float,
        metavar="FRACTION",
        help="shortest distance of two atoms over the sum of their covalent radii "
        "(default: 0.5)",
    )
    add(
        "--guard-force",
        type=positive_float,
        metavar="EV_PER_A",
        help="largest force on an atom, eV/Å (default: 50)",
    )
    add(
        "--guard-temperature",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="of the ensemble, K; kinetic energies may fluctuate about it (default: 0 "
        "and twice --temperature)",
    )
    add(
        "--guard-drift",
        type=positive_float,
        metavar="MEV_PER_ATOM_PER_PS",
        help="of the conserved energy (default: 50)",
    )
    add(
        "--guard-spread",
        type=positive_float,
        metavar="EV_PER_A",
        help="of a committee: sample standard deviation of the force on any atom over "
        "its members, eV/Å (default: 1)",
    )
    add(
        "--guard-volume",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="at constant pressure, over the first volume (default: 0.5 2)",
    )


def limits_of(arguments: Namespace) -> "Limits":
    """Return the limits asked for; those not stated are the usual ones.

    Raises:
        ValueError: thresholds for a guard that is off, or impossible ones.
    """
    from molpool_calc.md.guard import NO_LIMITS, usual_limits  # noqa: PLC0415

    def window(values: list[float] | None) -> tuple[float, ...] | None:
        return None if values is None else tuple(values)

    stated = {
        "distance": arguments.guard_distance,
        "force": arguments.guard_force,
        "temperatures": window(arguments.guard_temperature),
        "drift": arguments.guard_drift,
        "spread": arguments.guard_spread,
        "volumes": window(arguments.guard_volume),
    }
    stated = {name: value for name, value in stated.items() if value is not None}
    if "spread" in stated and len(arguments.potential or ()) <= 1:
        raise ValueError(
            "--guard-spread was given, but one potential has no spread; give the "
            "members of a committee with -p, or leave it out"
        )
    if arguments.guard == "off":
        if stated:
            raise ValueError(
                "--guard off was given together with a limit; leave one of them out"
            )
        return NO_LIMITS
    return replace(usual_limits(arguments.temperature), **stated)
