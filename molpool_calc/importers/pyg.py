"""SchNet and DimeNet++ of PyTorch Geometric (PyG) as potentials of MolPool.

The file is a state dict, ``torch.save(model.state_dict(), file)``. It is read by
``restricted_pickle`` like every foreign file: nothing in it is executed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from molpool_calc.elements import MAX_ATOMIC_NUMBER, number, symbol
from molpool_calc.importers.pyg_tensors import (
    PyGKind,
    Tensors,
    Translation,
    kind_of_tensors,
    translate_dimenet,
    translate_schnet,
)
from molpool_calc.importers.schnetpack_tensors import UNKNOWN_ELEMENTS
from molpool_calc.importers.torch_archive import read_torch_file
from molpool_calc.networks.dimenet import Variant
from molpool_calc.potential import NeuralPotential, PotentialSpec
from molpool_calc.units import ENERGY_UNITS


@dataclass(frozen=True, kw_only=True)
class PyGSettings:
    """What a PyG model has beside its tensors, with PyG's defaults.

    The energy of an atom is (h·std + mean) + atomref, in the file's unit.

    Attributes:
        pooling: of the atomic energies, PyG's ``readout``.
        mean: energy of every atom.
        std: factor of the network's output.
        envelope_exponent: of a DimeNet++.
        variant: of a DimeNet++; see ``DimeNetPlusPlus``.
    """

    pooling: Literal["sum", "mean"] = "sum"
    mean: float = 0.0
    std: float = 1.0
    envelope_exponent: int = 5
    variant: Variant = "pyg"


DEFAULTS = PyGSettings()


def import_pyg(
    path: str | PathLike[str],
    *,
    unit: str | None,
    name: str | None = None,
    kind: PyGKind | None = None,
    cutoff: float | None = None,
    elements: Sequence[str] | None = None,
    settings: PyGSettings = DEFAULTS,
) -> NeuralPotential:
    """Return the potential whose state dict is in a file.

    Nothing in the file is executed. Sizes are read off the tensors. PyG's limit of 32
    neighbors (``max_num_neighbors``) is not reproduced: all pairs below the cutoff
    count, so that in dense systems energies differ from PyG's, which jump where a
    33rd neighbor comes near.

    Args:
        path: the file.
        unit: unit of its energies: ``eV``, ``kcal/mol``, ``kJ/mol`` or ``Hartree``.
        name: what to call the potential; by default the name of the file.
        kind: which model; by default found from the names of the tensors.
        cutoff: in Å. A DimeNet++ needs it; a SchNet has it in its Gaussians.
        elements: chemical symbols of what it was trained on, which no file states. By
            default all that its embedding has a row for.
        settings: what else the file does not state.

    Raises:
        ValueError: a file that is no state dict or names anything else, a unit or
            cutoff that is missing or wrong, a missing, misshapen or left-over tensor;
            the message names it.
    """
    path = Path(path)
    file = read_torch_file(path, prefixes=())
    try:
        return potential_from_pyg(
            _state_dict(file.root),
            unit=unit,
            name=path.stem if name is None else name,
            kind=kind,
            cutoff=cutoff,
            elements=elements,
            settings=settings,
            source=f"PyTorch Geometric, {path.name}, SHA-256 {file.sha256}",
        )
    except ValueError as error:
        raise ValueError(f"{path} cannot be imported: {error}") from error


def potential_from_pyg(
    tensors: Mapping[str, Tensor],
    *,
    unit: str | None,
    name: str,
    kind: PyGKind | None = None,
    cutoff: float | None = None,
    elements: Sequence[str] | None = None,
    settings: PyGSettings = DEFAULTS,
    source: str = "PyTorch Geometric",
) -> NeuralPotential:
    """Return the potential with the tensors of a state dict.

    Args:
        tensors: by their names in PyG.
        unit: see ``import_pyg``.
        name: what to call the potential.
        kind: see ``import_pyg``.
        cutoff: in Å; see ``import_pyg``.
        elements: see ``import_pyg``.
        settings: see ``import_pyg``.
        source: where the model is from.

    Raises:
        ValueError: as ``import_pyg``.
    """
    if unit not in ENERGY_UNITS:
        said = "none was given" if unit is None else f"{unit!r} is not known"
        raise ValueError(
            f"the file does not say the unit of its energy, and {said}; give one of "
            f"{', '.join(ENERGY_UNITS)}"
        )
    model = _translated(tensors, kind, cutoff, settings)
    numbers = _elements(elements, model.n_rows)
    spec = PotentialSpec(
        name=name,
        elements=numbers,
        network=model.network,
        heads={"energy": _energy_head(model, settings, ENERGY_UNITS[unit], numbers)},
        source=source,
        description=UNKNOWN_ELEMENTS if elements is None else "",
    )
    return _filled(spec, model)


def _state_dict(root: object) -> dict[str, Tensor]:
    """Return the tensors by name; what the file holds is not to be trusted."""
    tensors: dict[str, Tensor] = {}
    for name, value in root.items() if isinstance(root, dict) else [("", None)]:
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                "it holds something else than tensors by name; save the model alone "
                "with torch.save(model.state_dict(), file)"
            )
        tensors[name] = value
    return tensors


def _translated(
    published: Mapping[str, Tensor],
    kind: PyGKind | None,
    cutoff: float | None,
    settings: PyGSettings,
) -> Translation:
    found = kind_of_tensors(published)
    if kind not in {None, found}:
        raise ValueError(f"{kind} was asked for, but its tensors are those of {found}")
    tensors = Tensors(published)
    if found == "schnet":
        model = translate_schnet(tensors, cutoff)
    else:
        model = translate_dimenet(
            tensors,
            cutoff,
            envelope_exponent=settings.envelope_exponent,
            variant=settings.variant,
        )
    tensors.check_nothing_left(found)
    _check_widths(model)
    return model


def _check_widths(model: Translation) -> None:
    """Check that the file is large enough for the network that its shapes imply."""
    n_numbers = sum(value.numel() for value in model.state.values())
    widths = [
        value
        for key, value in model.network.items()
        if key.startswith(("n_features", "n_hidden", "n_filters", "n_out", "n_int_emb"))
    ]
    largest = max(widths)
    if largest * largest > n_numbers:
        raise ValueError(
            f"its tensors hold {n_numbers} numbers, but a network of width {largest} "
            f"has a matrix of {largest * largest}"
        )


def _elements(elements: Sequence[str] | None, n_rows: int) -> tuple[int, ...]:
    known = range(1, min(n_rows, MAX_ATOMIC_NUMBER + 1))
    chosen = known if elements is None else sorted({number(e) for e in elements})
    unknown = [symbol(z) for z in chosen if z not in known]
    if unknown or not chosen:
        raise ValueError(
            f"the elements {', '.join(unknown) or '(none)'} were asked for, but its "
            f"embedding has rows for atomic numbers up to {n_rows - 1}"
        )
    return tuple(chosen)


def _energy_head(
    model: Translation, settings: PyGSettings, unit: float, numbers: tuple[int, ...]
) -> dict[str, Any]:
    offsets = dict.fromkeys(numbers, settings.mean)
    if model.atom_energies is not None:
        table = model.atom_energies.double()[:, 0].tolist()
        if len(table) <= max(numbers):
            raise ValueError(
                f"the tensor atomref.weight has {len(table)} rows, fewer than the "
                "elements need"
            )
        offsets = {z: offset + table[z] for z, offset in offsets.items()}
    references = {z: unit * offset for z, offset in offsets.items() if offset}
    if settings.pooling == "mean" and references:
        raise ValueError(
            "it averages energies of atoms (mean, atomref) that MolPool sums; import "
            "it without them and add them to the result"
        )
    head = {
        "n_hidden": model.n_hidden,
        "pooling": settings.pooling,
        "scale": unit * settings.std,
        "reference_energies": references,
    }
    return head | ({"activation": "shifted-softplus"} if model.n_hidden else {})


def _filled(spec: PotentialSpec, model: Translation) -> NeuralPotential:
    potential = NeuralPotential(spec)
    expected = potential.state_dict()
    for name, value in model.state.items():
        if name not in expected or expected[name].shape != value.shape:
            asked = list(expected[name].shape) if name in expected else "no such tensor"
            raise ValueError(
                f"what becomes {name} has shape {list(value.shape)}, but the network "
                f"asks for {asked}"
            )
    for name in sorted(expected.keys() - model.state.keys()):
        raise ValueError(f"it has nothing that could become {name}")
    dtypes = {value.dtype for value in model.state.values()}
    potential.to(torch.float64 if torch.float64 in dtypes else torch.float32)
    potential.load_state_dict(model.state)
    return potential
