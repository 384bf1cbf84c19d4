"""All commands: help, usage, exit codes, and what starting one imports."""

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import CommandLine

import molpool_calc
from molpool_calc import cli
from molpool_calc.cli import COMMANDS, main

PACKAGE = Path(molpool_calc.__file__).parent
NAMES = [command.NAME for command in COMMANDS]


@pytest.fixture
def molpool(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example(
    molpool: CommandLine, name: str
) -> None:
    called = molpool(name, "--help")
    assert called.code == 0
    assert "example" in called.out
    assert f"molpool {name}" in called.out.partition("example")[2]
    assert called.err == ""


def test_the_program_names_all_commands_and_its_version(molpool: CommandLine) -> None:
    for name in NAMES:
        assert f"    {name} " in molpool("--help").out
    assert molpool("--version").out == f"molpool {molpool_calc.__version__}\n"


def test_starting_imports_nothing_heavy() -> None:
    light = {"molpool_calc._version", "molpool_calc.units", "tqdm"}
    for path in [PACKAGE / "cli.py", *sorted((PACKAGE / "commands").glob("*.py"))]:
        if path.name in {"describe.py", "frames.py", "structures.py"}:
            continue  # imported inside run
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                assert (
                    name in light
                    or name.startswith("molpool_calc.commands")
                    or name.partition(".")[0] in sys.stdlib_module_names
                ), f"{path.name} imports {name}"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "the following arguments are required: COMMAND; see molpool --help"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["vib"], "required: SYSTEM; see molpool vib --help"),
        (["vib", "ethanol", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["relax", "ethanol", "--out", "x.xyz", "--fmax", "-1"], "'-1' is not allowed"),
        (["relax", "ethanol", "--out", "x.xyz", "--steps", "0"], "'0' is not allowed"),
        (["eval", "p", "f", "--units", "eV"], "'eV' is not of the form energy=eV"),
    ],
)
def test_wrong_usage_is_one_sentence(
    molpool: CommandLine, words: list[str], part: str
) -> None:
    assert part in molpool.refused(*words)


def test_a_bug_is_not_taken_for_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli.COMMANDS[0], "run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["list"])


def test_ctrl_c_exits_with_130(
    molpool: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli.COMMANDS[0], "run", interrupted)
    called = molpool("list")
    assert (called.code, called.sentence) == (130, "interrupted")


def test_the_module_is_the_program() -> None:
    words = [sys.executable, "-m", "molpool_calc", "info", "nothing-of-that-name"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("molpool: there is no potential")
