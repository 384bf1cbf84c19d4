"""So3krates checkpoints of mlff (flax MessagePack) as potentials of MolPool.

A checkpoint has tensors only; what network they belong to stands in
``hyperparameters.json`` beside it, and the energies of the atoms in ``scales.json``.
``mlff_model`` reads both; the tensors of the layers are stacked here.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from molpool_calc.elements import MAX_ATOMIC_NUMBER, number, symbol
from molpool_calc.importers.file_bytes import read_bounded
from molpool_calc.importers.mlff_model import MlffModel, read_mlff_model
from molpool_calc.importers.msgpack import read_msgpack
from molpool_calc.potential import NeuralPotential, PotentialSpec
from molpool_calc.units import ENERGY_UNITS

MAX_FILE_BYTES = 2**30
WEIGHTS = "valid_params"
"""The part of a checkpoint that mlff itself evaluates: the best on validation data."""

UNKNOWN_ELEMENTS = (
    "The imported file does not say what elements it was trained on, so all that its "
    "embedding has a row for are listed; trust it only for those it was trained on."
)


def import_mlff(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    unit: str | None,
    elements: Sequence[str] | None = None,
) -> NeuralPotential:
    """Return the So3krates potential in a checkpoint of mlff.

    Nothing in the files is executed. The weights are the file's, bit for bit. Lengths
    are Å. What mlff calls its dense So3krates with an energy is read; repulsion,
    normalizations of layers and other options of it are refused.

    Args:
        path: the checkpoint, such as ``checkpoint_E_34440``, or its folder with one;
            ``hyperparameters.json`` and ``scales.json`` lie beside it.
        name: what to call the potential; by default the name of the folder.
        unit: unit of its energies, which no file states: ``eV``, ``kcal/mol``,
            ``kJ/mol`` or ``Hartree``.
        elements: chemical symbols of what it was trained on, which no file states. By
            default every element that its embedding has a row for.

    Raises:
        ValueError: a file that is missing, damaged or of another kind, a model that
            MolPool has no equal of, a unit that is missing or unknown, a missing,
            misshapen or left-over tensor; the message names it.
    """
    file = _checkpoint(Path(path))
    if unit not in ENERGY_UNITS:
        said = "none was given" if unit is None else f"{unit!r} is not known"
        raise ValueError(
            f"the file does not say the unit of its energy, and {said}; give one of "
            f"{', '.join(ENERGY_UNITS)}"
        )
    content = read_bounded(file, MAX_FILE_BYTES)
    try:
        model = read_mlff_model(file.parent)
        tensors = dict(_flat(_weights(read_msgpack(content)), ()))
        state = _state(tensors, model)
        numbers = _chosen(elements, model)
        spec = PotentialSpec(
            name=file.resolve().parent.name if name is None else name,
            elements=numbers,
            network={"kind": "so3krates", **model.network},
            heads={"energy": _head(model, ENERGY_UNITS[unit], numbers)},
            source=f"mlff, {file.name}, SHA-256 {hashlib.sha256(content).hexdigest()}",
            description=UNKNOWN_ELEMENTS if elements is None else "",
        )
        potential = NeuralPotential(spec)
        potential.to(torch.float32).load_state_dict(state)
    except ValueError as error:
        raise ValueError(f"{file} cannot be imported: {error}") from error
    return potential


def _checkpoint(path: Path) -> Path:
    found = sorted(path.glob("checkpoint_*")) if path.is_dir() else [path]
    if len(found) != 1 or not found[0].is_file():
        raise ValueError(
            f"{path} has {len(found)} checkpoints; give the file of the one to import"
            if path.is_dir()
            else f"there is no file {path}; give the checkpoint of mlff"
        )
    return found[0]


def _weights(root: object) -> Mapping[str, object]:
    match root:
        case {"valid_params": {"params": dict(weights)}}:
            return weights
        case _:
            raise ValueError(f"it has no {WEIGHTS}, so it is no checkpoint of mlff")


def _flat(
    tree: Mapping[str, object], path: tuple[str, ...]
) -> Iterator[tuple[str, Tensor]]:
    for key, value in tree.items():
        name = ".".join((*path, key))
        if isinstance(value, Mapping):
            yield from _flat(value, (*path, key))
        elif isinstance(value, Tensor):
            yield name, value
        else:
            raise ValueError(f"its weight {name} is {type(value).__name__}, no array")


def _state(tensors: dict[str, Tensor], model: MlffModel) -> dict[str, Tensor]:
    """Return MolPool's state dict; every tensor must be used up."""
    f, layers = model.n_features, range(model.n_layers)
    state = {
        "network.embedding.weight": _take(
            tensors, "feature_embeddings_0.Embed_0.embedding", model.n_rows, f
        ),
        **_filters(tensors, model),
        **_attention(tensors, model),
    }
    width = f + model.n_degrees
    for layer in layers:
        mix = _dense(
            tensors, f"layers_{layer}.InteractionBlock_0.MLP_0.layers_0", width
        )
        state |= {f"network.interactions.{layer}.mix.{k}": v for k, v in mix.items()}
    for target, source, n_out in (("first", 0, f), ("second", 1, 1)):
        found = _dense(tensors, f"observables_0.MLP_0.layers_{source}", f, n_out)
        state |= {f"heads.energy.before.{target}.{k}": v for k, v in found.items()}
    for name in sorted(tensors):
        raise ValueError(
            f"the tensor {name} is left over: MolPool's so3krates and its energy have "
            "no part for it"
        )
    return state


