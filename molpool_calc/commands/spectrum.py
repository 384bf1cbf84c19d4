"""``molpool spectrum``: the spectrum of a finished, interrupted or killed run."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molpool_calc.commands.console import Console

NAME = "spectrum"
HELP = "compute the absolute infrared spectrum of a run"
WINDOWS = ("blackman-harris", "hann", "cosine-squared", "gaussian", "exponential")
CORRECTIONS = ("harmonic", "standard", "schofield", "classical")


def add_arguments(parser: ArgumentParser) -> None:
    """Add DIR and the options of the estimate."""
    parser.epilog = "example: molpool spectrum run --kind ir --resolution 4"
    add = parser.add_argument
    add("folder", metavar="DIR", type=Path, help="folder of a run of molpool md or ir")
    add("--kind", choices=("ir",), default="ir", help="default: ir")
    add("--window", choices=WINDOWS, default=WINDOWS[0], help="lag window")
    add(
        "--resolution",
        type=float,
        help="full width at half maximum of a sharp line, cm-1 (default: 8, or what "
        "a shorter run can give)",
    )
    add("--maximum", type=float, default=4500.0, help="cm-1 (default: 4500)")
    add(
        "--quantum-correction",
        choices=CORRECTIONS,
        default=CORRECTIONS[0],
        help="of the classical autocorrelation (default: harmonic)",
    )
    add("--unbiased", action="store_true", help="use the unbiased autocorrelation")
    add(
        "--correct-timestep",
        action="store_true",
        help="undo the shift of velocity Verlet to higher wavenumbers",
    )
    add("--temperature", type=float, help="in K, where the run states none")


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Compute, write, and return peaks and integral."""
    del console
    from molpool_calc.infrared import SPECTRUM_FILE  # noqa: PLC0415
    from molpool_calc.run_spectrum import peak_list, spectrum_of_run  # noqa: PLC0415
    from molpool_calc.spectra import (  # noqa: PLC0415 - light start
        total_integral,
        write_spectrum,
    )

    options: dict[str, Any] = {}
    if arguments.temperature is not None:
        options["temperature"] = arguments.temperature
    spectrum = spectrum_of_run(
        arguments.folder,
        resolution=arguments.resolution,
        window=arguments.window,
        biased=not arguments.unbiased,
        maximum=arguments.maximum,
        correction=arguments.quantum_correction,
        correct_verlet_shift=arguments.correct_timestep,
        **options,
    )
    path = arguments.folder / SPECTRUM_FILE
    write_spectrum(spectrum, path)
    total = total_integral(spectrum)
    return {
        "file": str(path),
        "unit": spectrum.unit,
        "peaks": peak_list(spectrum),
        "integrated_km_mol": total.value,
        "integrated_95_percent": [total.lower, total.upper],
        "metadata": dict(spectrum.metadata),
    }


def summary(result: Mapping[str, Any]) -> str:
    """Return the peaks as a table."""
    return "\n".join([*peak_table(result), "", f"written to {result['file']}"])


def peak_table(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of peaks with the integral below."""
    return [
        "  cm-1   km/mol per cm-1",
        *(
            f"{peak['wavenumber_cm1']:6.0f}   {peak['intensity']:10.3f}"
            for peak in result["peaks"]
        ),
        f"integrated: {result['integrated_km_mol']:.1f} km/mol",
    ]
