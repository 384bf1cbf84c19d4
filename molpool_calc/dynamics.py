"""From a structure and a potential to replicas that move."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from molpool_calc.ase_dynamics import AseDynamics
from molpool_calc.ase_integrators import PREFIX, ase_kind, require_plain_cell
from molpool_calc.ase_settings import Settings
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.compilation.engine import Compile, prepare
from molpool_calc.dipole_flux import DIPOLE_FLUX, DipoleFlux
from molpool_calc.dynamics_job import DynamicsJob
from molpool_calc.engine import Engine
from molpool_calc.md.ahead import TOGETHER
from molpool_calc.md.cell import in_moving_cell
from molpool_calc.md.checkpoint import CHECKPOINT
from molpool_calc.md.integrators import Integrator
from molpool_calc.md.manifest import check_output, read_manifest
from molpool_calc.md.outcome import RunOutcome
from molpool_calc.md.recorder import Recording
from molpool_calc.md.run_files import MANIFEST
from molpool_calc.md.simulate import simulate
from molpool_calc.provenance import Potentials
from molpool_calc.replicas import (
    Progress,
    WithDipoleFlux,
    committee_of,
    equilibrate,
    make_replicas,
    properties_of_step,
    thermal_state,
)
from molpool_calc.run_inputs import run_header
from molpool_calc.suitability import require_pressure

ProgressBar = Callable[[str, int], Progress]
"""Called with a title and a number of steps, gives what is called at each step."""


WORTH_COMPILING = 50_000
"""Steps of all replicas from which a run pays for a minute of compilation."""


def calculator_of_run(
    potential: Potentials, job: DynamicsJob, folder: Path, resume: bool, device: str
) -> MolPoolCalculator:
    """Return the calculator of a run; a resumed run keeps the engine it began with."""
    mode = job.compile
    if mode == "auto":
        long = job.n_steps * job.n_replicas >= WORTH_COMPILING
        mode = "now" if long else "cached"
    if resume and (folder / MANIFEST).is_file():
        mode = _mode_of(read_manifest(folder)["inputs"].get("engine"))
    return MolPoolCalculator(
        potential,
        device=device,
        dtype=job.dtype,
        compile=mode,
        allow_unsuitable_pooling=job.allow_unsuitable_pooling,
    )


def _mode_of(begun: Any) -> Compile:
    """Return how to compile what a run began with; a committee states each engine."""
    kinds = begun if isinstance(begun, list) else [begun]
    is_compiled = [kind in {"native", "compiled", "compiled graph"} for kind in kinds]
    if all(is_compiled):
        return "now"
    if any(is_compiled):
        return "cached"
    return "graph" if "graph" in kinds else "never"


def recording_of_run(
    calculator: MolPoolCalculator,
    potential: Potentials,
    atoms: Atoms,
    job: DynamicsJob,
    folder: Path,
    resume: bool,
    progress: ProgressBar = lambda _title, _steps: lambda _step: None,
    *,
    origin: Mapping[str, str] | None = None,
) -> Recording:
    """Return where and how a run is written, and what ``run.json`` says of it.

    Its ``inputs`` name the engine, since a restart is exact with the same one only.
    ``origin`` is what only the caller knows: the name of the ``system``, and the
    ``command`` that makes the run again.
    """
    header = run_header(potential, atoms, job)
    stress = {"stress"} if job.ensemble == "npt" else set()
    kinds = [
        prepare(
            engine,
            properties_of_run(engine, atoms, job) | stress,
            periodic=bool(atoms.pbc.any()),
            n_atoms=len(atoms),
            waiting=lambda: progress("compiling once for this machine", 1)(0),
        )
        for engine in calculator.evaluator.engines
    ]
    kind = kinds[0] if len(kinds) == 1 else kinds
    scalars = calculator.evaluator.potential.scalars
    return Recording(
        folder=folder,
        every=job.every,
        checkpoint_every=max(100, job.n_steps // 20),
        header={
            **(origin or {}),
            **header,
            "inputs": {**header["inputs"], "engine": kind, "guard": asdict(job.limits)},
            "units": {name: scalars[name] for name in job.record if name in scalars},
        },
        resume=resume,
        together=together_of(calculator, atoms, job),
    )


def together_of(calculator: MolPoolCalculator, atoms: Atoms, job: DynamicsJob) -> int:
    """Return how many steps are made before they are checked, see ``md.ahead``."""
    is_own = job.forces is None and job.ase is None
    is_safe = is_own and not atoms.pbc.any()
    return TOGETHER if is_safe and calculator.evaluator.device.type == "cpu" else 1


def properties_of_run(engine: Engine, atoms: Atoms, job: DynamicsJob) -> frozenset[str]:
    """Return what each step of a run computes with the network."""
    properties = properties_of_step(engine, atoms, job.record)
    return properties if job.forces is None else properties - {"energy", "forces"}


def require_forces(
    calculator: MolPoolCalculator, atoms: Atoms, job: DynamicsJob
) -> None:
    """Refuse forces that the potential should not give, or dynamics without dipoles.

    Raises:
        ValueError: the pooling of the energy is unsuitable for the structure; or, with
            forces of another program, the potential has nothing to add.
    """
    if job.forces is None:
        calculator.gate.require(atoms, *calculator.charge_and_spin(atoms))
        return
    if job.ase is not None:
        raise ValueError(
            f"ase:{job.ase} makes its steps with the forces of the potential, so that "
            f"those of {job.forces} have no place; take a thermostat of MolPool"
        )
    engine = calculator.evaluator.engines[0]
    if len(calculator.evaluator.engines) > 1:
        raise ValueError(
            f"several potentials were given, but the forces are those of {job.forces}, "
            "in which they have no part; give one potential, for the dipoles"
        )
    if not properties_of_run(engine, atoms, job) and DIPOLE_FLUX not in job.record:
        raise ValueError(
            f"{engine.potential.spec.name} has no dipole to add to the forces of "
            f"{job.forces}; take a potential that predicts it (see molpool list)"
        )


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
        EquilibrationFailure: a replica left its limits before the run began.
    """
    engines = calculator.evaluator.engines
    members = [
        make_replicas(
            engine,
            atoms,
            state=calculator.charge_and_spin(atoms),
            n_replicas=job.n_replicas,
            record=job.record,
            forces=job.forces,
        )
        for engine in engines
    ]
    replicas = committee_of(members)
    integrator: Integrator = job.integrator
    if job.ase is not None:
        integrator = ase_dynamics(job, job.ase, atoms, calculator)
    steps = round(1e3 * job.equilibration_ps / job.timestep_fs)
    system = replicas.system(integrator.free)
    goes_on = recording.resume and (recording.folder / CHECKPOINT).exists()
    if steps > 0 and not goes_on:
        free = replicas.system("all")
        state = thermal_state(replicas, free, job.temperature, job.seed)
        bar = progress("equilibration", steps)
        start = (replicas, state, job.langevin, steps, bar)
        together = recording.together
        state = equilibrate(*start, limits=job.limits, together=together)
    else:
        state = thermal_state(replicas, system, job.temperature, job.seed)
    if integrator.ensemble == "npt":
        state = in_moving_cell(system, state, replicas.force_field)
    if DIPOLE_FLUX in job.record:
        fluxes = tuple(DipoleFlux(engine, replicas.batch) for engine in engines)
        integrator = WithDipoleFlux(integrator=integrator, fluxes=fluxes)
        state = integrator.add_to(system, state)
    bar = progress(job.ensemble.upper(), job.n_steps)
    return simulate(
        replicas.force_field,
        system,
        state,
        integrator,
        n_steps=job.n_steps,
        recording=recording,
        progress=bar,
        guard=job.limits,
    )


