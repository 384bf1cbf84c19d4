"""``molpool spectrum``: spectra of a finished, interrupted or killed run."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands.assignment import assignment_lines
from molpool_calc.commands.console import Console
from molpool_calc.commands.experiment import (
    add_experiment,
    comparison_lines,
    demand_run,
    interpret,
    measured_of,
)
from molpool_calc.commands.options import positive_float
from molpool_calc.commands.spectrum_files import (
    add_files,
    are_files,
    output_path,
    say_temperature,
    spectrum_of_arguments,
    sticks_of,
)
from molpool_calc.commands.spectrum_kinds import (
    KINDS,
    add_options_of_kinds,
    options_of_kind,
)
from molpool_calc.commands.spectrum_rings import are_rings, spectrum_of_rings

if TYPE_CHECKING:
    from molpool_calc.spectra import HarmonicSpectrum, MeasuredSpectrum, Spectrum

NAME = "spectrum"
HELP = (
    "compute an absolute infrared or Raman spectrum or the density of states of a run"
)
WINDOWS = ("blackman-harris", "hann", "cosine-squared", "gaussian", "exponential")


def add_arguments(parser: ArgumentParser) -> None:
    """Add what the spectrum is of, and the options of the estimate."""
    parser.epilog = (
        "examples: molpool spectrum run --kind ir --resolution 4\n"
        "          molpool spectrum md.traj --timestep-fs 0.5 -p painn-ethanol\n"
        "          molpool spectrum md.xyz --timestep-fs 0.5 --temperature 300 "
        "--calculator tblite.ase:TBLite,method=GFN2-xTB"
    )
    add = parser.add_argument
    add(
        "sources",
        metavar="SOURCE",
        type=Path,
        nargs="+",
        help="folder of a run of molpool md or ir, that of its ring polymers, or "
        "trajectories that ASE reads (several of them are replicas)",
    )
    add_files(parser)
    add(
        "--kind",
        choices=KINDS,
        default="ir",
        help="infrared from dipoles, Raman from polarizabilities (md --record "
        "polarizability), or vibrational density of states from velocities "
        "(md --every 7 or less at 0.5 fs) (default: ir)",
    )
    add("--window", choices=WINDOWS, default=WINDOWS[0], help="lag window")
    add(
        "--resolution",
        type=float,
        help="full width at half maximum of a sharp line, cm-1 (default: 8, or what "
        "a shorter run can give)",
    )
    add("--maximum", type=float, default=4500.0, help="cm-1 (default: 4500)")
    add(
        "--highest-wavenumber",
        type=positive_float,
        help="of the fastest motion, cm-1, where samples are far apart (default: 4500)",
    )
    add("--unbiased", action="store_true", help="use the unbiased autocorrelation")
    add(
        "--correct-timestep",
        action="store_true",
        help="undo the shift of velocity Verlet to higher wavenumbers",
    )
    plot_help = "draw it, to spectrum_KIND.png, with what harmonic.json holds, if any"
    add("--plot", action="store_true", help=plot_help)
    add(
        "--assign",
        action="store_true",
        default=None,
        help="of ir: say which modes and motions make each band, in assignment.csv "
        "(needs harmonic.json and md --every 7 or less at 0.5 fs)",
    )
    add_experiment(parser)
    add_options_of_kinds(parser)


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Compute, write, and return peaks and integral."""
    from molpool_calc.run_spectrum import peak_list  # noqa: PLC0415 - light start
    from molpool_calc.spectra import (  # noqa: PLC0415
        convergence,
        total_integral,
        write_spectrum,
    )

    options = options_of_kind(arguments)
    demand_run(arguments, are_files(arguments))
    measured = measured_of(arguments, console)
    spectrum = _compute(arguments, options, console)
    say_temperature(spectrum, console)
    path = output_path(arguments)
    write_spectrum(spectrum, path)
    files = {"file": str(path)}
    bands, shown, labels = interpret(arguments, spectrum, measured)
    if arguments.plot:
        files["picture"] = str(path.with_suffix(".png"))
        sticks = sticks_of(arguments, spectrum, console)
        _draw(arguments, path.with_suffix(".png"), shown, measured, labels, sticks)
    total = total_integral(spectrum)
    return {
        **files,
        "kind": arguments.kind,
        "unit": spectrum.unit,
        "peaks": peak_list(spectrum),
        **_integrals(arguments.kind, spectrum, total.value),
        "integrated_95_percent": [total.lower, total.upper],
        "convergence": convergence(spectrum).describe(),
        "metadata": dict(spectrum.metadata),
        **bands,
    }


def _compute(
    arguments: Namespace, options: dict[str, Any], console: Console
) -> "Spectrum":
    if are_files(arguments):
        return spectrum_of_arguments(arguments, options, console)
    if are_rings(arguments.sources[0]):
        return spectrum_of_rings(arguments)
    from molpool_calc.run_spectrum import spectrum_of_run  # noqa: PLC0415

    return spectrum_of_run(
        arguments.sources[0],
        kind=arguments.kind,
        resolution=arguments.resolution,
        window=arguments.window,
        biased=not arguments.unbiased,
        maximum=arguments.maximum,
        highest_wavenumber=arguments.highest_wavenumber,
        correct_verlet_shift=arguments.correct_timestep,
        **options,
    )


def _draw(
    arguments: Namespace,
    path: Path,
    spectrum: "Spectrum",
    measured: "MeasuredSpectrum | None",
    labels: list[tuple[float, str]],
    sticks: "HarmonicSpectrum | None",
) -> None:
    from molpool_calc.spectra import plot_infrared, plot_spectrum  # noqa: PLC0415

    title = f"{arguments.sources[0].resolve().name}, {arguments.kind}"
    if arguments.kind == "ir":
        plot_infrared(
            spectrum,
            path,
            title=title,
            sticks=sticks,
            experiment=measured,
            labels=labels,
        )
    else:
        plot_spectrum(spectrum, path, title=title, sticks=sticks)


def _integrals(kind: str, spectrum: "Spectrum", value: float) -> dict[str, float]:
    """Return the integral under a name that states its unit."""
    if kind == "ir" and "volume_angstrom3" in spectrum.metadata:
        return {"integrated_cm2": value}
    if kind == "ir":
        return {"integrated_km_mol": value}
    if kind == "vdos":
        return {"integrated_modes": value}
    if spectrum.metadata["quantity"] == "activity":
        return {"integrated_a4_amu": value}
    return {"integrated_1e_30_cm2_sr": value}


def summary(result: Mapping[str, Any]) -> str:
    """Return the peaks as a table."""
    lines = [*peak_table(result)]
    lines += [f"convergence: {result['convergence']['sentence']}", ""]
    if "assignment" in result:
        lines += [*assignment_lines(result["assignment"]), ""]
    if "experiment" in result:
        lines += [*comparison_lines(result["experiment"]), ""]
    return "\n".join([*lines, f"written to {result['file']}"])


def peak_table(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of peaks with the integral below."""
    unit = result.get("unit", "km/mol per cm-1")
    keys = [key for key in result if key.startswith("integrated_")]
    total = result[keys[0]]
    unit_of_integral = "cm-2" if unit == "cm-1" else unit.removesuffix(" per cm-1")
    return [
        f"  cm-1   {unit}",
        *(
            f"{peak['wavenumber_cm1']:6.0f}   {peak['intensity']:10.4g}"
            for peak in result["peaks"]
        ),
        f"integrated: {total:.4g} {unit_of_integral}",
    ]
