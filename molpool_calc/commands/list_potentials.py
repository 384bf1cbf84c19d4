"""``molpool list``: the bundled potentials and molecules."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from molpool_calc.commands.console import Console
from molpool_calc.commands.tables import significant, table
from molpool_calc.units import DEBYE

NAME = "list"
HELP = "list the bundled potentials and molecules"
COLUMNS = ("name", "network", "pooling", "elements", "level of theory")
ERROR_COLUMNS = {
    "energy": ("energy\nmeV", 1.0),
    "forces": ("forces\nmeV/Å", 1.0),
    "dipole": ("dipole\nmD", 1.0 / DEBYE),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the example to the help; the command takes no arguments."""
    parser.epilog = "example: molpool list"


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Return what the bundled potentials are."""
    del arguments, console
    from molpool_calc.commands.describe import BRIEF, describe  # noqa: PLC0415
    from molpool_calc.molecules import molecule_names  # noqa: PLC0415
    from molpool_calc.storage import bundled_names, find_folder  # noqa: PLC0415

    described = [describe(find_folder(name)) for name in bundled_names()]
    return {
        "potentials": [{key: one[key] for key in BRIEF} for one in described],
        "molecules": molecule_names(),
    }


def summary(result: Mapping[str, Any]) -> str:
    """Return a table of the potentials, and the molecules in one line."""
    rows = [_row(potential) for potential in result["potentials"]]
    parts = [f"Bundled molecules: {', '.join(result['molecules'])}"]
    if rows:
        header = (*COLUMNS, *(title for title, _ in ERROR_COLUMNS.values()))
        note = "Mean absolute errors on test data; molpool info NAME says more."
        parts = [table(header, rows, n_left=len(COLUMNS)), note, "", *parts]
    else:
        parts = ["There are no bundled potentials.", *parts]
    return "\n".join(parts)


def _row(potential: Mapping[str, Any]) -> list[str]:
    maes = [potential["errors"].get(name, {}).get("mae") for name in ERROR_COLUMNS]
    factors = [factor for _, factor in ERROR_COLUMNS.values()]
    return [
        potential["name"],
        potential["network"],
        potential["pooling"],
        " ".join(potential["elements"]),
        potential["level_of_theory"],
        *(
            "–" if mae is None else significant(1000.0 * factor * mae)
            for mae, factor in zip(maes, factors, strict=True)
        ),
    ]
