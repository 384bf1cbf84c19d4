"""From a structure and a potential to replicas that move."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float64
from torch import Tensor

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.engine import Engine
from molpool_calc.interfaces import AtomsBatch
from molpool_calc.md.checkpoint import CHECKPOINT
from molpool_calc.md.integrators import NVE, Bussi, Integrator, Langevin
from molpool_calc.md.manifest import check_output
from molpool_calc.md.network import NetworkForceField, one_thread_per_task
from molpool_calc.md.outcome import RunOutcome
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import (
    MDState,
    MDSystem,
    initial_state,
    make_system,
    maxwell_boltzmann_momenta,
    remove_rigid_motion,
)
from molpool_calc.provenance import provenance

Progress = Callable[[int], None]
"""Called with the number of steps done."""

ProgressBar = Callable[[str, int], Progress]
"""Called with a title and a number of steps, gives what is called at each step."""


@dataclass(frozen=True, kw_only=True)
class DynamicsJob:
    """What decides a run; recorded, and compared when a run is resumed.

    Attributes:
        ensemble: ``"nve"`` or ``"nvt"``.
        n_steps: of each replica; a resumed run may be made longer.
        thermostat: of ``"nvt"``: ``"langevin"`` or ``"bussi"``.
        temperature: of the first momenta and of the thermostat, K.
        timestep_fs: of the integration.
        n_replicas: moved in one forward pass.
        every: steps between recorded positions; dipoles are recorded at every step.
        seed: of all random numbers.
        friction_per_fs: of Langevin dynamics, 1/fs.
        relaxation_fs: of velocity rescaling, fs.
        equilibration_ps: of Langevin dynamics before the run.
        dtype: of the network.
    """

    ensemble: str
    n_steps: int
    thermostat: str = "langevin"
    temperature: float = 300.0
    timestep_fs: float = 0.5
    n_replicas: int = 1
    every: int = 10
    seed: int = 0
    friction_per_fs: float = 0.01
    relaxation_fs: float = 100.0
    equilibration_ps: float = 0.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_replicas", "every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; give a positive integer"
                )
        if not self.temperature > 0:
            raise ValueError(
                f"the temperature is {self.temperature:g} K; give a positive one"
            )

    @property
    def langevin(self) -> Langevin:
        """Langevin dynamics at the temperature of the run."""
        return Langevin(
            timestep_fs=self.timestep_fs,
            temperature=self.temperature,
            friction_per_fs=self.friction_per_fs,
        )

    @property
    def integrator(self) -> Integrator:
        """What makes the steps."""
        if self.ensemble == "nve":
            return NVE(timestep_fs=self.timestep_fs)
        if self.thermostat == "langevin":
            return self.langevin
        return Bussi(
            timestep_fs=self.timestep_fs,
            temperature=self.temperature,
            relaxation_fs=self.relaxation_fs,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Replicas:
    """Copies of one structure, moved by one call of the network per step."""

    force_field: NetworkForceField
    batch: AtomsBatch
    positions: Float64[Tensor, "atoms 3"]
    masses: Float64[Tensor, " atoms"]

    def system(self, free: Literal["internal", "all"]) -> MDSystem:
        """Return the constant part of a run with these degrees of freedom."""
        periodic = bool(self.batch.pbc.any())
        return make_system(
            atomic_numbers=self.batch.atomic_numbers,
            masses=self.masses,
            positions=self.positions,
            systems=self.batch.systems,
            free=free,
            cell=self.batch.cell.double() if periodic else None,
            pbc=self.batch.pbc if periodic else None,
        )


def make_replicas(
    engine: Engine, atoms: Atoms, *, charge: float, n_replicas: int
) -> Replicas:
    """Return ``n_replicas`` copies of a structure, with dipoles where there are any.

    Raises:
        ValueError: fewer than one replica.
    """
    if n_replicas < 1:
        raise ValueError(f"{n_replicas} replicas were asked for; give at least 1")
    batch = batch_from_atoms(
        [atoms] * n_replicas,
        dtype=engine.dtype,
        device=engine.device,
        charges=[charge] * n_replicas,
    )
    dipole = "dipole" in engine.potential.properties and not atoms.pbc.any()

    def tensor(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64, device=engine.device)

    return Replicas(
        force_field=NetworkForceField(engine, batch, dipole=dipole),
        batch=batch,
        positions=tensor(np.tile(atoms.positions, (n_replicas, 1))),
        masses=tensor(np.tile(atoms.get_masses(), n_replicas)),
    )


def thermal_state(
    replicas: Replicas,
    system: MDSystem,
    temperature: float,
    seed: int,
) -> MDState:
    """Return the structure with momenta drawn at a temperature (K).

    Overall translation and rotation are taken out where the dynamics keeps them out:
    what remains is canonical in the internal degrees of freedom.
    """
    generator = torch.Generator(device=replicas.positions.device).manual_seed(seed)
    momenta = maxwell_boltzmann_momenta(system, temperature, generator)
    if float(system.degrees_of_freedom.max()) < 3 * system.systems.max_size:
        momenta = remove_rigid_motion(system, replicas.positions, momenta)
    return initial_state(
        replicas.force_field,
        positions=replicas.positions,
        momenta=momenta,
        generator=generator,
    )


def equilibrate(
    replicas: Replicas,
    state: MDState,
    thermostat: Langevin,
    n_steps: int,
    progress: Progress | None = None,
) -> MDState:
    """Return each replica after its own Langevin dynamics, at rest as a whole.

    Langevin dynamics visits the canonical ensemble mode by mode, which a global
    thermostat of a nearly harmonic molecule does not. Removing the rigid motion at the
    end leaves the internal motion canonical, so that an ensemble of such starts
    samples the temperature however little the modes exchange energy in NVE.
    """
    free = replicas.system("all")
    for step in range(n_steps):
        state = thermostat(free, state, replicas.force_field)
        if progress is not None:
            progress(step + 1)
    momenta = remove_rigid_motion(free, state.positions, state.momenta)
    generator = torch.Generator(device=momenta.device)
    generator.set_state(state.generator_state)
    return initial_state(
        replicas.force_field,
        positions=state.positions,
        momenta=momenta,
        generator=generator,
    )


def run_header(potential: str, atoms: Atoms, job: Any) -> Mapping[str, Any]:
    """Return what ``run.json`` states of a run before its first step.

    Its ``inputs`` must be the same when the run is resumed; its length may grow.

    Args:
        potential: bundled name or folder.
        atoms: the structure the run starts from.
        job: frozen record of everything else that decides the run.
    """
    origin = provenance(potential)
    decided = {key: value for key, value in asdict(job).items() if key != "n_steps"}
    structure = {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.round(6).tolist(),
    }
    return {**origin, "inputs": {**origin["potential"], **decided, **structure}}


def run_replicas(
    calculator: MolPoolCalculator,
    atoms: Atoms,
    job: DynamicsJob,
    recording: Recording,
    progress: ProgressBar,
) -> RunOutcome:
    """Equilibrate (unless a checkpoint makes that idle), run, and return the outcome.

    Raises:
        ValueError: as ``md.simulate``.
    """
    charge, _ = calculator.charge_and_spin(atoms)
    engine = calculator.evaluator.engines[0]
    replicas = make_replicas(engine, atoms, charge=charge, n_replicas=job.n_replicas)
    integrator = job.integrator
    steps = round(1e3 * job.equilibration_ps / job.timestep_fs)
    system = replicas.system(integrator.free)
    if steps > 0 and not (recording.folder / CHECKPOINT).exists():
        free = replicas.system("all")
        state = thermal_state(replicas, free, job.temperature, job.seed)
        bar = progress("equilibration", steps)
        state = equilibrate(replicas, state, job.langevin, steps, bar)
    else:
        state = thermal_state(replicas, system, job.temperature, job.seed)
    bar = progress(job.ensemble.upper(), job.n_steps)
    return simulate(
        replicas.force_field,
        system,
        state,
        integrator,
        n_steps=job.n_steps,
        recording=recording,
        progress=bar,
    )


def run_dynamics(
    atoms: Atoms,
    potential: str,
    folder: Path,
    job: DynamicsJob,
    *,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    progress: ProgressBar = lambda _title, _steps: lambda _step: None,
) -> RunOutcome:
    """Run dynamics of a structure as it is, and write it to a folder.

    Args:
        atoms: starting structure; left unchanged.
        potential: bundled name or folder.
        folder: new or empty, unless ``resume`` or ``force``.
        job: ensemble, temperature, lengths, seed.
        resume: go on with an interrupted or killed run, bit for bit.
        force: replace a run that is there.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        progress: shows how far the steps are.

    Raises:
        ValueError: a folder in use, another run to resume, or a structure the
            potential does not cover.
    """
    calculator = MolPoolCalculator(potential, device=device, dtype=job.dtype)
    calculator.evaluator.check(atoms, *calculator.charge_and_spin(atoms))
    check_output(folder, resume=resume, force=force)
    recording = Recording(
        folder=folder,
        every=job.every,
        checkpoint_every=max(100, job.n_steps // 20),
        header=run_header(potential, atoms, job),
        resume=resume,
    )
    with one_thread_per_task():
        return run_replicas(calculator, atoms, job, recording, progress)
