"""Every block of the README is executed; what it promises is there."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from molpool_calc import bundled_names
from molpool_calc.md.manifest import read_manifest
from molpool_calc.potential import NeuralPotential, PotentialSpec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
needs_zoo = pytest.mark.skipif(
    not {"painn-ethanol", "painn-formaldehyde"} <= set(bundled_names()),
    reason="the bundled potentials are not there yet",
)


def commands() -> list[str]:
    lines = [
        line for kind, text in BLOCKS if kind == "bash" for line in text.split("\n")
    ]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part]


def test_blocks_are_of_kinds_that_are_executed() -> None:
    assert {kind for kind, _ in BLOCKS} == {"bash", "python", "toml"}


def run_as_users_do(code: str, place: Path) -> None:
    """Run in a process of its own, without run-time type checks: twice as fast."""
    warned = ("-W", "error")
    done = subprocess.run(
        [sys.executable, *warned, "-c", code],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@needs_zoo
@pytest.mark.parametrize("code", [text for kind, text in BLOCKS if kind == "python"])
def test_python_blocks_run(code: str, tmp_path: Path) -> None:
    run_as_users_do(code, tmp_path)


@needs_zoo
def test_commands_run(tmp_path: Path) -> None:
    skipped = ("pip install", "pytest", "molpool ir")
    words = [
        shlex.split(command)[1:]
        for command in commands()
        if not command.startswith(skipped)
    ]
    assert len(words) > 5
    run_as_users_do(
        "from molpool_calc.cli import main\n"
        f"for words in {words}:\n"
        "    assert main(words) == 0, words\n",
        tmp_path,
    )


@needs_zoo
@pytest.mark.slow
def test_the_main_job_runs_and_conserves_energy_for_20_ps(tmp_path: Path) -> None:
    (command,) = [c for c in commands() if c.startswith("molpool ir")]
    words = [sys.executable, "-m", "molpool_calc", *shlex.split(command)[1:]]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=900)
    folder = tmp_path / "ethanol-ir"
    made = {path.name for path in folder.iterdir()}
    assert {"spectrum.csv", "spectrum.png", "trajectory.h5", "run.json"} <= made
    manifest = read_manifest(folder)
    assert (manifest["status"], manifest["steps_done"]) == ("finished", 40_000)
    drift = np.abs(manifest["drift_mev_per_atom_per_ps"])
    print(f"drift of each replica: {drift} meV/atom/ps")
    assert len(drift) == 8
    assert drift.max() < 0.05


def test_installation_commands_are_those_of_the_project() -> None:
    assert "pip install -c constraints.txt . && molpool ir ethanol" in README
    assert "pip install -c constraints.txt -e '.[test]' && pytest" in README


def test_pictures_and_folders_it_names_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_bundled_potential_is_in_its_table() -> None:
    for name in bundled_names():
        assert f"`{name}`" in README


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "toml"])
def test_heads_of_recipes_make_a_potential(text: str) -> None:
    tables = tomllib.loads(text)["heads"]
    heads = {
        n: t if n == "energy" else {"kind": "scalar", **t} for n, t in tables.items()
    }
    network = {"kind": "schnet", "n_features": 16}
    spec = PotentialSpec(name="readme", elements=(1, 6), network=network, heads=heads)
    potential = NeuralPotential(spec)
    assert {"energy", "gap", "gap_weights"} <= potential.properties
    assert spec.pooling == "sum + attention"
