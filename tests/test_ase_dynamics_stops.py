"""Replicas that ASE cannot step on, or that a guard holds: the others do not care."""

from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from charged_springs import ChargedSprings
from md_models import CPU, double

from molpool_calc.ase_dynamics import AseDynamics
from molpool_calc.ase_integrators import ase_kind
from molpool_calc.ase_settings import Settings
from molpool_calc.md.guard import NO_LIMITS, Limits
from molpool_calc.md.outcome import RunOutcome
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import Response, initial_state, make_system
from molpool_calc.md.trajectory import read_run
from molpool_calc.segments import segments_from_sizes

STEPS, FAULTY, OTHERS = 40, 1, [0, 2]
NAMES = ["VelocityVerlet", "Langevin", "Bussi", "NoseHooverChainNVT"]
MOMENTA = [0.3, 2.5, 0.4]
"""Along the bond: the middle replica stretches it by 0.4 Å, the others by 0.1 Å."""


class Fragile(ChargedSprings):
    """Fails where the bond is longer than ``breaks``; counts calls by calculator."""

    implemented_properties: ClassVar = ["energy", "free_energy", "forces"]
    seen: ClassVar[Counter[int]] = Counter()

    def __init__(self, breaks: float = np.inf) -> None:
        super().__init__()
        self.breaks = breaks

    def calculate(self, atoms=None, *rest):
        self.seen[id(self)] += 1
        if atoms.get_distance(0, 1) > self.breaks:
            raise CalculationFailed("the bond is torn; mend it")
        super().calculate(atoms, *rest)
        self.results["free_energy"] = self.results["energy"]


def springs(positions: torch.Tensor) -> Response:
    x = positions.view(-1, 2, 3)
    bond = x[:, 1] - x[:, 0]
    length = bond.norm(dim=1)
    pull = (30.0 * (length - 0.92) / length)[:, None] * bond
    forces = torch.stack([pull, -pull], 1).view(-1, 3)
    return Response(energy=15.0 * (length - 0.92) ** 2, forces=forces, dipole=None)


def run(
    folder: Path, name: str, breaks: float = np.inf, limits: Limits = NO_LIMITS
) -> RunOutcome:
    kind, atoms = ase_kind(name, None), Atoms("OH", positions=[[0] * 3, [0, 0, 0.92]])
    settings = Settings(
        timestep_fs=0.5,
        temperature=300.0,
        friction_per_fs=0.01,
        relaxation_fs=100.0,
        chain_length=3,
        barostat="isotropic",
        pressure_bar=1.0,
        barostat_relaxation_fs=1000.0,
        compressibility_per_bar=1e-5,
        n_atoms=2,
        rng=np.random.default_rng(3),
    )
    Fragile.seen.clear()
    dynamics = AseDynamics(name, kind, atoms, Fragile(breaks), settings)
    positions = torch.from_numpy(np.tile(atoms.positions, (3, 1)))
    system = make_system(
        atomic_numbers=torch.tensor([8, 1] * 3),
        masses=double([15.999, 1.008] * 3),
        positions=positions,
        systems=segments_from_sizes([2] * 3, CPU),
        free=kind.free,
    )
    along = [value for p in MOMENTA for value in ([0, 0, -p], [0, 0, p])]
    state = initial_state(
        springs,
        positions=positions,
        momenta=double(along),
        generator=torch.Generator().manual_seed(0),
    )
    recording = Recording(
        folder=folder, every=1, checkpoint_every=20, header={"inputs": {}}, resume=False
    )
    return simulate(
        springs,
        system,
        state,
        dynamics,
        n_steps=STEPS,
        recording=recording,
        guard=limits,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("breaks", "limits"), [(1.15, NO_LIMITS), (np.inf, Limits(force=6.9))]
)
def test_a_replica_that_is_stopped_is_not_stepped_again(
    tmp_path: Path, name: str, breaks: float, limits: Limits
) -> None:
    run(tmp_path / "free", name)
    free = read_run(tmp_path / "free")
    bonds = free.positions[:, :, 1] - free.positions[:, :, 0]
    torn = np.linalg.norm(bonds, axis=2) > 1.15  # where the spring pulls by 6.9 eV/Å
    assert not torn[OTHERS].any()
    step = int(np.argmax(torn[FAULTY]))
    assert 1 < step < STEPS // 2
    full = dict(Fragile.seen)

    outcome = run(tmp_path / "r", name, breaks, limits)
    assert (outcome.status, outcome.steps_done) == ("finished", STEPS)
    (stop,) = outcome.stopped
    assert (stop.replica, stop.step) == (FAULTY, step)
    if limits is NO_LIMITS:
        assert stop.reason == f"the bond is torn in replica 1 at step {step}"
        assert "change the settings of the calculator" in stop.advice
    data = read_run(tmp_path / "r")
    for field in ("positions", "velocities", "energies", "kinetic", "heat"):
        found, expected = getattr(data, field), getattr(free, field)
        np.testing.assert_array_equal(found[OTHERS], expected[OTHERS], err_msg=field)
        before = expected[FAULTY, :step]
        np.testing.assert_array_equal(found[FAULTY, :step], before, err_msg=field)
        assert np.isnan(found[FAULTY, step:]).all(), field
    most = max(full.values())
    assert sorted(Fragile.seen.values())[1:] == [most, most]
    assert min(Fragile.seen.values()) <= step + 2 < most


def test_a_run_in_which_no_calculator_answers_ends_with_the_reason(
    tmp_path: Path,
) -> None:
    outcome = run(tmp_path / "r", "Langevin", breaks=0.5)
    assert (outcome.status, outcome.steps_done) == ("stopped", 0)
    assert outcome.reason == "the bond is torn, so that the run stopped at step 0"
    assert (tmp_path / "r" / "trajectory.h5").exists()
    assert len(read_run(tmp_path / "r").times_fs) == 1
