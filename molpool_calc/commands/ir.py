"""``molpool ir``: from a molecule to its infrared spectrum."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands import quantum
from molpool_calc.commands.assignment import assignment_lines
from molpool_calc.commands.console import Console
from molpool_calc.commands.experiment import (
    add_experiment,
    comparison_lines,
    describe_comparison,
    measured_of,
)
from molpool_calc.commands.guard import add_guard, limits_of
from molpool_calc.commands.options import (
    add_allow_unsuitable_pooling,
    add_committee,
    add_compile,
    add_device,
    add_dtype,
    add_force,
    add_forces,
    add_system,
    label_of,
    origin_of,
    potentials_of,
)
from molpool_calc.commands.report import report_or_note
from molpool_calc.commands.spectrum import peak_table

if TYPE_CHECKING:
    from molpool_calc.spectra import MeasuredPeaks

NAME = "ir"
HELP = "relax, run dynamics and compute the absolute infrared spectrum of a molecule"


def add_arguments(parser: ArgumentParser) -> None:
    """Add SYSTEM and what decides the spectrum."""
    parser.epilog = "example: molpool ir ethanol"
    add_system(parser)
    add_committee(parser)
    add = parser.add_argument
    add("--temperature", type=float, default=300.0, help="in K (default: 300)")
    add("--picoseconds", type=float, default=20.0, help="of each replica (default: 20)")
    add(
        "--replicas",
        type=int,
        default=8,
        help="independent starts; 4 or more give a band (default: 8)",
    )
    add("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    add("--timestep-fs", type=float, default=0.5, help="in fs (default: 0.5)")
    add(
        "--equilibration-ps",
        type=float,
        default=1.0,
        help="of Langevin dynamics before each replica (default: 1)",
    )
    add(
        "--resolution",
        type=float,
        help="full width at half maximum of a sharp line, cm-1 (default: 8, or what "
        "a shorter run can give)",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the results (default: SYSTEM-ir)",
    )
    add_experiment(parser)
    add("--no-report", action="store_true", help="do not write report.html")
    add("--resume", action="store_true", help="go on with the run in DIR, bit for bit")
    quantum.add_arguments(parser)
    add_force(parser)
    add_forces(parser)
    add_allow_unsuitable_pooling(parser)
    add_compile(parser)
    add_device(parser)
    add_dtype(parser, "float32")
    add_guard(parser)


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Run everything, and return peaks, integral and drift."""
    from molpool_calc.infrared import run_infrared  # noqa: PLC0415
    from molpool_calc.infrared_job import InfraredJob  # noqa: PLC0415
    from molpool_calc.molecules import read_system  # noqa: PLC0415

    rings = quantum.job_of(arguments)
    atoms = read_system(arguments.system)
    potential = potentials_of(arguments)
    measured = measured_of(arguments, console)
    experiment = measured or _experiment(arguments.system)
    folder = arguments.out or Path(f"{Path(arguments.system).stem}-ir")
    job = InfraredJob(
        temperature=arguments.temperature,
        picoseconds=arguments.picoseconds,
        replicas=arguments.replicas,
        seed=arguments.seed,
        timestep_fs=arguments.timestep_fs,
        equilibration_ps=arguments.equilibration_ps,
        resolution=arguments.resolution,
        dtype=arguments.dtype,
        allow_unsuitable_pooling=arguments.allow_unsuitable_pooling,
        compile=arguments.compile,
        forces=arguments.forces,
        wavenumber_scale=arguments.scale_wavenumbers or 1.0,
        guard=limits_of(arguments),
    )
    result = run_infrared(
        atoms,
        potential,
        folder,
        job,
        title=f"{arguments.system}, {label_of(potential)}, {job.temperature:g} K",
        experiment=experiment,
        resume=arguments.resume,
        force=arguments.force,
        device=arguments.device,
        progress=console.bars("step"),
        origin=origin_of(arguments),
    )
    compared, assigned = result.comparison, result.assignment
    described: dict[str, Any] = {
        **result.describe(),
        **({} if assigned is None else {"assignment": assigned.describe()}),
        **({} if compared is None else {"experiment": describe_comparison(compared)}),
        "folder": str(folder),
        "replicas": job.replicas,
    }
    if rings is not None and result.outcome.status == "finished":
        described["quantum"] = quantum.add_to(
            result, rings, arguments, folder, console, experiment
        )
    described["report"] = None
    if not arguments.no_report:
        single = potential if isinstance(potential, str) else None
        described["report"] = report_or_note(folder, single, arguments.device, console)
    return described


def summary(result: Mapping[str, Any]) -> str:
    """Return the peaks, the harmonic total and where everything is."""
    if result["integrated_km_mol"] is None:
        return f"too short for a spectrum; continue with --resume in {result['folder']}"
    harmonic = sum(result["harmonic_ir_km_mol"])
    drift = result["drift_mev_per_atom_per_ps"]
    conserved = "" if drift is None else f", drift {drift:+.4f} meV/atom/ps"
    return "\n".join(
        [
            *peak_table(result),
            f"harmonic:   {harmonic:.1f} km/mol",
            "",
            *_bands(result),
            f"{result['replicas']} replicas at {result['mean_temperature_k']:.0f} K"
            f"{conserved}, {result['seconds']:.0f} s",
            f"written to {result['folder']}: {', '.join(_files(result))}",
            *quantum.table_of(result),
        ]
    )


def _bands(result: Mapping[str, Any]) -> list[str]:
    lines = []
    if "assignment" in result:
        lines += [*assignment_lines(result["assignment"]), ""]
    if "experiment" in result:
        lines += [*comparison_lines(result["experiment"]), ""]
    return lines


def _files(result: Mapping[str, Any]) -> list[str]:
    report = [] if result["report"] is None else ["report.html"]
    return [*report, "spectrum.png", "spectrum.csv", "trajectory.h5"]


def _experiment(system: str) -> "MeasuredPeaks | None":
    from molpool_calc.molecules import experiment_of  # noqa: PLC0415
    from molpool_calc.spectra import MeasuredPeaks  # noqa: PLC0415

    known = experiment_of(system)
    if known is None or not known.peaks:
        return None
    return MeasuredPeaks(label="experiment, gas phase", peaks=known.peaks)
