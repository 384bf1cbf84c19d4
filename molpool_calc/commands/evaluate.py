"""``molpool eval``: predictions for every frame of a file, and their errors."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands import output
from molpool_calc.commands.console import Console
from molpool_calc.commands.options import (
    POTENTIAL_HELP,
    add_device,
    add_dtype,
    add_force,
)
from molpool_calc.commands.tables import significant, table

if TYPE_CHECKING:
    from ase import Atoms

    from molpool_calc.calculator import MolPoolCalculator
    from molpool_calc.commands.frames import ErrorTable

NAME = "eval"
HELP = "compute every frame of a file and compare with the reference values in it"
FRAMES_PER_CHUNK = 256
KINDS = ("mae", "rmse", "max")
UNITS = {
    "energy": "eV",
    "forces": "eV/Å",
    "dipole": "e·Å",
    "polarizability": "e²Å²/eV",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add POTENTIAL, FILE and the options."""
    parser.epilog = (
        "examples: molpool eval painn-ethanol frames.extxyz --out predicted.extxyz\n"
        "          molpool eval painn-ethanol a.npz --units length=Angstrom energy=eV"
    )
    parser.add_argument("potential", metavar="POTENTIAL", help=POTENTIAL_HELP)
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="frames in a format that ASE reads (energies in eV, lengths in Å), or a "
        "data set (npz, HDF5, ASE database) with --units",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="X.extxyz",
        help="write the frames with the predictions, reference values as reference_…",
    )
    add_force(parser)
    add_dtype(parser, "float32")
    add_device(parser)
    _add_data_set(parser)


def _add_data_set(parser: ArgumentParser) -> None:
    """Add what a file needs that does not say what its arrays are."""
    group = parser.add_argument_group("data sets (npz, HDF5, ASE database)")
    group.add_argument(
        "--units",
        nargs="+",
        type=pair,
        default=[],
        metavar="QUANTITY=UNIT",
        help="as in a recipe: length=Angstrom energy=kcal/mol dipole=Debye",
    )
    group.add_argument(
        "--keys",
        nargs="+",
        type=pair,
        default=[],
        metavar="QUANTITY=KEY",
        help="names of arrays that are not recognised: energy=E_total",
    )
    group.add_argument("--split", metavar="PART", help="only this part, such as test")


def pair(text: str) -> tuple[str, str]:
    """Return ``a=b`` as two words, for argparse."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ArgumentTypeError(f"{text!r} is not of the form energy=eV")
    return name, value


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Evaluate all frames."""
    from molpool_calc.calculator import MolPoolCalculator  # noqa: PLC0415 - light start
    from molpool_calc.commands.frames import ErrorTable, read_frames  # noqa: PLC0415

    if arguments.out is not None:
        output.check_file(arguments.out, force=arguments.force)
        _demand_extxyz(arguments.out)
    calculator = MolPoolCalculator(
        arguments.potential, device=arguments.device, dtype=arguments.dtype
    )
    scalars = calculator.evaluator.potential.scalars
    frames = read_frames(
        arguments.file,
        units=dict(arguments.units),
        keys=dict(arguments.keys),
        split=arguments.split,
        scalars=scalars,
    )
    errors, energies, n_frames = ErrorTable(), [], 0
    with ExitStack() as stack:
        bar = stack.enter_context(console.progress(None, "evaluating", "frames"))
        target = None
        if arguments.out is not None:
            target = stack.enter_context(output.replacing(arguments.out))
        while chunk := list(islice(frames, FRAMES_PER_CHUNK)):
            found = _evaluate(calculator, chunk, first=n_frames)
            energies += [each["energy"] for each in found if "energy" in each]
            n_frames += len(chunk)
            _compare(chunk, found, errors, target, scalars)
            bar.update(len(chunk))
    return {
        "n_frames": n_frames,
        "energy_ev": energies,
        "errors": {
            name: {**error, "unit": scalars[name]} if name in scalars else error
            for name, error in errors.result().items()
        },
        "potential": calculator.parameters["potential"][0],
        "out": None if arguments.out is None else str(arguments.out),
    }


def _compare(
    chunk: "Sequence[Atoms]",
    found: Sequence[Mapping[str, Any]],
    errors: "ErrorTable",
    target: Path | None,
    scalars: Collection[str],
) -> None:
    """Add the errors of some frames, and append the frames to a file if there is one.

    ``errors`` is changed in place.
    """
    import ase.io  # noqa: PLC0415 - light start

    from molpool_calc.commands.frames import (  # noqa: PLC0415
        reference_values,
        with_results,
    )

    references = [reference_values(atoms, scalars) for atoms in chunk]
    for results, reference in zip(found, references, strict=True):
        errors.add(results, reference)
    if target is not None:
        predicted = map(with_results, chunk, found, references)
        ase.io.write(target, list(predicted), format="extxyz", append=True)


def _demand_extxyz(path: Path) -> None:
    if path.suffix not in {".extxyz", ".xyz"}:
        raise ValueError(
            f"{path} asks for another format than extended XYZ, the one that eval "
            "writes; give a name that ends in .extxyz"
        )


def _evaluate(
    calculator: "MolPoolCalculator", chunk: "Sequence[Atoms]", first: int
) -> list[dict[str, Any]]:
    """Return the results of each frame; errors name the frame."""
    from ase.calculators.calculator import CalculationFailed  # noqa: PLC0415

    from molpool_calc.commands.frames import predictions  # noqa: PLC0415

    try:
        return predictions(calculator, chunk)
    except (ValueError, CalculationFailed):
        # find out which: rare, and worth the second evaluation
        for index, atoms in enumerate(chunk, first):
            try:
                predictions(calculator, [atoms])
            except (ValueError, CalculationFailed) as error:
                raise type(error)(f"frame {index}: {error}") from error
        raise


def summary(result: Mapping[str, Any]) -> str:
    """Return the errors as a table."""
    lines = [f"{result['n_frames']} frames with {result['potential']}"]
    if result["errors"]:
        lines += ["", error_table(result["errors"])]
    else:
        lines.append("The file holds no reference values to compare with.")
    if result["out"] is not None:
        lines += ["", f"Predictions written to {result['out']}"]
    return "\n".join(lines)


def error_table(errors: Mapping[str, Mapping[str, Any]]) -> str:
    """Return mean absolute, root mean square and largest errors as a table."""
    rows = [
        (name, _unit(name, error), *(significant(error[kind]) for kind in KINDS))
        for name, error in errors.items()
    ]
    header = ("property", "unit", "mean\nabsolute", "root mean\nsquare", "largest")
    return table(header, rows, n_left=2)


def _unit(name: str, error: Mapping[str, Any]) -> str:
    return UNITS.get(name) or str(error.get("unit", ""))