def _filters(tensors: dict[str, Tensor], model: MlffModel) -> dict[str, Tensor]:
    """Return the stacked filters: of features and of coordinates, layer after layer."""
    f, quarter, stacks = model.n_features, model.n_features // 4, dict[str, Tensor]()
    shapes = {
        ("radial_first", "VmapMLP_0.layers_0"): (model.n_rbf, f),
        ("radial_second", "VmapMLP_0.layers_1"): (f, f),
        ("degree_first", "VmapMLP_1.layers_0"): (model.n_degrees, quarter),
        ("degree_second", "VmapMLP_1.layers_1"): (quarter, f),
    }
    blocks = [
        f"layers_{layer}.{block}.filter_fn"
        for layer in range(model.n_layers)
        for block in ("FeatureBlock_0", "GeometricBlock_0")
    ]
    for (target, source), (n_in, n_out) in shapes.items():
        kernels = [
            _take(tensors, f"{b}.{source}.kernel", 1, n_in, n_out)[0] for b in blocks
        ]
        biases = [_take(tensors, f"{b}.{source}.bias", 1, n_out) for b in blocks]
        for key, values in ((target, kernels), (f"{target}_bias", biases)):
            stacks[f"network.filters.{key}"] = torch.stack(values)
    for key in ("degree_first", "degree_first_bias", "degree_second"):
        name = f"network.filters.{key}"  # layer and filter are two axes there
        stacks[name] = stacks[name].unflatten(0, (model.n_layers, 2))  # type: ignore[no-untyped-call]
    return stacks


def _attention(tensors: dict[str, Tensor], model: MlffModel) -> dict[str, Tensor]:
    """Return the matrices of queries, keys and values of all layers."""
    pair = [f"VmapConvAttentionCoefficients_0.Dense_{i}" for i in (0, 1)]
    kinds = {
        ("features", "FeatureBlock_0", model.n_heads): [
            *pair,
            "VmapAttentionAggregation_0.Dense_0",
        ],
        ("coordinates", "GeometricBlock_0", model.n_degrees): pair,
    }
    state = {}
    for (target, block, n_heads), names in kinds.items():
        width = model.n_features // n_heads
        layers = [
            torch.stack(
                [
                    _take(
                        tensors,
                        f"layers_{layer}.{block}.attention_fn.{name}.kernel",
                        n_heads,
                        width,
                        width,
                    )
                    for name in names
                ]
            )
            for layer in range(model.n_layers)
        ]
        state[f"network.attention.{target}"] = torch.stack(layers)
    return state


def _dense(
    tensors: dict[str, Tensor], name: str, n_in: int, n_out: int | None = None
) -> dict[str, Tensor]:
    """Return weight and bias; flax's kernels have the inputs first."""
    n_out = n_in if n_out is None else n_out
    kernel = _take(tensors, f"{name}.kernel", n_in, n_out)
    bias = _take(tensors, f"{name}.bias", n_out)
    return {"weight": kernel.T.contiguous(), "bias": bias}


def _take(tensors: dict[str, Tensor], name: str, *shape: int) -> Tensor:
    if name not in tensors:
        raise ValueError(f"the tensor {name} is missing")
    value = tensors.pop(name)
    if tuple(value.shape) != shape:
        raise ValueError(
            f"the tensor {name} has shape {list(value.shape)}, but the model asks for "
            f"{list(shape)}"
        )
    if value.dtype != torch.float32 or not bool(torch.isfinite(value).all()):
        raise ValueError(f"the tensor {name} does not hold finite float32 numbers")
    return value


def _chosen(elements: Sequence[str] | None, model: MlffModel) -> tuple[int, ...]:
    known = range(1, min(model.n_rows, len(model.shifts), MAX_ATOMIC_NUMBER + 1))
    chosen = list(known) if elements is None else sorted({number(e) for e in elements})
    unknown = [symbol(z) for z in chosen if z not in known]
    if unknown or not chosen:
        raise ValueError(
            f"the elements {', '.join(unknown) or '(none)'} were asked for, but the "
            f"model has numbers for those up to {symbol(known[-1])} only"
        )
    return tuple(chosen)


def _head(model: MlffModel, factor: float, numbers: Sequence[int]) -> dict[str, object]:
    return {
        "n_hidden": model.n_features,
        "pooling": "sum",
        "activation": "silu",
        "scale": factor,
        "reference_energies": {z: factor * model.shifts[z] for z in numbers},
    }
