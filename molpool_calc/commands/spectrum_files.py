"""What ``molpool spectrum`` takes besides runs of its own: trajectories of others."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands.console import Console
from molpool_calc.commands.options import POTENTIAL_HELP, add_device, add_dtype

if TYPE_CHECKING:
    from molpool_calc.estimates import Fineness
    from molpool_calc.spectra import HarmonicSpectrum, Spectrum

# Options that mean something to trajectory files only, with their defaults.
_OF_FILES = {
    "timestep_fs": None,
    "potential": None,
    "calculator": None,
    "recompute": False,
}
# Options that need what only a run states.
_OF_RUNS = {"correct_timestep": False, "experiment": None}


def add_files(parser: ArgumentParser) -> None:
    """Add the options of trajectory files."""
    add = parser.add_argument
    add(
        "--timestep-fs",
        type=float,
        help="of trajectory files: time between two of their frames",
    )
    add(
        "-p",
        "--potential",
        metavar="POTENTIAL",
        help=f"of trajectory files without dipoles: {POTENTIAL_HELP}, that computes "
        "dipoles or polarizabilities of molecules, or rates of the dipole of cells",
    )
    add(
        "--calculator",
        metavar="MODULE:CLASS",
        help="of the same: any ASE calculator with dipoles, its options after commas, "
        "as in tblite.ase:TBLite,method=GFN2-xTB",
    )
    add(
        "--recompute",
        action="store_true",
        help="of trajectory files: compute also what their frames carry",
    )
    add_device(parser)
    add_dtype(parser, "float64")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the results, and of computed values, which are kept (default: "
        "that of the run or trajectory)",
    )


def are_files(arguments: Namespace) -> bool:
    """Return whether trajectory files were given, and not the folder of a run.

    Raises:
        ValueError: a run comes with others, or options do not belong.
    """
    sources = arguments.sources
    folders = [source for source in sources if source.is_dir()]
    if folders and len(sources) > 1:
        raise ValueError(
            f"{folders[0]} is the folder of a run, which is one source with all its "
            "replicas; give it alone, or trajectory files only"
        )
    # What is neither a file nor a folder is a run that does not exist.
    files = not folders and any(source.is_file() or source.suffix for source in sources)
    others, what = (_OF_RUNS, "a trajectory file") if files else (_OF_FILES, "a run")
    for name, default in others.items():
        if getattr(arguments, name) != default:
            raise ValueError(
                f"--{name.replace('_', '-')} means nothing to {what}, as "
                f"{sources[0]} is; leave it out"
            )
    if files and arguments.timestep_fs is None:
        raise ValueError(
            f"{sources[0]} does not say how far apart its frames are; add "
            "--timestep-fs and the time between two of them in fs"
        )
    return files


def output_path(arguments: Namespace) -> Path:
    """Return the path of the spectrum, its folder made."""
    source, name = arguments.sources[0], f"spectrum_{arguments.kind}.csv"
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        return Path(arguments.out / name)
    return Path(
        source / name if source.is_dir() else source.with_name(f"{source.stem}_{name}")
    )


def sticks_of(
    arguments: Namespace, spectrum: "Spectrum", console: Console
) -> "HarmonicSpectrum | None":
    """Return the harmonic vibrations in the folder of a run, if they are its own."""
    from molpool_calc.harmonic_file import read_harmonic  # noqa: PLC0415
    from molpool_calc.md.manifest import read_manifest  # noqa: PLC0415

    folder = arguments.sources[0]
    found = read_harmonic(folder) if folder.is_dir() else None
    if found is None or "volume_angstrom3" in spectrum.metadata:
        return None
    manifest = read_manifest(folder)
    other = None
    if manifest["inputs"].get("sha256") != found.sha256:
        other = f"was made with {found.potential} and the run with other weights"
    elif not found.is_of(manifest["dynamics"]["masses"]):
        other = f"is of {''.join(found.symbols)} and the run of other atoms"
    if other is not None:
        console.note(
            f"harmonic.json in {folder} {other}, so that it is left out of the picture"
        )
        return None
    return found.spectrum


def spectrum_of_arguments(
    arguments: Namespace, options: dict[str, Any], console: Console
) -> "Spectrum":
    """Return the spectrum of trajectory files."""
    from molpool_calc.file_spectrum import FileJob, spectrum_of_files  # noqa: PLC0415

    stated = options.pop("temperature", None)
    job = FileJob(
        kind=arguments.kind,
        timestep_fs=arguments.timestep_fs,
        potential=arguments.potential,
        calculator=arguments.calculator,
        recompute=arguments.recompute,
        device=arguments.device,
        dtype=arguments.dtype,
        cache=arguments.out,
        temperature=stated,
    )
    return spectrum_of_files(
        arguments.sources, job, fineness_of(arguments), options, console.bars("frame")
    )


def fineness_of(arguments: Namespace) -> "Fineness":
    """Return the resolution and range that were asked for."""
    from molpool_calc.estimates import Fineness  # noqa: PLC0415 - light start

    return Fineness(
        resolution=arguments.resolution,
        window=arguments.window,
        biased=not arguments.unbiased,
        maximum=arguments.maximum,
        highest_wavenumber=arguments.highest_wavenumber,
    )


def say_temperature(spectrum: "Spectrum", console: Console) -> None:
    """Say which temperature was taken, where it is the one at which the atoms move."""
    facts = spectrum.metadata
    of_run = facts.get("temperature_from") == "kinetic energy of the run"
    if facts.get("temperature_is_stated") is False or of_run:
        why = "the run was not equilibrated and " if of_run else ""
        console.note(
            f"{why}no temperature was stated; the atoms move as at "
            f"{facts['temperature']:.1f} K, which is taken"
        )
