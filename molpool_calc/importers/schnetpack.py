"""Models of SchNetPack 2 (``best_model`` files) as potentials of MolPool.

The file is a pickled module tree. ``restricted_pickle`` reads it without running it,
``schnetpack_modules`` reads off what kind of model it is, and ``schnetpack_tensors``
puts its tensors into the network and the heads.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from molpool_calc.importers.module_tree import attributes, tensors_of
from molpool_calc.importers.schnetpack_model import SchNetPackUnits
from molpool_calc.importers.schnetpack_modules import read_model
from molpool_calc.importers.schnetpack_tensors import potential_from_tensors
from molpool_calc.importers.torch_archive import read_torch_file
from molpool_calc.potential import NeuralPotential


def import_schnetpack(
    path: str | PathLike[str],
    *,
    unit: str | None,
    name: str | None = None,
    elements: Sequence[str] | None = None,
    dipole_unit: str | None = None,
    polarizability_unit: str | None = None,
) -> NeuralPotential:
    """Return the potential in a ``best_model`` file of SchNetPack 2.

    Nothing in the file is executed. PaiNN and SchNet with an energy, a dipole and a
    polarizability are read; the weights are the file's, bit for bit, and so are the
    numbers of the radial basis (dipoles in Debye are the exception: the last layer is
    multiplied by the unit). Lengths are Å, as in SchNetPack's data sets.

    Args:
        path: the file.
        unit: unit of its energies, which no file states: ``eV``, ``kcal/mol``,
            ``kJ/mol`` or ``Hartree``.
        name: what to call the potential; by default the name of the file.
        elements: chemical symbols of what it was trained on, which no file states.
            By default the elements with a reference energy, and if there are none,
            every element that its embedding has a row for: rows that were never
            trained cannot be told from those that were, so give them if you know.
        dipole_unit: ``e*Angstrom``, ``Debye`` or ``a.u.``; needed with a dipole.
        polarizability_unit: ``e^2*Angstrom^2/eV``, ``Angstrom^3`` or ``a.u.``;
            needed with a polarizability.

    Raises:
        ValueError: a file that is no such model or names anything else than parts of
            one, a model that MolPool has no equal of, a unit that is missing or
            unknown, a missing, misshapen or left-over tensor; the message names it.
    """
    path = Path(path)
    file = read_torch_file(path, prefixes=("schnetpack.",))
    try:
        model = read_model(file.root)
        version = attributes(file.root, "the model").get("spk_version")
        stated = f"version {version}" if isinstance(version, str) else "version unknown"
        return potential_from_tensors(
            model,
            tensors_of(file.root),
            units=SchNetPackUnits(
                energy=unit, dipole=dipole_unit, polarizability=polarizability_unit
            ),
            name=path.stem if name is None else name,
            elements=elements,
            source=f"SchNetPack ({stated[:40]}), {path.name}, SHA-256 {file.sha256}",
        )
    except ValueError as error:
        raise ValueError(f"{path} cannot be imported: {error}") from error
