"""The commands of ``molpool``, one module each.

A module offers ``NAME``, ``HELP``, ``add_arguments``, ``run`` and ``summary`` (see
``Command``). Importing one is cheap: torch and the like are imported inside ``run``.
A new command is a new module and its place in ``COMMANDS``.

``run`` returns the JSON object of the command. Its key ``status``, where there is
one, decides on the exit code: ``finished`` 0, ``stopped`` (by a guard) 3,
``interrupted`` 130; ``reason`` then says why on stderr. Wrong input is a
``ValueError`` whose message is one sentence for the user.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any, Protocol

from molpool_calc.commands import (
    evaluate,
    import_weights,
    info,
    ir,
    list_potentials,
    md,
    relax,
    spectrum,
    train,
    vib,
)
from molpool_calc.commands.console import Console


class Command(Protocol):
    """What a module of this package offers."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the arguments, and an example as the epilog."""
        ...

    def run(self, arguments: Namespace, console: Console) -> Mapping[str, Any]:
        """Do it, and return the JSON object."""
        ...

    def summary(self, result: Mapping[str, Any]) -> str:
        """Return the result as text for people."""
        ...


COMMANDS: tuple[Command, ...] = (
    list_potentials,
    info,
    evaluate,
    relax,
    vib,
    md,
    spectrum,
    ir,
    train,
    import_weights,
)
"""The commands in the order of the help."""
