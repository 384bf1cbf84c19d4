"""Calling ``molpool`` in the process of a test, and what it left behind."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from molpool_calc.cli import main


@dataclass(frozen=True, kw_only=True)
class Called:
    """Exit code and streams of a call."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one line on stderr, which says what was wrong."""
        assert self.err.startswith("molpool: ")
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("molpool: ").rstrip("\n")


class CommandLine:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: object) -> Called:
        self.capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = self.capsys.readouterr()
        return Called(code=code, out=out, err=err)

    def refused(self, *words: object) -> str:
        """The sentence of a call that must be refused without output."""
        called = self(*words)
        assert called.code == 2, called
        assert called.out == ""
        return called.sentence


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
