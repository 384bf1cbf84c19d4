"""``molpool import``: published weights to the folder of a potential."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molpool_calc.commands import output
from molpool_calc.commands.console import Console
from molpool_calc.commands.options import add_force, add_json

if TYPE_CHECKING:
    from molpool_calc.potential import NeuralPotential

NAME = "import"
HELP = "make a potential of published weights, without running anything in the file"
FILES = ("potential.json", "weights.safetensors", "README.md")


def add_arguments(parser: ArgumentParser) -> None:
    """Add a parser for every format."""
    parser.epilog = (
        "example: molpool import schnetpack best_model --unit kcal/mol "
        "--elements H C O --out my-ethanol"
    )
    formats = parser.add_subparsers(metavar="FORMAT", required=True)
    schnetpack = formats.add_parser(
        "schnetpack",
        help="a best_model file of SchNetPack 2",
        description="Import a best_model file of SchNetPack 2.",
        epilog=parser.epilog,
    )
    _add_schnetpack(schnetpack)
    add_json(schnetpack)
    pyg = formats.add_parser(
        "pyg",
        help="a state dict of SchNet or DimeNet++ of PyTorch Geometric",
        description="Import torch.save(model.state_dict(), FILE) of a SchNet or "
        "DimeNet++ of PyTorch Geometric.",
        epilog="example: molpool import pyg model.pt --unit eV --cutoff 5 "
        "--elements H C N O --out my-dimenet",
    )
    _add_pyg(pyg)
    add_json(pyg)
    mlff = formats.add_parser(
        "mlff",
        help="a So3krates checkpoint of mlff",
        description="Import a flax checkpoint of a So3krates of mlff, beside which lie "
        "hyperparameters.json and scales.json.",
        epilog="example: molpool import mlff checkpoint_E_34440 --unit eV "
        "--elements H C O --out my-so3krates",
    )
    _add_mlff(mlff)
    add_json(mlff)
    so3lr = formats.add_parser(
        "so3lr",
        help="the params.pkl of SO3LR",
        description="Import the params.pkl of SO3LR.",
        epilog="example: molpool import so3lr params.pkl --out my-so3lr",
    )
    _add_so3lr(so3lr)
    add_json(so3lr)


def _add_file(parser: ArgumentParser, what: str) -> None:
    """Add what every format has: FILE, where to write, and the name."""
    parser.add_argument("file", type=Path, metavar="FILE", help=what)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write"
    )
    add_force(parser)
    parser.add_argument("--name", help="of the potential (default: that of DIR)")


def _add_unit(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--unit", metavar="UNIT", help="of its energies: eV, kcal/mol, kJ/mol, Hartree"
    )


def _add_elements(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--elements",
        nargs="+",
        metavar="SYMBOL",
        help="that it was trained on, such as H C O; by default all it has rows for",
    )


def _name(arguments: Namespace) -> str:
    return str(arguments.name or arguments.out.resolve().name)


def _elements(arguments: Namespace) -> list[str] | None:
    words = arguments.elements or []
    return [symbol for word in words for symbol in word.split(",") if symbol] or None


def _add_schnetpack(parser: ArgumentParser) -> None:
    _add_file(parser, "the best_model file")
    _add_unit(parser)
    parser.add_argument(
        "--dipole-unit", metavar="UNIT", help="of its dipoles: e*Angstrom, Debye, a.u."
    )
    parser.add_argument(
        "--polarizability-unit",
        metavar="UNIT",
        help="of its polarizabilities: e^2*Angstrom^2/eV, Angstrom^3, a.u.",
    )
    _add_elements(parser)
    parser.set_defaults(convert=_convert_schnetpack)


def _add_pyg(parser: ArgumentParser) -> None:
    _add_file(parser, "the state dict")
    _add_unit(parser)
    parser.add_argument(
        "--cutoff",
        type=float,
        metavar="Å",
        help="needed for DimeNet++ (5 in PyG); SchNet has it in its Gaussians",
    )
    parser.add_argument(
        "--mean", type=float, default=0.0, metavar="E", help="energy of every atom"
    )
    parser.add_argument(
        "--std", type=float, default=1.0, metavar="FACTOR", help="of the output"
    )
    parser.add_argument(
        "--pooling", choices=("sum", "mean"), default="sum", help="PyG's readout"
    )
    parser.add_argument(
        "--envelope-exponent", type=int, default=5, help="of DimeNet++ (default: 5)"
    )
    parser.add_argument(
        "--variant",
        choices=("pyg", "pooling-paper"),
        default="pyg",
        help="of DimeNet++: PyG's of today, or the older one of Buterez et al. 2023",
    )
    _add_elements(parser)
    parser.set_defaults(convert=_convert_pyg)


def _convert_pyg(arguments: Namespace) -> "NeuralPotential":
    from molpool_calc.importers import PyGSettings, import_pyg  # noqa: PLC0415

    return import_pyg(
        arguments.file,
        unit=arguments.unit,
        name=_name(arguments),
        cutoff=arguments.cutoff,
        elements=_elements(arguments),
        settings=PyGSettings(
            pooling=arguments.pooling,
            mean=arguments.mean,
            std=arguments.std,
            envelope_exponent=arguments.envelope_exponent,
            variant=arguments.variant,
        ),
    )


def _convert_schnetpack(arguments: Namespace) -> "NeuralPotential":
    from molpool_calc.importers import import_schnetpack  # noqa: PLC0415 - light start

    return import_schnetpack(
        arguments.file,
        unit=arguments.unit,
        name=_name(arguments),
        elements=_elements(arguments),
        dipole_unit=arguments.dipole_unit,
        polarizability_unit=arguments.polarizability_unit,
    )


def _add_mlff(parser: ArgumentParser) -> None:
    _add_file(parser, "the checkpoint")
    _add_unit(parser)
    _add_elements(parser)
    parser.set_defaults(convert=_convert_mlff)


def _convert_mlff(arguments: Namespace) -> "NeuralPotential":
    from molpool_calc.importers import import_mlff  # noqa: PLC0415 - light start

    return import_mlff(
        arguments.file,
        unit=arguments.unit,
        name=_name(arguments),
        elements=_elements(arguments),
    )


def _add_so3lr(parser: ArgumentParser) -> None:
    _add_file(parser, "the params.pkl")
    parser.add_argument(
        "--long-range-cutoff",
        type=float,
        metavar="Å",
        help="of electrostatics and dispersion (default: none, all pairs count; "
        "periodic systems need one)",
    )
    parser.set_defaults(convert=_convert_so3lr)


def _convert_so3lr(arguments: Namespace) -> "NeuralPotential":
    from molpool_calc.importers import import_so3lr  # noqa: PLC0415 - light start

    return import_so3lr(
        arguments.file,
        name=_name(arguments),
        long_range_cutoff=arguments.long_range_cutoff,
    )


def run(arguments: Namespace, console: Console) -> Mapping[str, Any]:
    """Convert, and write the folder."""
    del console
    from molpool_calc.commands.describe import describe  # noqa: PLC0415 - light start
    from molpool_calc.storage import save_potential  # noqa: PLC0415
    from molpool_calc.training.card import card  # noqa: PLC0415

    if not arguments.file.is_file():
        raise ValueError(f"there is no file {arguments.file}; give one that exists")
    output.check_folder(arguments.out, force=arguments.force)
    potential = arguments.convert(arguments)
    output.remove(arguments.out, FILES)
    save_potential(potential, arguments.out)
    description = describe(arguments.out)
    with output.replacing(arguments.out / "README.md") as path:
        path.write_text(card(description), encoding="utf-8")
    return description


def summary(result: Mapping[str, Any]) -> str:
    """Return the card."""
    from molpool_calc.training.card import card  # noqa: PLC0415 - light start

    return f"{card(result)}\nWritten to {result['folder']}"
