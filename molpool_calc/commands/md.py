"""``molpool md``: dynamics of replicas, with the dipole at every step."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands.console import Console
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
    origin_of,
    potentials_of,
)

if TYPE_CHECKING:
    from molpool_calc.dynamics_job import DynamicsJob

NAME = "md"
HELP = "run molecular dynamics of one or more replicas, dipoles at every step"
ASE_CLASSES = (
    "VelocityVerlet",
    "Langevin",
    "LangevinBAOAB",
    "Andersen",
    "Bussi",
    "NoseHooverChainNVT",
    "NVTBerendsen",
    "NPTBerendsen",
    "Inhomogeneous_NPTBerendsen",
    "IsotropicMTKNPT",
    "MTKNPT",
    "MaskedMTKNPT",
    "MelchionnaNPT",
)
_ASE = "ase:"
_WITHOUT_DEFAULT = (
    "thermostat",
    "friction_per_fs",
    "relaxation_fs",
    "chain_length",
    "barostat",
    "pressure_bar",
    "barostat_relaxation_fs",
    "compressibility_per_bar",
)
EXAMPLE = (
    "example: molpool md ethanol --ensemble nvt --temperature 300 --steps 20000 "
    "--out run"
)


def add_arguments(parser: ArgumentParser) -> None:
    """Add SYSTEM and what decides the dynamics."""
    parser.epilog = EXAMPLE
    add_system(parser)
    add_committee(parser)
    add = parser.add_argument
    add(
        "--ensemble",
        choices=("nve", "nvt", "npt"),
        help="constant energy, temperature, or temperature and pressure (default: nve, "
        "or what --integrator makes)",
    )
    add(
        "--integrator",
        metavar="ase:NAME",
        help="let a class of ase.md make the steps, without --resume: "
        + ", ".join(ASE_CLASSES),
    )
    add("--temperature", type=float, default=300.0, help="in K (default: 300)")
    add("--timestep-fs", type=float, default=0.5, help="in fs (default: 0.5)")
    add("--steps", type=int, required=True, help="of the whole run, also with --resume")
    add("--replicas", type=int, default=1, help="in one forward pass (default: 1)")
    add(
        "--record",
        nargs="+",
        default=(),
        metavar="NAME",
        help="what else to record at every step: polarizability (for Raman spectra), "
        "dipole_flux (for infrared spectra of periodic systems), or scalar properties "
        "such as gap",
    )
    add("--every", type=int, default=10, help="steps between positions (default: 10)")
    add("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    add(
        "--equilibration-ps",
        type=float,
        default=0.0,
        help="of Langevin dynamics before the run, not recorded (default: 0)",
    )
    _add_options_of_ensembles(parser)
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    add("--resume", action="store_true", help="go on with the run in DIR, bit for bit")
    add_force(parser)
    add_forces(parser)
    add_allow_unsuitable_pooling(parser)
    add_compile(parser)
    add_device(parser)
    add_dtype(parser, "float32")
    add_guard(parser)


def _add_options_of_ensembles(parser: ArgumentParser) -> None:
    """Add options without default values, so that a misplaced one is noticed."""
    add = parser.add_argument
    add(
        "--thermostat",
        choices=("langevin", "bussi", "nose-hoover"),
        help="of nvt and npt: Langevin dynamics, stochastic velocity rescaling, or a "
        "Nosé-Hoover chain (default: langevin)",
    )
    add(
        "--friction-per-fs",
        type=float,
        help="of Langevin dynamics, also before a run, 1/fs (default: 0.01)",
    )
    add(
        "--relaxation-fs",
        type=float,
        help="of bussi and nose-hoover, fs (default: 100)",
    )
    add("--chain-length", type=int, help="of nose-hoover: thermostats (default: 3)")
    add(
        "--barostat",
        choices=("isotropic", "flexible"),
        help="of npt: stochastic rescaling of the volume, or of the shape of the cell "
        "too (default: isotropic)",
    )
    add("--pressure-bar", type=float, help="of npt, bar (default: 1)")
    add(
        "--barostat-relaxation-fs",
        type=float,
        help="of npt: time in which the volume relaxes, fs (default: 1000)",
    )
    add(
        "--compressibility-per-bar",
        type=float,
        help="of npt: an estimate, 1/bar; another value makes the relaxation slower "
        "or faster and nothing wrong (default: that of water, 4.5e-5)",
    )


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Run, and return how it ended."""
    from molpool_calc.dynamics import run_dynamics  # noqa: PLC0415 - light start
    from molpool_calc.molecules import read_system  # noqa: PLC0415

    bars = console.bars("step")
    outcome = run_dynamics(
        read_system(arguments.system),
        potentials_of(arguments),
        arguments.out,
        _job(arguments),
        resume=arguments.resume,
        force=arguments.force,
        device=arguments.device,
        progress=bars,
        origin=origin_of(arguments),
    )
    return {
        **outcome.describe(),
        "folder": str(arguments.out),
        "trajectory": str(arguments.out / "trajectory.h5"),
    }


