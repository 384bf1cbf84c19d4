"""``molpool info``: the card of one potential."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from molpool_calc.commands.console import Console
from molpool_calc.commands.options import POTENTIAL_HELP

NAME = "info"
HELP = "show what a potential is, what it was trained on and how accurate it is"


def add_arguments(parser: ArgumentParser) -> None:
    """Add POTENTIAL."""
    parser.epilog = "example: molpool info painn-ethanol"
    parser.add_argument("potential", metavar="POTENTIAL", help=POTENTIAL_HELP)


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Return everything about the potential."""
    del console
    from molpool_calc.commands.describe import describe  # noqa: PLC0415
    from molpool_calc.storage import find_folder  # noqa: PLC0415

    return describe(find_folder(arguments.potential))


def summary(result: Mapping[str, Any]) -> str:
    """Return the card."""
    from molpool_calc.training.card import card  # noqa: PLC0415 - light start

    return card(result)
