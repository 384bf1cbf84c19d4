"""``molpool audit``, and how ``md`` and ``ir`` use what it stored."""

import json
from pathlib import Path

import ase.io
import pytest
from command_line import CommandLine, contents
from small_potentials import small_potential, water

from molpool_calc.storage import AUDIT_FILE, audit_of, save_potential

SHORT = ("--picoseconds", 0.002)


@pytest.fixture
def mean(tmp_path: Path) -> Path:
    """A potential with a mean and one reference frame."""
    folder = tmp_path / "mean"
    save_potential(small_potential(pooling="mean", total_charges=(0,)), folder)
    ase.io.write(folder / "reference.extxyz", water())
    return folder


@pytest.fixture
def structure(tmp_path: Path) -> Path:
    path = tmp_path / "water.xyz"
    ase.io.write(path, water())
    return path


def test_an_audit_is_printed_stored_and_opens_dynamics(
    molpool: CommandLine, mean: Path, structure: Path, tmp_path: Path
):
    run = ("md", structure, "-p", mean, "--steps", 2, "--out", tmp_path / "run")
    assert "run molpool audit first" in molpool.refused(*run)
    called = molpool("audit", mean, *SHORT, "--json")
    assert called.code == 0
    assert called.json["passed"]
    assert called.json["extensive"] is False
    assert called.json == json.loads((mean / AUDIT_FILE).read_text())
    assert called.json == audit_of(mean)
    assert molpool(*run).code == 0


def test_the_command_line_can_insist(
    molpool: CommandLine, mean: Path, structure: Path, tmp_path: Path
):
    allow = "--allow-unsuitable-pooling"
    run = ("md", structure, "-p", mean, "--steps", 2, "--out", tmp_path / "run")
    assert molpool(*run, allow).code == 0
    infrared = ("ir", structure, "-p", mean, "--out", tmp_path / "ir")
    assert allow in molpool.refused(*infrared)


def test_a_summary_names_every_check(molpool: CommandLine, mean: Path, structure: Path):
    before = contents(mean)
    called = molpool("audit", mean, "--system", structure, *SHORT, "--no-store")
    assert called.code == 0
    for name in ("finite difference forces", "smoothness", "nve drift"):
        assert name in called.out
    assert "small (not extensive) on H2O: passed" in called.out
    assert contents(mean) == before


def test_a_potential_without_frames_needs_a_structure(molpool: CommandLine, mean: Path):
    (mean / "reference.extxyz").unlink()
    sentence = molpool.refused("audit", mean)
    assert "no reference.extxyz to audit with; give a molecule with --sys" in sentence
