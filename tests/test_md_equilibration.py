"""Equilibration is guarded: a replica that fails ends it at once, and says why."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase import Atoms
from md_faults import (
    FAULTY,
    FaultyWaters,
    collapse,
    healthy,
    huge_force,
    is_stretched,
    no_energy,
    swirl,
)
from md_models import WATER, WATER_MASSES, double
from small_potentials import small_potential

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.cli import main
from molpool_calc.md.failure import EquilibrationFailure
from molpool_calc.md.guard import Limits
from molpool_calc.md.integrators import Langevin
from molpool_calc.md.state import MDState
from molpool_calc.replicas import Replicas, equilibrate, thermal_state
from molpool_calc.storage import save_potential

LANGEVIN = Langevin(timestep_fs=1.0, temperature=300.0, friction_per_fs=0.01)


def replicas_of(fault: Callable) -> Replicas:
    """Three replicas of water."""
    water = Atoms("OHH", WATER.numpy())
    return Replicas(
        force_field=FaultyWaters(fault),
        batch=batch_from_atoms(
            [water] * 3, dtype=torch.float64, device=torch.device("cpu")
        ),
        positions=WATER.repeat(3, 1),
        masses=double(WATER_MASSES * 3),
    )


def prepare(
    fault: Callable,
    limits: Limits,
    n_steps: int = 80,
    see: Callable[[int], None] | None = None,
) -> MDState:
    replicas = replicas_of(fault)
    first = thermal_state(replicas, replicas.system("all"), 300.0, seed=0)
    return equilibrate(replicas, first, LANGEVIN, n_steps, see, limits=limits)


@pytest.mark.parametrize(
    ("fault", "limits", "words"),
    [
        (no_energy, Limits(), ("the energy", "not finite", "the potential fails at")),
        (huge_force, Limits(force=100.0), ("the force on atom", "where 100 is the")),
        (collapse, Limits(distance=0.92), ("Å apart", "where 0.92 is the limit")),
        (swirl, Limits(drift=50.0), ("meV/atom/ps", "shorter time step than 1 fs")),
    ],
)
def test_a_replica_that_leaves_its_limits_ends_equilibration_at_that_step(
    fault: Callable, limits: Limits, words: tuple[str, ...]
) -> None:
    done: list[int] = []
    with pytest.raises(EquilibrationFailure, match="stopped in equilibration") as found:
        prepare(fault, limits, see=done.append)
    sentence = str(found.value)
    assert 1 < len(done) < 79
    assert f"replica {FAULTY} at step {len(done) + 1}" in sentence
    assert "before anything was written" in sentence
    assert ".extxyz" not in sentence
    for word in words:
        assert word in sentence


def test_the_step_is_the_first_one_that_is_bad() -> None:
    """Truth from an unguarded equilibration, watched by its force field."""
    stretched: list[bool] = []

    def watched(x: torch.Tensor, response: object) -> object:
        stretched.append(is_stretched(x))
        return response

    prepare(watched, Limits())
    expected = stretched.index(True)  # the first call is that of step 0
    with pytest.raises(EquilibrationFailure, match=rf"at step {expected}\b"):
        prepare(no_energy, Limits())


def test_a_guard_changes_nothing_of_a_sound_equilibration() -> None:
    limits = Limits(distance=0.7, force=25.0, drift=10.0)
    plain, guarded = prepare(healthy, Limits()), prepare(healthy, limits)
    for name in ("positions", "momenta", "generator_state"):
        assert torch.equal(getattr(plain, name), getattr(guarded, name)), name


def test_the_heat_of_a_strained_start_does_not_end_equilibration() -> None:
    """It is what equilibration takes away, so the window is that of the run only."""
    replicas = replicas_of(healthy)
    strained = replace(replicas, positions=replicas.positions * 1.15)
    first = thermal_state(strained, strained.system("all"), 300.0, seed=0)
    limits = Limits(temperatures=(0.0, 1.0))
    equilibrate(strained, first, LANGEVIN, 20, limits=limits)


def test_a_start_beyond_a_limit_is_wrong_input() -> None:
    with pytest.raises(ValueError, match=r"Å apart, .* the equilibration cannot start"):
        prepare(healthy, Limits(distance=1.3))


def test_the_command_ends_with_exit_code_3_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_potential(small_potential(dtype=torch.float32), tmp_path / "p")
    folder = tmp_path / "run"
    words = ["md", "formaldehyde", "-p", str(tmp_path / "p"), "--steps", "6"]
    words += ["--replicas", "2", "--temperature", "20", "--out", str(folder)]
    words += ["--equilibration-ps", "0.01", "--json"]
    assert main([*words, "--guard-drift", "1e-12"]) == 3
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["status"] == "stopped"
    assert err.count("\n") == 1
    for text in (result["reason"], err):
        assert "stopped in equilibration (and 1 others)" in text
        assert "the conserved energy drifts by" in text
        assert "in replica 0 at step 1" in text
    assert not folder.exists()
    assert main([*words, "--guard", "off"]) == 0
