"""What a So3krates model of mlff is: its ``hyperparameters.json`` and ``scales.json``.

Every option is checked: what MolPool's network does not do is refused by name, so that
no model is taken for another one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL_FILE = "hyperparameters.json"
SCALES_FILE = "scales.json"
RADIAL_BASES = {"phys": "physnet"}
CUTOFF_FUNCTIONS = {"cosine_cutoff_fn": "cosine"}
IGNORED = frozenset({"prop_keys", "mic", "parity"})
"""Options without effect on the numbers of a molecule."""

LAYER_OPTIONS = {
    "fb_filter": "radial_spherical",
    "gb_filter": "radial_spherical",
    "fb_attention": "conv_att",
    "gb_attention": "conv_att",
    "non_local_sphc": False,
    "non_local_feature": False,
    "fast_attention_kwargs": None,
    "chi_cut": None,
    "chi_cut_dynamic": False,
    "layer_normalization": False,
    "sphc_normalization": False,
    "neighborhood_normalization": False,
    "final_layer": False,
}
GEOMETRY_OPTIONS = {
    "sphc": True,
    "solid_harmonic": False,
    "input_convention": "positions",
}
ENERGY_OPTIONS = {
    "per_atom_scale": None,
    "per_atom_shift": None,
    "output_convention": "per_structure",
}


@dataclass(frozen=True, kw_only=True)
class MlffModel:
    """Sizes of a model, its arguments in MolPool, and the energy of each element.

    Attributes:
        network: constructor arguments of ``So3krates``.
        n_rows: rows of the embedding; row 0 is no element.
        shifts: energy of each atomic number in the file's unit.
    """

    network: Mapping[str, Any]
    n_rows: int
    shifts: Sequence[float]

    @property
    def n_features(self) -> int:
        """Width of the features."""
        return int(self.network["n_features"])

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.network["n_interactions"])

    @property
    def n_rbf(self) -> int:
        """Number of radial basis functions."""
        return int(self.network["n_rbf"])

    @property
    def n_heads(self) -> int:
        """Heads of the attention on features."""
        return int(self.network["n_heads"])

    @property
    def n_degrees(self) -> int:
        """Number of degrees, which is that of the heads of the coordinates."""
        return len(self.network["degrees"])


def read_mlff_model(folder: Path) -> MlffModel:
    """Return what the files in the folder of a checkpoint say.

    Raises:
        ValueError: a file is missing or damaged, or the model is of another kind; the
            message names the option.
    """
    stack = _stack(_json(folder / MODEL_FILE))
    geometry = _only(stack, "geometry_embeddings", "geometry_embed")
    embedding = _only(stack, "feature_embeddings", "atom_type_embed")
    layer = _layer(stack)
    energy = _only(stack, "observables", "energy")
    degrees, n_features = geometry.get("degrees"), _size(embedding, "features")
    _require(
        layer,
        {
            **LAYER_OPTIONS,
            "degrees": degrees,
            **{f"{b}_rad_filter_features": [n_features] * 2 for b in ("fb", "gb")},
            **{
                f"{b}_sph_filter_features": [n_features // 4, n_features]
                for b in ("fb", "gb")
            },
        },
        free={"n_heads"},
    )
    free = {"degrees", "radial_basis_function", "n_rbf", "radial_cutoff_fn", "r_cut"}
    _require(geometry, GEOMETRY_OPTIONS, free=free | {"sphc_normalization"})
    _require(embedding, {}, free={"features", "num_embeddings"})
    _require(energy, ENERGY_OPTIONS, free={"num_embeddings"})
    return MlffModel(
        network={
            "n_features": n_features,
            "n_interactions": len(stack["layers"]),
            "degrees": _degrees(degrees),
            "n_heads": _size(layer, "n_heads"),
            "cutoff": _positive(geometry, "r_cut"),
            "n_rbf": _size(geometry, "n_rbf"),
            "radial_basis": _named(geometry, "radial_basis_function", RADIAL_BASES),
            "cutoff_function": _named(geometry, "radial_cutoff_fn", CUTOFF_FUNCTIONS),
            "sphc_normalization": (
                None
                if geometry.get("sphc_normalization") is None
                else _positive(geometry, "sphc_normalization")
            ),
            "max_atomic_number": _size(embedding, "num_embeddings") - 1,
        },
        n_rows=_size(embedding, "num_embeddings"),
        shifts=_shifts(_json(folder / SCALES_FILE)),
    )


def _json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    return content


def _stack(content: object) -> dict[str, Any]:
    match content:
        case {"stack_net": dict(stack)}:
            return stack
        case _:
            raise ValueError(
                f"{MODEL_FILE} has no table stack_net, so it is not mlff's"
            )


def _only(stack: Mapping[str, Any], part: str, kind: str) -> dict[str, Any]:
    match stack.get(part):
        case [dict(entry)] if list(entry) == [kind] and isinstance(entry[kind], dict):
            return dict(entry[kind])
        case _:
            raise ValueError(f"{part} is not one {kind}, which is all that is read")


def _layer(stack: Mapping[str, Any]) -> dict[str, Any]:
    layers = stack.get("layers")
    if not isinstance(layers, list) or not layers:
        raise ValueError(f"{MODEL_FILE} has no layers")
    if any(layer != layers[0] for layer in layers):
        raise ValueError("its layers differ, but MolPool's so3krates has equal ones")
    return _only({"layers": layers[:1]}, "layers", "so3krates_layer")


def _require(
    table: Mapping[str, Any], options: Mapping[str, Any], *, free: set[str]
) -> None:
    """Check that every option has its one value, unless it is free."""
    for key, value in options.items():
        if key in table and table[key] != value:
            raise ValueError(
                f"its option {key} is {str(table[key])[:60]}; only {value} is read"
            )
    for key in sorted(table.keys() - options.keys() - free - IGNORED):
        raise ValueError(f"its option {key[:60]} is unknown, so it cannot be imported")


def _size(table: Mapping[str, Any], key: str) -> int:
    value = table.get(key)
    if type(value) is not int or not 0 < value < 2**16:
        raise ValueError(f"its {key} is {value!r}, but must be a number of things")
    return value


def _positive(table: Mapping[str, Any], key: str) -> float:
    value = table.get(key)
    if type(value) not in {int, float} or not 0.0 < float(str(value)) < math.inf:
        raise ValueError(f"its {key} is {value!r}, but must be a positive number")
    return float(str(value))


def _degrees(value: object) -> list[int]:
    if not isinstance(value, list) or not all(type(degree) is int for degree in value):
        raise ValueError(
            f"its degrees are {str(value)[:60]}, but must be whole numbers"
        )
    return list(value)


def _named(table: Mapping[str, Any], key: str, names: Mapping[str, str]) -> str:
    value = table.get(key)
    if not isinstance(value, str) or value not in names:
        raise ValueError(
            f"its {key} is {str(value)[:60]!r}; read are {', '.join(names)}"
        )
    return names[value]


def _shifts(scales: object) -> list[float]:
    match scales:
        case {"energy": {"per_atom_shift": list(shifts), "scale": 1.0 | 1}}:
            numbers = [float(x) for x in shifts if type(x) in {int, float}]
        case _:
            raise ValueError(
                f"{SCALES_FILE} has no energy with a per_atom_shift and the scale 1, "
                "which is all that is read"
            )
    if len(numbers) != len(shifts) or not all(math.isfinite(x) for x in numbers):
        raise ValueError(f"the per_atom_shift in {SCALES_FILE} is not all numbers")
    return numbers
