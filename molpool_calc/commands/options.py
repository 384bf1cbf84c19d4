"""Options that several commands share, and what they turn into."""

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from molpool_calc.commands.console import Console

if TYPE_CHECKING:
    from ase import Atoms

SYSTEM_HELP = (
    "a structure file that ASE reads (a.xyz, or a.xyz@3 for its frame 3), a bundled "
    "molecule (see molpool list), or smiles:CCO"
)
POTENTIAL_HELP = "bundled potential (see molpool list) or folder of a potential"


def add_system(parser: ArgumentParser) -> None:
    """Add SYSTEM."""
    parser.add_argument("system", metavar="SYSTEM", help=SYSTEM_HELP)


def add_potential(parser: ArgumentParser) -> None:
    """Add ``-p`` with one potential."""
    parser.add_argument(
        "-p",
        "--potential",
        metavar="POTENTIAL",
        help=f"{POTENTIAL_HELP}; by default the one made for a bundled molecule",
    )


def add_committee(parser: ArgumentParser) -> None:
    """Add ``-p`` with one potential or several."""
    parser.add_argument(
        "-p",
        "--potential",
        nargs="+",
        metavar="POTENTIAL",
        help=f"after SYSTEM: {POTENTIAL_HELP}; by default the one made for a bundled "
        "molecule; of several, their mean moves the atoms, and the spread of their "
        "forces is recorded and guarded",
    )


def add_device(parser: ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (a GPU if there is one), cpu or cuda (default: auto)",
    )


def add_dtype(parser: ArgumentParser, default: str) -> None:
    """Add ``--dtype``."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default=default,
        help=f"precision of the network (default: {default})",
    )


def add_force(parser: ArgumentParser) -> None:
    """Add ``--force``."""
    parser.add_argument(
        "--force", action="store_true", help="replace output that is there already"
    )


def add_allow_unsuitable_pooling(parser: ArgumentParser) -> None:
    """Add ``--allow-unsuitable-pooling``."""
    parser.add_argument(
        "--allow-unsuitable-pooling",
        action="store_true",
        help="run also where forces jump, or where the energy is not extensive and "
        "the structure is more than one molecule",
    )


def add_forces(parser: ArgumentParser) -> None:
    """Add ``--forces``."""
    parser.add_argument(
        "--forces",
        metavar="MODULE:CLASS",
        help="ASE calculator that gives energies and forces, its options after commas, "
        "as in tblite.ase:TBLite,method=GFN2-xTB; the potential then gives dipoles and "
        "polarizabilities only",
    )


def add_compile(parser: ArgumentParser) -> None:
    """Add ``--compile``."""
    parser.add_argument(
        "--compile",
        choices=("auto", "now", "cached", "graph", "never"),
        default="auto",
        help="code compiled for this machine: auto builds it once for long runs; graph "
        "leaves it out, but records CUDA graphs on a GPU (default: auto)",
    )


def add_json(parser: ArgumentParser) -> None:
    """Add ``--json``; its default is set once, by ``cli``."""
    parser.add_argument(
        "--json",
        action="store_true",
        dest="is_json",
        default=SUPPRESS,
        help="print the result as one JSON object on stdout",
    )


def origin_of(arguments: Namespace) -> dict[str, str]:
    """Return what ``run.json`` states of the call: the system and the whole command."""
    return {"system": arguments.system, "command": arguments.command_line}


def potential_of(arguments: Namespace) -> str:
    """Return the potential asked for, else the one made for the bundled molecule.

    Raises:
        ValueError: none is given, and there is none for the system.
    """
    if arguments.potential is not None:
        return str(arguments.potential)
    from molpool_calc.molecules import default_potential  # noqa: PLC0415 - light start

    found = default_potential(arguments.system)
    if found is None:
        raise ValueError(
            f"no potential was given for {arguments.system}; add -p and the name of a "
            "bundled potential (see molpool list) or the folder of one"
        )
    return found


def potentials_of(arguments: Namespace) -> str | tuple[str, ...]:
    """Return the potential asked for, or all of a committee in the order given.

    Raises:
        ValueError: as `potential_of`, or one is given twice.
    """
    given = arguments.potential
    if given is None:
        return potential_of(arguments)
    if len(given) == 1:
        return str(given[0])
    for name in given:
        if given.count(name) > 1:
            raise ValueError(
                f"{name} is given twice, but the members of a committee must differ to "
                "say anything by their spread; give each one once"
            )
    return tuple(given)


def label_of(potential: str | tuple[str, ...]) -> str:
    """Return the name of a potential, or of all members of a committee."""
    return potential if isinstance(potential, str) else ", ".join(potential)


def demand_energy(potential: str) -> None:
    """Raise ValueError where a potential has no energy, and so no forces."""
    from molpool_calc.storage import find_folder, read_json  # noqa: PLC0415

    content = read_json(find_folder(potential))
    if "energy" not in content["heads"]:
        raise ValueError(
            f"{content['name']} predicts {', '.join(content['heads'])} but no energy, "
            "and so no forces; take a potential with an energy head"
        )


def remark_on_formula(potential: str, atoms: "Atoms", console: Console) -> None:
    """Say so where a potential has never seen a molecule of this formula."""
    from molpool_calc.storage import find_folder, read_json  # noqa: PLC0415

    content = read_json(find_folder(potential))
    data = content.get("training_data", {})
    known, formula = data.get("formulas", []), atoms.symbols.get_chemical_formula()
    is_complete = len(known) == data.get("n_formulas")
    if is_complete and formula not in known:
        console.note(
            f"{content['name']} was trained on {', '.join(known)} and has never seen "
            f"{formula}: these numbers mean nothing until compared with reference "
            "values"
        )


def positive_float(text: str) -> float:
    """Return a number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not allowed; give a number above 0")
    return value


def positive_int(text: str) -> int:
    """Return a whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not allowed; give a whole number above 0")
    return int(text)
