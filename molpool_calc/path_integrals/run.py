"""Replicas of ring polymers, each moved by i-PI in a process of its own."""

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import write

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.compilation.engine import prepare
from molpool_calc.dynamics import WORTH_COMPILING, ProgressBar
from molpool_calc.md.manifest import (
    FORMAT,
    Manifest,
    check_output,
    read_manifest,
    require_same_inputs,
    write_manifest,
)
from molpool_calc.path_integrals.input import (
    STRUCTURE,
    Forces,
    Stage,
    input_text,
    structure_text,
)
from molpool_calc.path_integrals.job import RingPolymerJob
from molpool_calc.path_integrals.processes import run_replicas
from molpool_calc.replicas import properties_of_step
from molpool_calc.run_inputs import run_header
from molpool_calc.storage import bundled_names, find_folder

TEMPLATE = "structure.extxyz"

# How long a run is may change when it goes on, and so may the speed of its code.
_MEANS = {"picoseconds", "compile"}


def require_ipi() -> None:
    """Raise ImportError where i-PI is missing."""
    if find_spec("ipi") is None:
        raise ImportError(
            "quantum nuclei need i-PI, which is not installed; run "
            "pip install 'molpool-calc[ipi]'"
        )


def replica_folder(folder: Path, replica: int) -> Path:
    """Return where a replica is kept."""
    return folder / f"replica_{replica}"


def run_ring_polymers(
    atoms: Atoms,
    potential: str,
    folder: Path,
    job: RingPolymerJob,
    *,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    progress: ProgressBar = lambda _title, _steps: lambda _step: None,
) -> None:
    """Run ring polymers of a molecule, and write them to a folder.

    The folder gets ``run.json`` and, for every replica, the inputs and outputs of
    i-PI. As many replicas run side by side as there are processors. A run that was
    killed goes on from checkpoints of i-PI, at most 500 steps back.

    Args:
        atoms: starting structure, relaxed; left unchanged.
        potential: bundled name or folder.
        folder: new or empty, unless ``resume`` or ``force``.
        job: beads, temperature, lengths, seed.
        resume: go on with an interrupted or killed run, or make it longer.
        force: replace a run that is there.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        progress: shows how far the steps are.

    Raises:
        ImportError: i-PI is not installed.
        ValueError: a folder in use, another run to resume, a periodic structure, or a
            potential without dipole.
        CalculationFailed: the forces are not finite, or i-PI failed.
    """
    require_ipi()
    forces = _forces(atoms, potential, job, device, progress)
    header = run_header(potential, atoms, job)
    run_with_forces(
        atoms,
        forces,
        folder,
        job,
        header=header,
        resume=resume,
        force=force,
        progress=progress,
    )


def run_with_forces(
    atoms: Atoms,
    forces: Forces,
    folder: Path,
    job: RingPolymerJob,
    *,
    header: Mapping[str, Any],
    resume: bool = False,
    force: bool = False,
    progress: ProgressBar = lambda _title, _steps: lambda _step: None,
) -> None:
    """Run ring polymers with any driver of i-PI; see `run_ring_polymers`.

    Args:
        atoms: starting structure; left unchanged.
        forces: the driver; its extras must hold the dipole.
        folder: new or empty, unless ``resume`` or ``force``.
        job: beads, temperature, lengths, seed.
        header: what ``run.json`` states besides; its ``inputs`` must be the same when
            the run is resumed.
        resume: go on with an interrupted or killed run, or make it longer.
        force: replace a run that is there.
        progress: shows how far the steps are.
    """
    check_output(folder, resume=resume, force=force)
    manifest = _manifest(job, header)
    if resume:
        require_same_inputs(folder, read_manifest(folder), manifest)
    elif force:
        _remove_rings(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, manifest)  # first: whatever follows may be interrupted
    for replica in range(job.replicas):
        _write_replica(atoms, forces, folder, job, replica)
    bar = progress(f"{job.beads} beads", job.replicas * _steps_of(job))
    run_replicas(
        [replica_folder(folder, replica) for replica in range(job.replicas)],
        _lengths(job),
        hold=job.internal,
        progress=bar,
    )
    write_manifest(folder, {**manifest, "status": "finished"})


def _forces(
    atoms: Atoms,
    potential: str,
    job: RingPolymerJob,
    device: str,
    progress: ProgressBar,
) -> Forces:
    """Return the driver of a potential, its code compiled if that pays."""
    mode = job.compile
    if mode == "auto":
        long = job.replicas * _steps_of(job) >= WORTH_COMPILING
        mode = "now" if long else "cached"
    calculator = MolPoolCalculator(
        potential,
        device=device,
        dtype=job.dtype,
        compile=mode,
        allow_unsuitable_pooling=job.allow_unsuitable_pooling,
    )
    state = calculator.charge_and_spin(atoms)
    calculator.evaluator.check(atoms, state)
    calculator.gate.require(atoms, *state)
    if atoms.pbc.any() or "dipole" not in calculator.implemented_properties:
        raise ValueError(
            "quantum nuclei are for molecules in the gas phase and potentials with a "
            "dipole; set pbc to False, or take another potential"
        )
    engine = calculator.evaluator.engines[0]
    prepare(
        engine,
        properties_of_step(engine, atoms, ()),
        periodic=False,
        waiting=lambda: progress("compiling once for this machine", 1)(0),
    )
    bundled = potential in bundled_names()
    return Forces(
        parameters={
            "potential": potential
            if bundled
            else str(find_folder(potential).resolve()),
            "structure": TEMPLATE,
            "dtype": job.dtype,
            "device": device,
            "compile": "never" if mode == "never" else "cached",
            "allow_unsuitable_pooling": str(job.allow_unsuitable_pooling),
        }
    )


def _manifest(job: RingPolymerJob, header: Mapping[str, Any]) -> Manifest:
    inputs = {k: v for k, v in header["inputs"].items() if k not in _MEANS}
    return {
        **header,
        "format": FORMAT,
        "status": "running",
        "inputs": inputs,
        "versions": {**header.get("versions", {}), "ipi": version("ipi")},
        "n_steps": job.n_steps,
        "dynamics": {
            "method": "thermostatted ring-polymer molecular dynamics",
            "beads": job.beads,
            "replicas": job.replicas,
            "temperature": job.temperature,
            "timestep_fs": job.timestep_fs,
            "stride": job.stride,
            "internal": job.internal,
        },
    }


def _remove_rings(folder: Path) -> None:
    """Remove the replicas of a run that is replaced, however many they were.

    Its manifest stays until the new one takes its place, so that it may be replaced.
    """
    for place in folder.glob("replica_*"):
        shutil.rmtree(place)


def _write_replica(
    atoms: Atoms,
    forces: Forces,
    folder: Path,
    job: RingPolymerJob,
    replica: int,
) -> None:
    """Write the inputs of a replica, into a new folder or, resuming, over the old."""
    place = replica_folder(folder, replica)
    place.mkdir(parents=True, exist_ok=True)
    text = structure_text(atoms.numbers, atoms.positions)
    (place / STRUCTURE).write_text(text, encoding="utf-8")
    write(place / TEMPLATE, atoms, format="extxyz")
    for stage, _ in _lengths(job):
        text = input_text(job, stage, replica, masses=atoms.get_masses(), forces=forces)
        (place / f"{stage}.xml").write_text(text, encoding="utf-8")


def _lengths(job: RingPolymerJob) -> list[tuple[Stage, int]]:
    return [("equilibration", job.n_equilibration), ("production", job.n_steps)]


def _steps_of(job: RingPolymerJob) -> int:
    return sum(n_steps for _, n_steps in _lengths(job))
