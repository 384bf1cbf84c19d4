"""What ``molpool ir --beads`` adds: options, the run, and the table of shifts."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands.console import Console
from molpool_calc.commands.options import label_of, potentials_of
from molpool_calc.commands.tables import table

if TYPE_CHECKING:
    from molpool_calc.infrared import InfraredResult
    from molpool_calc.path_integrals.job import RingPolymerJob
    from molpool_calc.spectra import Measured

LONGEST_STEP_FS = 0.25
"""The fastest modes of a ring are twice as fast as those of the molecule."""
# eV; relaxation and single precision leave far less.
_HOLE = 1e-3


def add_arguments(parser: ArgumentParser) -> None:
    """Add ``--beads`` and what belongs to it."""
    group = parser.add_argument_group("quantum nuclei (needs i-PI)")
    group.add_argument(
        "--beads",
        type=int,
        metavar="P",
        help="also run ring polymers of P beads, and overlay their spectrum; 16 are "
        "enough for C-H bonds at 300 K",
    )
    group.add_argument(
        "--quantum-picoseconds",
        type=float,
        metavar="PS",
        help="of each of their replicas (default: 10)",
    )
    group.add_argument(
        "--quantum-replicas",
        type=int,
        metavar="R",
        help="of the rings; 4 or more give a band (default: 4)",
    )


def job_of(arguments: Namespace) -> "RingPolymerJob | None":
    """Return what to run with quantum nuclei, ``None`` if that was not asked for.

    Their time step is that of the classical run, but 0.25 fs at most.

    Raises:
        ImportError: i-PI is missing.
        ValueError: a length or number that makes no sense, or given without beads.
    """
    given = (arguments.quantum_picoseconds, arguments.quantum_replicas)
    if arguments.beads is None:
        if given != (None, None):
            raise ValueError(
                "--quantum-picoseconds and --quantum-replicas are of a run with "
                "quantum nuclei; give --beads 16 too"
            )
        return None
    if len(arguments.potential or ()) > 1:
        raise ValueError(
            "--beads runs ring polymers of one potential, but several were given; give "
            "one, or leave --beads out"
        )
    from molpool_calc.path_integrals.job import RingPolymerJob  # noqa: PLC0415
    from molpool_calc.path_integrals.run import require_ipi  # noqa: PLC0415

    job = RingPolymerJob(
        beads=arguments.beads,
        temperature=arguments.temperature,
        picoseconds=10.0 if given[0] is None else given[0],
        replicas=4 if given[1] is None else given[1],
        seed=arguments.seed,
        timestep_fs=min(arguments.timestep_fs, LONGEST_STEP_FS),
        equilibration_ps=arguments.equilibration_ps,
        dtype=arguments.dtype,
        allow_unsuitable_pooling=arguments.allow_unsuitable_pooling,
        compile=arguments.compile,
    )
    require_ipi()
    return job


def add_to(
    classical: "InfraredResult",
    job: "RingPolymerJob",
    arguments: Namespace,
    folder: Path,
    console: Console,
    experiment: "Measured | None" = None,
) -> dict[str, Any]:
    """Run the rings beside the classical run, and return what they give."""
    from molpool_calc.molecules import experiment_of  # noqa: PLC0415
    from molpool_calc.path_integrals.infrared import (  # noqa: PLC0415
        add_quantum_spectrum,
    )

    potential = label_of(potentials_of(arguments))  # of one, see job_of
    known = experiment_of(arguments.system)
    found = add_quantum_spectrum(
        classical.relaxed,
        potential,
        folder,
        job,
        title=f"{arguments.system}, {potential}, {job.temperature:g} K",
        harmonic=classical.harmonic,
        experiment=experiment,
        fundamentals=() if known is None else known.fundamentals_cm1,
        resolution=arguments.resolution,
        resume=arguments.resume,
        device=arguments.device,
        progress=console.bars("step"),
    )
    if found["beads"] < found["advised_beads"]:
        console.note(
            f"{found['beads']} beads were used, but the fastest mode at "
            f"{job.temperature:g} K asks for {found['advised_beads']} or more "
            "(its energy quantum over the thermal energy); its red shift may be too "
            "small"
        )
    if found["lowest_energy_ev"] < -_HOLE:
        console.note(_hole(found))
    return found


def _hole(found: Mapping[str, Any]) -> str:
    return (
        f"rings came {-found['lowest_energy_ev']:.3f} eV below the relaxed structure: "
        "the potential has a deeper minimum where it was not trained, and this quantum "
        "spectrum is worthless; take a potential trained on larger displacements"
    )


def table_of(result: Mapping[str, Any]) -> list[str]:
    """Return the lines on quantum nuclei, none if they were not asked for."""
    found = result.get("quantum")
    if found is None:
        return []
    rows = [
        [
            _range(band["harmonic_cm1"]),
            f"{band['classical_cm1']:.0f}",
            f"{band['quantum_cm1']:.0f}",
            f"{band['shift_cm1']:+.0f}"
            + ("" if band["shift_error_cm1"] is None else _error(band)),
            _range(band["experiment_cm1"]),
        ]
        for band in found["bands"]
    ]
    head = ["harmonic", "classical", "quantum", "shift", "experiment"]
    return [
        "",
        f"quantum nuclei: {found['beads']} beads, {found['replicas']} replicas of "
        f"{found['picoseconds']:g} ps, centroids at "
        f"{found['centroid_temperature_k']:.0f} K, "
        f"{found['integrated_km_mol']:.1f} km/mol, {found['seconds']:.0f} s",
        "middles of the bands in cm-1:",
        table(head, rows, n_left=0),
        *([_hole(found)] if found["lowest_energy_ev"] < -_HOLE else []),
        "written: spectrum_ir_quantum.csv, quantum/",
    ]


def _error(band: Mapping[str, Any]) -> str:
    return f" ± {band['shift_error_cm1']:.0f}"


def _range(wavenumbers: list[float]) -> str:
    if not wavenumbers:
        return ""
    low, high = min(wavenumbers), max(wavenumbers)
    return f"{low:.0f}" if low == high else f"{low:.0f}-{high:.0f}"
