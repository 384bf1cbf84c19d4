"""Fixtures of the commands: how to call them, and potentials to call them with."""

from pathlib import Path

import ase.io
import pytest
from ase.build import molecule
from command_line import CommandLine
from small_potentials import small_potential
from tiny_recipes import write_water_recipe

from molpool_calc.cli import main
from molpool_calc.storage import save_potential


@pytest.fixture
def molpool(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture(scope="session")
def potential(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A potential of H, C, N, O with random weights, for neutral molecules."""
    folder = tmp_path_factory.mktemp("cli") / "random"
    save_potential(small_potential(total_charges=(0,), name="random"), folder)
    return folder


@pytest.fixture(scope="session")
def water(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A potential trained by the command line on ``SpringWater``."""
    folder = tmp_path_factory.mktemp("cli") / "water"
    recipe = write_water_recipe(folder.parent / "recipe")
    assert main(["train", str(recipe), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def methanol(tmp_path: Path) -> Path:
    path = tmp_path / "methanol.xyz"
    ase.io.write(path, molecule("CH3OH"))
    return path