def ase_dynamics(
    job: DynamicsJob, name: str, atoms: Atoms, calculator: MolPoolCalculator
) -> AseDynamics:
    """Return the integrator of a job whose steps ASE makes."""
    settings = Settings(
        **job.options.complete,
        timestep_fs=job.timestep_fs,
        temperature=job.temperature,
        n_atoms=len(atoms),
        rng=np.random.default_rng(job.seed),
    )
    return AseDynamics(
        name,
        ase_kind(name, job.ensemble),
        atoms,
        calculator,
        settings,
        record=[kind for kind in job.record if kind != DIPOLE_FLUX],
    )


def run_dynamics(  # noqa: PLR0913 - keyword-only
    atoms: Atoms,
    potential: Potentials,
    folder: Path,
    job: DynamicsJob,
    *,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    progress: ProgressBar = lambda _title, _steps: lambda _step: None,
    origin: Mapping[str, str] | None = None,
) -> RunOutcome:
    """Run dynamics of a structure as it is, and write it to a folder.

    Args:
        atoms: starting structure; left unchanged.
        potential: bundled name or folder; of several, a committee, the mean moves
            the atoms and the spread of the forces is recorded and guarded.
        folder: new or empty, unless ``resume`` or ``force``.
        job: ensemble, temperature, lengths, seed.
        resume: go on with an interrupted or killed run, bit for bit.
        force: replace a run that is there.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        progress: shows how far the steps are.
        origin: for ``run.json``, see `recording_of_run`.

    Raises:
        ValueError: a folder in use, another run to resume, a structure the potential
            does not cover, or a pooling that is unsuitable for it.
        WriteFailure: what happens can no longer be written, as on a full disk.
    """
    if job.ase is not None:
        require_plain_cell(job.ase, atoms)
    if job.ase is not None and resume:
        raise ValueError(
            f"a run with {PREFIX}{job.ase} cannot be resumed, since ASE keeps "
            "thermostat and random numbers inside; run it again with force, or take an "
            "integrator of molpool"
        )
    calculator = calculator_of_run(potential, job, folder, resume, device)
    calculator.evaluator.check(atoms, calculator.charge_and_spin(atoms))
    require_forces(calculator, atoms, job)
    if job.ensemble == "npt":
        for engine in calculator.evaluator.engines:
            require_pressure(engine.potential, atoms)
    check_output(folder, resume=resume, force=force)
    recording = recording_of_run(
        calculator, potential, atoms, job, folder, resume, progress, origin=origin
    )
    recording = replace(recording, force=force)
    return run_replicas(calculator, atoms, job, recording, progress)