def summary(result: Mapping[str, Any]) -> str:
    """Return how long, how hot, how conserved."""
    mean = sum(result["mean_temperature"]) / len(result["mean_temperature"])
    drift = result["drift_mev_per_atom_per_ps"]
    lines = [
        f"{result['steps_done']} steps of {len(result['mean_temperature'])} replicas, "
        f"{result['status']} after {result['seconds']:.1f} s",
        f"mean temperature  {mean:.1f} K",
    ]
    if drift is not None:
        largest = max(drift, key=abs)
        lines.append(f"largest drift     {largest:+.4f} meV/atom/ps (conserved energy)")
    if result.get("mean_volume") is not None:
        volumes, pressures = result["mean_volume"], result["mean_pressure_bar"]
        lines.append(f"mean volume       {sum(volumes) / len(volumes):.2f} Å³")
        lines.append(f"mean pressure     {sum(pressures) / len(pressures):.0f} bar")
    return "\n".join([*lines, f"written to        {result['trajectory']}"])


def _name_in_ase(arguments: Namespace) -> str | None:
    """Return the name of the class of ASE that was asked for.

    Raises:
        ValueError: it does not begin with ``ase:``.
    """
    given: str | None = arguments.integrator
    if given is None:
        return None
    if not given.startswith(_ASE):
        raise ValueError(
            f"the integrator {given!r} is unknown; give {_ASE} and one of "
            f"{', '.join(ASE_CLASSES)}, or choose by --ensemble and --thermostat"
        )
    return given.removeprefix(_ASE)


def _ensemble(arguments: Namespace) -> str:
    """Return the ensemble.

    Raises:
        ValueError: an option means nothing to it, or the integrator makes another.
    """
    from molpool_calc.ase_integrators import (  # noqa: PLC0415 - light start
        ase_kind,
        refuse_misplaced_of_ase,
    )
    from molpool_calc.ensembles import refuse_misplaced  # noqa: PLC0415

    given = [name for name in _WITHOUT_DEFAULT if getattr(arguments, name) is not None]
    ensemble = arguments.ensemble
    spelling: dict[str, Any] = {
        "spell": lambda name: "--" + name.replace("_", "-"),
        "equilibrates": arguments.equilibration_ps > 0.0,
    }
    if arguments.ase is not None:
        refuse_misplaced_of_ase(given, arguments.ase, ensemble, **spelling)
        return ase_kind(arguments.ase, ensemble).ensemble
    ensemble = ensemble or "nve"
    refuse_misplaced(given, ensemble, arguments.thermostat or "langevin", **spelling)
    return str(ensemble)


def _job(arguments: Namespace) -> "DynamicsJob":
    from dataclasses import fields  # noqa: PLC0415

    from molpool_calc.dynamics_job import DynamicsJob  # noqa: PLC0415

    named = {field.name: field.name for field in fields(DynamicsJob)}
    named["n_steps"], named["n_replicas"] = "steps", "replicas"
    arguments.ase = _name_in_ase(arguments)
    arguments.ensemble = _ensemble(arguments)
    all_values = {key: getattr(arguments, name) for key, name in named.items()}
    given = {
        key: value
        for key, value in all_values.items()
        if not (key in _WITHOUT_DEFAULT and value is None)
    }
    given["guard"] = limits_of(arguments)
    return DynamicsJob(**{**given, "record": tuple(arguments.record)})
