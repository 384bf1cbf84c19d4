"""The command ``molpool``: parse, one call, print."""

import json
import os
import shlex
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from molpool_calc._version import __version__
from molpool_calc.commands import (
    audit,
    bench,
    evaluate,
    import_weights,
    info,
    ipi,
    ir,
    list_potentials,
    md,
    relax,
    report,
    spectrum,
    train,
    vib,
)
from molpool_calc.commands.command import Command
from molpool_calc.commands.console import PREFIX, Console
from molpool_calc.commands.options import add_json

COMMANDS: tuple[Command, ...] = (
    list_potentials,
    info,
    evaluate,
    relax,
    vib,
    md,
    spectrum,
    ir,
    report,
    audit,
    train,
    import_weights,
    ipi,
    bench,
)
"""In the order of the help."""

DONE, WRONG_INPUT, STOPPED, INTERRUPTED = 0, 2, 3, 130
EXIT_CODES = {"finished": DONE, "stopped": STOPPED, "interrupted": INTERRUPTED}
DESCRIPTION = (
    "Trained molecular networks with a chosen pooling: energies, dynamics and "
    "infrared spectra.\nEvery command has --help and --json."
)
EPILOG = (
    "example: molpool vib formaldehyde\n\n"
    "exit codes: 0 done, 2 wrong input, 3 stopped by a guard, 130 interrupted"
)


class Parser(ArgumentParser):
    """Reports wrong usage in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and exit."""
        print(f"{PREFIX}{message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(WRONG_INPUT)


def make_parser() -> ArgumentParser:
    """Return the parser with all commands."""
    parser = Parser(
        prog="molpool",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"molpool {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        chosen = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP[0].upper() + command.HELP[1:] + ".",
            formatter_class=RawDescriptionHelpFormatter,
        )
        command.add_arguments(chosen)
        add_json(chosen)
        chosen.set_defaults(command=command, is_json=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: arguments without the name of the program; by default those it got.

    Example:
        >>> main(["--version"])
        molpool 0.1.0
        0
    """
    console = Console()
    try:
        words = sys.argv[1:] if argv is None else argv
        arguments = make_parser().parse_args(words)
        arguments.command_line = _repeatable(words)
        result = _run(arguments, console)
        _print(_rendered(result, arguments))
    except SystemExit as request:  # argparse: --help, --version or wrong usage
        return int(request.code or 0)
    except KeyboardInterrupt:
        console.note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # molpool … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (ValueError, ImportError, OSError) as error:
        console.note(str(error))
        return WRONG_INPUT
    if result.get("reason"):
        console.note(str(result["reason"]))
    code = EXIT_CODES[result.get("status", "finished")]
    return STOPPED if code == DONE and result.get("stopped") else code


def _run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Run the command; a calculation that failed is a run stopped by a guard.

    So is a run that could not be written on, or one that failed to equilibrate.
    """
    command: Command = arguments.command
    try:
        return command.run(arguments, console)
    except RuntimeError as error:
        from ase.calculators.calculator import CalculatorError  # noqa: PLC0415

        from molpool_calc.md.failure import (  # noqa: PLC0415
            EquilibrationFailure,
            WriteFailure,
        )

        expected = CalculatorError | WriteFailure | EquilibrationFailure
        if not isinstance(error, expected):
            raise
        return {"status": "stopped", "reason": str(error)}


def _repeatable(words: Sequence[str]) -> str:
    """Return the call as one types it to do all of it again, in a folder that is free.

    Example:
        >>> _repeatable(["ir", "my molecule.xyz", "--resume"])
        "molpool ir 'my molecule.xyz'"
    """
    kept = [word for word in words if word not in {"--resume", "--force", "--json"}]
    return shlex.join(["molpool", *kept])


def _rendered(result: Mapping[str, Any], arguments: Namespace) -> str:
    if arguments.is_json:
        return json.dumps(result, indent=2, allow_nan=False)
    if result.keys() <= {"status", "reason"}:  # nothing but the reason on stderr
        return ""
    command: Command = arguments.command
    return command.summary(result)


def _print(text: str) -> None:
    """Print, with ? for what the terminal has no character for."""
    if text:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
