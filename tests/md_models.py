"""Analytic force fields and small runs for the tests of ``molpool_calc.md``.

Run as a script, it is the process that the restart tests kill.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from md_periodic_models import SoftSpheres, cubes, gas, rescaling
from torch import Tensor

from molpool_calc.md.cell import CellForceField
from molpool_calc.md.cell_rescaling import CellRescaling
from molpool_calc.md.integrators import NVE, Bussi, Integrator, Langevin
from molpool_calc.md.nose_hoover import NoseHoover
from molpool_calc.md.outcome import RunOutcome
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import (
    ForceField,
    MDState,
    MDSystem,
    Response,
    initial_state,
    make_system,
    maxwell_boltzmann_momenta,
    remove_rigid_motion,
)
from molpool_calc.segments import segments_from_sizes

CPU = torch.device("cpu")
INTEGRATORS: dict[str, Integrator] = {
    "nve": NVE(timestep_fs=1.0),
    "langevin": Langevin(timestep_fs=1.0, temperature=300.0, friction_per_fs=0.01),
    "bussi": Bussi(timestep_fs=1.0, temperature=300.0, relaxation_fs=50.0),
    "nose-hoover": NoseHoover(timestep_fs=1.0, temperature=300.0, relaxation_fs=50.0),
}
NPT: dict[str, CellRescaling] = {
    f"npt {thermostat} {barostat}": rescaling(thermostat, barostat, pressure_bar=400.0)
    for thermostat, barostat in (
        ("langevin", "flexible"),
        ("bussi", "isotropic"),
        ("nose-hoover", "flexible"),
    )
}
GAS = SoftSpheres(cubes(2, 12.0), 5)
WATER = torch.tensor(
    [[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]],
    dtype=torch.float64,
)
WATER_MASSES = [15.999, 1.008, 1.008]


def double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Wells:
    """Each atom alone in ``k r²/2 + a r⁴/4 + b (x²y² + y²z² + z²x²)``."""

    k: float
    a: float = 0.0
    b: float = 0.0

    def __call__(self, positions: Tensor) -> Response:
        square = positions.square()
        r2 = square.sum(1)
        mixed = 0.5 * (r2.square() - square.square().sum(1))
        energy = 0.5 * self.k * r2 + 0.25 * self.a * r2.square() + self.b * mixed
        others = r2[:, None] - square
        slope = self.k + self.a * r2[:, None] + 2.0 * self.b * others
        return Response(energy=energy, forces=-slope * positions, dipole=positions)


@dataclass(frozen=True)
class Clusters:
    """``n_atoms`` Lennard-Jones atoms in each system, without a cutoff."""

    n_atoms: int
    epsilon: float = 0.0104
    sigma: float = 3.4

    def __call__(self, positions: Tensor) -> Response:
        x = positions.view(-1, self.n_atoms, 3)
        vectors = x[:, :, None] - x[:, None]
        alone = torch.eye(self.n_atoms, dtype=torch.bool)
        r2 = vectors.square().sum(3).masked_fill(alone, torch.inf)
        s6 = (self.sigma**2 / r2) ** 3
        energy = 2.0 * self.epsilon * (s6.square() - s6).sum((1, 2))
        push = 24.0 * self.epsilon * (2.0 * s6.square() - s6) / r2
        forces = (push[..., None] * vectors).sum(2)
        return Response(energy=energy, forces=forces.reshape(-1, 3), dipole=None)


@dataclass(frozen=True)
class Waters:
    """Water with anharmonic springs along its three distances, and charges."""

    k: float = 30.0
    cubic: float = -40.0

    def __call__(self, positions: Tensor) -> Response:
        x = positions.view(-1, 3, 3)
        first, second = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
        rest = (WATER[first] - WATER[second]).norm(dim=1)
        vectors = x[:, first] - x[:, second]
        r = vectors.norm(dim=2)
        d = r - rest
        energy = (0.5 * self.k * d**2 + self.cubic * d**3 / 3.0).sum(1)
        energy = energy + (50.0 * d**4).sum(1)
        pull = (self.k * d + self.cubic * d**2 + 200.0 * d**3) / r
        pairs = pull[..., None] * vectors
        forces = torch.zeros_like(x).index_add(1, first, -pairs)
        forces = forces.index_add(1, second, pairs)
        dipole = (x * double([-0.8, 0.4, 0.4])[:, None]).sum(1)
        return Response(energy=energy, forces=forces.reshape(-1, 3), dipole=dipole)


def atoms_alone(n: int, mass: float) -> tuple[MDSystem, Tensor]:
    """Systems of one atom each, at the origin, with all degrees of freedom."""
    positions = torch.zeros((n, 3), dtype=torch.float64)
    system = make_system(
        atomic_numbers=torch.ones(n, dtype=torch.int64),
        masses=torch.full((n,), mass, dtype=torch.float64),
        positions=positions,
        systems=segments_from_sizes([1] * n, CPU),
        free="all",
    )
    return system, positions


def waters(
    n: int, integrator: Integrator, force_field: ForceField, *, seed: int = 0
) -> tuple[MDSystem, MDState]:
    """Replicas of water at 300 K."""
    positions = WATER.repeat(n, 1)
    system = make_system(
        atomic_numbers=torch.tensor([8, 1, 1] * n),
        masses=double(WATER_MASSES * n),
        positions=positions,
        systems=segments_from_sizes([3] * n, CPU),
        free=integrator.free,
    )
    generator = torch.Generator().manual_seed(seed)
    momenta = maxwell_boltzmann_momenta(system, 300.0, generator)
    if integrator.free == "internal":
        momenta = remove_rigid_motion(system, positions, momenta)
    state = initial_state(
        force_field, positions=positions, momenta=momenta, generator=generator
    )
    return system, state


def start(
    system: MDSystem, positions: Tensor, force_field: ForceField, *, seed: int
) -> MDState:
    generator = torch.Generator().manual_seed(seed)
    momenta = maxwell_boltzmann_momenta(system, 300.0, generator)
    return initial_state(
        force_field, positions=positions, momenta=momenta, generator=generator
    )


def advance(
    integrator: Integrator,
    system: MDSystem,
    state: MDState,
    force_field: ForceField,
    n: int,
) -> MDState:
    for _ in range(n):
        state = integrator(system, state, force_field)
    return state


class Faulty:
    """Does something when its force is asked for the n-th time."""

    def __init__(
        self,
        n: int,
        act: Callable[[Response], Response],
        field: ForceField | None = None,
    ) -> None:
        self._left, self._act = n, act
        self._field = Waters() if field is None else field

    def __call__(self, positions: Tensor) -> Response:
        return self._passed(self._field(positions))

    def in_cell(self, positions: Tensor, cell: Tensor) -> Response:
        assert isinstance(self._field, CellForceField)
        return self._passed(self._field.in_cell(positions, cell))

    def _passed(self, response: Response) -> Response:
        self._left -= 1
        return self._act(response) if self._left == 0 else response


def raise_interrupt(response: Response) -> Response:
    raise KeyboardInterrupt


def field_of(name: str) -> ForceField:
    return GAS if name in NPT else Waters()


def run(
    folder: Path,
    name: str,
    n_steps: int,
    *,
    force_field: ForceField | None = None,
    every: int = 7,
    seed: int = 0,
    resume: bool = False,
    progress: Callable[[int], None] | None = None,
) -> RunOutcome:
    """Run two replicas of water, or of a gas, with the integrator of that name."""
    field = field_of(name) if force_field is None else force_field
    integrator: Integrator
    if name in NPT:
        assert isinstance(field, CellForceField)
        integrator = NPT[name]
        system, state = gas(NPT[name], field, GAS.cells, GAS.n_atoms)
    else:
        integrator = INTEGRATORS[name]
        system, state = waters(2, integrator, field, seed=seed)
    recording = Recording(
        folder=folder,
        every=every,
        checkpoint_every=25,
        header={"inputs": {"potential": "abc", "seed": seed}, "version": "0"},
        resume=resume,
    )
    return simulate(
        field,
        system,
        state,
        integrator,
        n_steps=n_steps,
        recording=recording,
        progress=progress,
    )


class Lethal(Faulty):
    """Ends the process by SIGKILL in the force call of a step."""

    step = 0

    def __init__(self, fatal_step: int, field: ForceField) -> None:
        super().__init__(0, raise_interrupt, field)
        self._fatal_step = fatal_step

    def note(self, step: int) -> None:
        print(step)
        self.step = step

    def _passed(self, response: Response) -> Response:
        if self.step == self._fatal_step - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return response


def _main(folder: str, name: str, n_steps: str, fatal_step: str) -> None:
    """Run, and end by SIGKILL in the middle of a force call of the fatal step."""
    lethal = Lethal(int(fatal_step), field_of(name))
    run(
        Path(folder),
        name,
        int(n_steps),
        force_field=lethal,
        resume=(Path(folder) / "run.json").exists(),
        progress=lethal.note,
    )


if __name__ == "__main__":
    _main(*sys.argv[1:])
