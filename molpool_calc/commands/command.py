"""What the module of a command offers."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any, Protocol

from molpool_calc.commands.console import Console


class Command(Protocol):
    """A module of this package."""

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
