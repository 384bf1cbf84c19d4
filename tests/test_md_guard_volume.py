"""The window of volumes at constant pressure stops the replica that leaves it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from md_models import GAS
from md_periodic_models import gas, rescaling

from molpool_calc.md.guard import NO_LIMITS, Limits
from molpool_calc.md.outcome import RunOutcome
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import Response
from molpool_calc.md.trajectory import RunData, read_run

FAULTY, SOUND = 1, 0
STEPS = 100


@dataclass(frozen=True)
class Pressed:
    """A gas; one of its replicas has a stress (eV/Å³, tensile) that is not its own."""

    extra: float

    def __call__(self, positions: torch.Tensor) -> Response:
        return self.in_cell(positions, GAS.cells)

    def in_cell(self, positions: torch.Tensor, cell: torch.Tensor) -> Response:
        response = GAS.in_cell(positions, cell)
        assert response.stress is not None
        stress = response.stress.clone()
        stress[FAULTY] += self.extra * torch.eye(3, dtype=torch.float64)
        return replace(response, stress=stress)


def run(
    folder: Path,
    extra: float,
    limits: Limits = NO_LIMITS,
    *,
    n_steps: int = STEPS,
    resume: bool = False,
) -> RunOutcome:
    integrator, field = (
        rescaling("bussi", "isotropic", pressure_bar=400.0),
        Pressed(extra),
    )
    system, state = gas(integrator, field, GAS.cells, GAS.n_atoms)
    recording = Recording(
        folder=folder,
        every=1,
        checkpoint_every=20,
        header={"inputs": {"seed": 0}},
        resume=resume,
    )
    return simulate(
        field,
        system,
        state,
        integrator,
        n_steps=n_steps,
        recording=recording,
        guard=limits,
    )


def volumes(data: RunData) -> np.ndarray:
    assert data.volumes is not None
    return data.volumes / data.volumes[:, :1]


@pytest.mark.parametrize(
    ("extra", "outside"),
    [(-1e-3, lambda v: v > 2.0), (1e-3, lambda v: v < 0.5)],
    ids=["expands", "collapses"],
)
def test_a_cell_that_runs_away_stops_its_replica_alone(
    tmp_path: Path, extra: float, outside: Callable[[np.ndarray], np.ndarray]
) -> None:
    limits = Limits(volumes=(0.5, 2.0))
    run(tmp_path / "free", extra)
    free = read_run(tmp_path / "free")
    left = outside(volumes(free))
    assert not left[SOUND].any()
    step = int(np.argmax(left[FAULTY]))
    assert 1 < step < STEPS - 20
    outcome = run(tmp_path / "r", extra, limits)
    assert outcome.status == "finished"
    (stop,) = outcome.stopped
    assert (stop.replica, stop.step, stop.quantity) == (FAULTY, step, "volume")
    assert stop.value == pytest.approx(volumes(free)[FAULTY, step], rel=1e-12)
    assert stop.limit == (2.0 if extra < 0 else 0.5)
    assert "of the first one in replica 1" in stop.sentence
    assert "a cell of the right density" in stop.sentence
    data = read_run(tmp_path / "r")
    for name in ("positions", "volumes", "pressures", "energies", "heat", "cells"):
        ours, theirs = getattr(data, name), getattr(free, name)
        np.testing.assert_array_equal(ours[SOUND], theirs[SOUND], err_msg=name)
        before = theirs[FAULTY, :step]
        np.testing.assert_array_equal(ours[FAULTY, :step], before, err_msg=name)
        assert np.isnan(ours[FAULTY, step:]).all(), name


def test_a_run_with_a_cell_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    limits = Limits(volumes=(0.5, 2.0))
    whole = run(tmp_path / "whole", -1e-3, limits)
    (stop,) = whole.stopped
    run(tmp_path / "parts", -1e-3, limits, n_steps=stop.step + 7)
    parts = run(tmp_path / "parts", -1e-3, limits, resume=True)
    assert parts.stopped == whole.stopped
    for file in ("checkpoint.npz", stop.file):
        first, second = (tmp_path / name / file for name in ("whole", "parts"))
        assert first.read_bytes() == second.read_bytes(), file
    one, two = read_run(tmp_path / "whole"), read_run(tmp_path / "parts")
    np.testing.assert_array_equal(one.volumes, two.volumes)


def test_a_sound_gas_stays_within_its_window(tmp_path: Path) -> None:
    assert run(tmp_path / "r", 0.0, Limits(volumes=(0.5, 2.0))).stopped == ()
