"""Steps made ahead, and pairs not compared, change nothing of what is found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from md_faults import (
    collapse,
    healthy,
    huge_force,
    no_dipole,
    no_energy,
    run_faulty,
    swirl,
)
from md_models import CPU, Faulty, raise_interrupt
from test_md_equilibration import LANGEVIN, replicas_of

from molpool_calc.md.ahead import steps_ahead
from molpool_calc.md.closeness import ClosestApproach
from molpool_calc.md.failure import EquilibrationFailure, ForceFailure
from molpool_calc.md.guard import Limits, closeness_weights, shortest_distances
from molpool_calc.md.manifest import read_manifest
from molpool_calc.md.state import ForceField, MDState, MDSystem, Response, make_system
from molpool_calc.md.trajectory import read_run
from molpool_calc.replicas import equilibrate, thermal_state
from molpool_calc.segments import segments_from_sizes

LIMIT = 0.5


def molecules(n: int) -> MDSystem:
    """Molecules of two carbon and two hydrogen atoms."""
    return make_system(
        atomic_numbers=torch.tensor([6, 6, 1, 1] * n),
        masses=torch.ones(4 * n, dtype=torch.float64),
        positions=torch.rand((4 * n, 3), dtype=torch.float64),
        systems=segments_from_sizes([4] * n, CPU),
        free="all",
    )


def walk(n: int, n_steps: int, rng: np.random.Generator) -> np.ndarray:
    """Random walks of molecules, in which atoms meet now and then."""
    rest = np.tile([[0, 0, 0], [1.3, 0, 0], [-0.7, 0.9, 0], [2.0, -0.9, 0]], (n, 1))
    width, back = rng.uniform(0.01, 0.06), 0.98
    positions, offset = np.empty((n_steps, 4 * n, 3)), np.zeros((4 * n, 3))
    for step in range(n_steps):
        offset = back * offset + width * rng.normal(size=offset.shape)
        positions[step] = rest + offset
    return positions


def test_no_pair_that_is_too_close_is_missed_on_random_walks() -> None:
    """Truth from comparing all pairs at every step; blocks of any length."""
    rng, system = np.random.default_rng(0), molecules(3)
    weights = closeness_weights(system)
    n_close = n_compared = n_steps = 0
    for _ in range(12):
        approach = ClosestApproach(system, LIMIT)
        places = walk(3, 200, rng)
        cuts = np.cumsum(rng.integers(1, 20, size=200))
        blocks = np.split(places, cuts[cuts < len(places)])
        found = np.concatenate([approach(block) for block in blocks])
        expected = np.array(
            [shortest_distances(system, torch.tensor(x), weights) for x in places]
        )
        np.testing.assert_array_equal(found < LIMIT, expected < LIMIT)
        compared = found < 1e300
        np.testing.assert_allclose(found[compared], expected[compared], rtol=1e-15)
        assert approach.n_compared == compared[:, 0].sum()
        n_close += (expected < LIMIT).any(1).sum()
        n_compared, n_steps = n_compared + approach.n_compared, n_steps + len(places)
    assert n_close > 40
    assert n_compared < 0.6 * n_steps


def test_most_steps_of_a_calm_walk_are_not_compared() -> None:
    approach = ClosestApproach(molecules(3), LIMIT)
    places = (
        walk(3, 1, np.random.default_rng(0)) + np.linspace(0, 2, 1000)[:, None, None]
    )
    approach(places)
    assert 2 < approach.n_compared < 20


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_positions_that_are_no_numbers_are_compared(wrong: float) -> None:
    approach = ClosestApproach(molecules(2), LIMIT)
    places = np.repeat(walk(2, 1, np.random.default_rng(0)), 6, axis=0)
    places[3:5, 5, 1] = wrong
    with np.errstate(invalid="ignore"):
        found = approach(places)
    assert np.isfinite(found[:3]).all()
    assert not (found[3:5, 1] >= LIMIT).any() or np.isinf(wrong)
    assert (found[5] >= LIMIT).all()
    assert approach.n_compared >= 4


FAULTS = [
    (healthy, Limits()),
    (no_energy, Limits()),
    (no_dipole, Limits()),
    (huge_force, Limits(force=100.0)),
    (collapse, Limits(distance=0.92)),
    (swirl, Limits(drift=50.0)),
    (swirl, Limits(temperatures=(0.0, 100.0))),
]


def bytes_of(folder: Path) -> dict[str, object]:
    """All that a run leaves behind, but for the seconds it took."""
    kept = {k: v for k, v in read_manifest(folder).items() if k != "seconds"}
    run = read_run(folder)
    arrays = {
        name: getattr(run, name).tobytes()
        for name in (
            "energies",
            "kinetic",
            "heat",
            "dipoles",
            "positions",
            "velocities",
        )
    }
    texts = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix in {".extxyz", ".npz"}
    }
    return {**arrays, **texts, "run": kept}


@pytest.mark.parametrize(
    ("name", "fault", "limits"),
    [*(("nve", *fault) for fault in FAULTS), ("bussi", *FAULTS[1])],
)
def test_a_run_is_the_same_however_many_steps_are_made_together(
    tmp_path: Path, name: str, fault: Callable, limits: Limits
) -> None:
    steps: dict[int, list[int]] = {1: [], 16: []}
    for together, seen in steps.items():
        run_faulty(
            tmp_path / str(together),
            name,
            fault,
            limits=limits,
            progress=seen.append,
            together=together,
        )
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "16")
    assert steps[1] == steps[16] == list(range(1, 81))


def test_an_interrupt_while_steps_are_made_together_costs_nothing(
    tmp_path: Path,
) -> None:
    run_faulty(tmp_path / "whole", "nve", swirl, together=16)

    def broken(field: ForceField) -> ForceField:
        return Faulty(59, raise_interrupt, field)

    outcome = run_faulty(tmp_path / "r", "nve", swirl, together=16, calls=broken)
    assert (outcome.status, outcome.steps_done) == ("interrupted", 56)
    assert len(read_run(tmp_path / "r").times_fs) == 57
    run_faulty(tmp_path / "r", "nve", swirl, together=16, resume=True)
    assert bytes_of(tmp_path / "r") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("error", [ForceFailure, ValueError])
def test_forces_that_fail_after_a_bad_step_are_not_asked_for(
    tmp_path: Path, error: type[Exception]
) -> None:
    """What fails where a bad step has led is no reason to end the run."""

    class Strict:
        def __init__(self, field: ForceField) -> None:
            self._field, self._is_bad = field, False

        def __call__(self, positions: torch.Tensor) -> Response:
            if self._is_bad:
                self._is_bad = False
                raise error("the last answer was bad")
            response = self._field(positions)
            self._is_bad = not bool(torch.isfinite(response.energy).all())
            return response

    run_faulty(tmp_path / "1", "nve", no_energy)
    outcome = run_faulty(tmp_path / "r", "nve", no_energy, together=16, calls=Strict)
    assert outcome.status == "finished"
    assert bytes_of(tmp_path / "r") == bytes_of(tmp_path / "1")


def test_nothing_is_made_ahead_of_wild_forces_or_for_long() -> None:
    replicas = replicas_of(healthy)
    first = thermal_state(replicas, replicas.system("all"), 300.0, seed=0)

    def step(state: MDState) -> MDState:
        forces = state.response.forces * 2.0
        response = replace(state.response, forces=forces)
        return replace(state, step=state.step + 1, response=response)

    def never(_step: int) -> bool:
        return False

    calm = replace(first.response, forces=torch.full_like(first.response.forces, 1.0))
    states = steps_ahead(step, replace(first, response=calm), 16, never)
    # sqrt(3) doubles beyond 30 eV/Å at the fifth step
    assert [state.step for state in states] == [1, 2, 3, 4, 5]
    wild = replace(calm, forces=calm.forces * torch.nan)
    assert len(steps_ahead(step, replace(first, response=wild), 16, never)) == 1


@pytest.mark.parametrize(("fault", "limits"), [FAULTS[k] for k in (0, 1, 4)])
def test_equilibration_ends_alike_with_steps_made_together(
    fault: Callable, limits: Limits
) -> None:
    ends = []
    for together in (1, 16):
        replicas = replicas_of(fault)
        first = thermal_state(replicas, replicas.system("all"), 300.0, seed=0)
        try:
            last = equilibrate(
                replicas, first, LANGEVIN, 80, limits=limits, together=together
            )
            ends.append(last.momenta.numpy().tobytes())
        except EquilibrationFailure as failure:
            ends.append(str(failure))
    assert ends[0] == ends[1]
