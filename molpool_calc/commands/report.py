"""``molpool report``: one page of a run, to open, send and keep."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molpool_calc.commands.console import Console
from molpool_calc.commands.options import POTENTIAL_HELP, add_device

NAME = "report"
HELP = "write report.html, an offline page with spectra, trajectory and origin of a run"


def add_arguments(parser: ArgumentParser) -> None:
    """Add DIR and the potential of a run that does not name a bundled one."""
    parser.epilog = "example: molpool report ethanol-ir"
    parser.add_argument(
        "folder", metavar="DIR", type=Path, help="folder of a run of molpool md or ir"
    )
    parser.add_argument(
        "-p",
        "--potential",
        metavar="POTENTIAL",
        help=f"{POTENTIAL_HELP} that the run was made with, where the run does not "
        "name a bundled one; it colours the atoms",
    )
    add_device(parser)


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Write the page, and return where it is."""
    del console
    from molpool_calc.report import write_report  # noqa: PLC0415 - light start

    path = write_report(
        arguments.folder, potential=arguments.potential, device=arguments.device
    )
    return {"report": str(path), "bytes": path.stat().st_size}


def report_or_note(
    folder: Path, potential: str | None, device: str, console: Console
) -> str | None:
    """Return the path of the report; a run is good also where it cannot be written."""
    from molpool_calc.report import write_report  # noqa: PLC0415 - light start

    try:
        return str(write_report(folder, potential=potential, device=device))
    except (ValueError, OSError) as error:
        console.note(
            f"the run is complete in {folder}, but report.html could not be written "
            f"({error}); try molpool report {folder}"
        )
        return None


def summary(result: Mapping[str, Any]) -> str:
    """Return where the page is and how large."""
    return f"written to {result['report']} ({result['bytes'] / 1e6:.1f} MB)"
