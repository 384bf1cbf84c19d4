"""Tensors of a SchNetPack 2 model → network and heads of MolPool.

The names of SchNetPack's state dict stand in ``_RULES``; PaiNN's one filter matrix for
all rounds is cut into one for each round. Weights and the numbers of the radial basis
are taken over bit for bit: a grid computed anew in float64 would differ from the
published float32 one. Units of energy go into the scale and the element energies of
the energy head, which are float64.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.elements import MAX_ATOMIC_NUMBER, number, symbol
from molpool_calc.networks.layers import Activation, CutoffFunction, RadialBasis
from molpool_calc.potential import NeuralPotential, PotentialSpec
from molpool_calc.units import BOHR, COULOMB, DEBYE, HARTREE, KCAL_PER_MOL, KJ_PER_MOL

ENERGY_UNITS = {
    "eV": 1.0,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
    "Hartree": HARTREE,
}
DIPOLE_UNITS = {"e*Angstrom": 1.0, "Debye": DEBYE, "a.u.": BOHR}
POLARIZABILITY_UNITS = {
    "e^2*Angstrom^2/eV": 1.0,
    "Angstrom^3": 1.0 / COULOMB,
    "a.u.": BOHR**2 / HARTREE,
}

READOUT_EPSILON = 1e-16
"""SchNetPack takes |V| without epsilon, whose gradient is not a number at V = 0. This
one changes |V| by at most 1e-8 and keeps the gradient finite."""

UNKNOWN_ELEMENTS = (
    "The imported file does not say what elements it was trained on, so all that its "
    "embedding has a row for are listed; trust it only for those it was trained on."
)

EMBEDDING = "representation.embedding.weight"
CUTOFF = "representation.cutoff_fn.cutoff"
FILTERS = "representation.filter_net."
_RULES = (
    (r"\.first\b", ".0"),
    (r"\.second\b", ".1"),
    (r"^network\.embedding", "representation.embedding"),
    (r"^network\.radial\.basis\.centers", "representation.radial_basis.offsets"),
    (r"^network\.radial\.basis\.widths", "representation.radial_basis.widths"),
    (r"^network\.radial\.basis\.frequencies", "representation.radial_basis.freqs"),
    (r"^network\.filters\.\d+\.", FILTERS),
    (
        r"^network\.messages\.(\d+)\.context",
        r"representation.interactions.\1.interatomic_context_net",
    ),
    (
        r"^network\.updates\.(\d+)\.context",
        r"representation.mixing.\1.intraatomic_context_net",
    ),
    (r"^network\.updates\.(\d+)\.mix", r"representation.mixing.\1.mu_channel_mix"),
    (
        r"^network\.interactions\.(\d+)\.filter",
        r"representation.interactions.\1.filter_network",
    ),
    (r"^network\.interactions\.(\d+)\.project", r"representation.interactions.\1.in2f"),
    (r"^network\.interactions\.(\d+)\.output", r"representation.interactions.\1.f2out"),
    (r"\.mix\.", ".mix_vectors."),
    (r"\.context\.", ".scalar_net."),
)
"""Patterns and replacements, in this order: names of MolPool → names of SchNetPack."""


@dataclass(frozen=True, kw_only=True)
class SchNetPackOutput:
    """One output module.

    Attributes:
        kind: the head of MolPool that it becomes.
        prefix: of its tensors, e.g. ``output_modules.0``.
        key: SchNetPack's name of the property.
        activation: of the hidden layer of an energy or of charges.
        pooling: of an energy.
        use_vectors: whether a dipole has atomic dipoles.
    """

    kind: Literal["energy", "dipole", "polarizability"]
    prefix: str
    key: str = ""
    activation: Activation = "silu"
    pooling: Literal["sum", "mean"] = "sum"
    use_vectors: bool = True


@dataclass(frozen=True, kw_only=True)
class SchNetPackOffsets:
    """Energies added for each atom: of all elements the same, and of each element."""

    prefix: str
    add_mean: bool
    add_atomrefs: bool


@dataclass(frozen=True, kw_only=True)
class SchNetPackModel:
    """What a SchNetPack model is, its tensors aside; names as in SchNetPack.

    Attributes:
        representation: which network.
        n_atom_basis: width of the features.
        n_interactions: number of interaction blocks.
        n_rbf: number of radial basis functions.
        radial_basis: their kind.
        cutoff_function: its kind; the cutoff itself is a tensor.
        n_filters: width of SchNet's filters.
        shared_filters: whether all rounds of PaiNN have the same filter.
        epsilon: of PaiNN's mixing.
        outputs: output modules that become heads.
        offsets: what is added to the energy.
    """

    representation: Literal["PaiNN", "SchNet"]
    n_atom_basis: int
    n_interactions: int
    n_rbf: int
    radial_basis: RadialBasis = "gaussian"
    cutoff_function: CutoffFunction = "cosine"
    n_filters: int | None = None
    shared_filters: bool = False
    epsilon: float | None = 1e-8
    outputs: tuple[SchNetPackOutput, ...]
    offsets: tuple[SchNetPackOffsets, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SchNetPackUnits:
    """Units of the outputs; no SchNetPack file states them."""

    energy: str | None = None
    dipole: str | None = None
    polarizability: str | None = None

    def factor(self, output: str) -> float:
        """Return MolPool's units per unit of an output.

        Raises:
            ValueError: the unit is missing or unknown.
        """
        table = {
            "energy": ENERGY_UNITS,
            "dipole": DIPOLE_UNITS,
            "polarizability": POLARIZABILITY_UNITS,
        }[output]
        given = getattr(self, output)
        if given not in table:
            said = "none was given" if given is None else f"{given!r} is not known"
            raise ValueError(
                f"the file does not say the unit of its {output}, and {said}; give one "
                f"of {', '.join(table)}"
            )
        return table[given]


def potential_from_tensors(
    model: SchNetPackModel,
    tensors: Mapping[str, Tensor],
    *,
    units: SchNetPackUnits,
    name: str,
    elements: Sequence[str] | None = None,
    source: str = "SchNetPack",
) -> NeuralPotential:
    """Return the potential with the tensors of a SchNetPack state dict.

    Args:
        model: what the model is.
        tensors: by their names in SchNetPack.
        units: of the outputs.
        name: what to call the potential.
        elements: chemical symbols; see ``import_schnetpack``.
        source: where the model is from.

    Raises:
        ValueError: a unit that is missing or unknown, elements that the model cannot
            know, a missing, misshapen or left-over tensor; the message names it.
    """
    present = _in_internal_units(model, dict(tensors), units)
    n_rows = _get(present, EMBEDDING).shape[0]
    offsets = _offsets(model, present, n_rows)
    known = _known_elements(model, present, n_rows)
    numbers = _chosen_elements(elements, known)
    guessed = elements is None and not any(o.add_atomrefs for o in model.offsets)
    spec = PotentialSpec(
        name=name,
        elements=numbers,
        network=_network(model, present),
        heads=_heads(model, present, units, {z: float(offsets[z]) for z in numbers}),
        source=source,
        description=UNKNOWN_ELEMENTS if guessed else "",
    )
    return _filled(spec, model, present)


def _get(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors or tensors[name].dim() == 0 and name == EMBEDDING:
        raise ValueError(f"the tensor {name} is missing")
    return tensors[name]


def _number(tensors: Mapping[str, Tensor], name: str) -> float:
    value = _get(tensors, name)
    if value.numel() != 1 or not bool(torch.isfinite(value).all()):
        raise ValueError(f"the tensor {name} is not one finite number")
    return float(value)


def _in_internal_units(
    model: SchNetPackModel, tensors: dict[str, Tensor], units: SchNetPackUnits
) -> dict[str, Tensor]:
    """Return the tensors, the dipole's last layer multiplied by the unit of dipoles."""
    for output in model.outputs:
        factor = units.factor(output.kind)
        if output.kind != "dipole" or factor == 1.0:
            continue
        last = "outnet.1.scalar_net.1" if output.use_vectors else "outnet.1"
        for part in ("weight", "bias"):
            name = f"{output.prefix}.{last}.{part}"
            tensors[name] = _get(tensors, name) * factor
    return tensors


def _offsets(
    model: SchNetPackModel, tensors: Mapping[str, Tensor], n_rows: int
) -> Float[Tensor, " elements"]:
    """Return what is added to the energy for an atom of each element."""
    table = torch.zeros(n_rows, dtype=torch.float64)
    for offset in model.offsets:
        if offset.add_mean:
            table += _number(tensors, f"{offset.prefix}.mean")
        if offset.add_atomrefs:
            values = _get(tensors, f"{offset.prefix}.atomref").reshape(-1)[:n_rows]
            table[: len(values)] += values
    if not bool(torch.isfinite(table).all()):
        raise ValueError("the energies of single atoms (atomref) are not all finite")
    return table


def _known_elements(
    model: SchNetPackModel, tensors: Mapping[str, Tensor], n_rows: int
) -> list[int]:
    """Return the atomic numbers that the model has numbers for."""
    known = set(range(1, min(n_rows, MAX_ATOMIC_NUMBER + 1)))
    for offset in model.offsets:
        if offset.add_atomrefs:
            values = tensors[f"{offset.prefix}.atomref"].reshape(-1)
            known &= set(values.nonzero()[:, 0].tolist())
    return sorted(known)


def _chosen_elements(
    elements: Sequence[str] | None, known: list[int]
) -> tuple[int, ...]:
    chosen = known if elements is None else sorted({number(e) for e in elements})
    unknown = [symbol(z) for z in chosen if z not in known]
    if unknown or not chosen:
        raise ValueError(
            f"the elements {', '.join(unknown) or '(none)'} were asked for, but the "
            f"model has numbers for {', '.join(map(symbol, known)) or 'none'} only"
        )
    return tuple(chosen)


def _network(model: SchNetPackModel, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    cutoff = _number(tensors, CUTOFF)
    if not cutoff > 0.0:
        raise ValueError(f"its cutoff is {cutoff} Å, but must be above zero")
    common = {
        "n_features": model.n_atom_basis,
        "n_interactions": model.n_interactions,
        "cutoff": cutoff,
        "n_rbf": model.n_rbf,
        "radial_basis": model.radial_basis,
        "cutoff_function": model.cutoff_function,
        "max_atomic_number": _get(tensors, EMBEDDING).shape[0] - 1,
    }
    if model.representation == "SchNet":
        return {"kind": "schnet", **common, "n_filters": model.n_filters}
    special = {"shared_filters": model.shared_filters, "epsilon": model.epsilon}
    return {"kind": "painn", **common, **special}


def _heads(
    model: SchNetPackModel,
    tensors: Mapping[str, Tensor],
    units: SchNetPackUnits,
    offsets: Mapping[int, float],
) -> dict[str, dict[str, Any]]:
    heads: dict[str, dict[str, Any]] = {}
    for output in model.outputs:
        if output.kind in heads:
            raise ValueError(f"it has two outputs of the kind {output.kind}")
        factor = units.factor(output.kind)
        if output.kind == "energy":
            references = {z: factor * offset for z, offset in offsets.items()}
            heads["energy"] = {
                "n_hidden": _get(tensors, f"{output.prefix}.outnet.0.bias").numel(),
                "pooling": output.pooling,
                "activation": output.activation,
                "scale": factor,
                "reference_energies": references if any(references.values()) else {},
            }
        elif output.kind == "dipole":
            heads["dipole"] = {
                "use_vectors": output.use_vectors,
                "activation": output.activation,
                "epsilon": READOUT_EPSILON,
            }
        else:
            heads["polarizability"] = {"scale": factor, "epsilon": READOUT_EPSILON}
    if not heads:
        raise ValueError("it has neither energy nor dipole nor polarizability")
    return heads


def _filled(
    spec: PotentialSpec, model: SchNetPackModel, tensors: Mapping[str, Tensor]
) -> NeuralPotential:
    # shapes first, without memory: a file may claim any width
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in NeuralPotential(spec).state_dict().items()}
    state, used = {}, {CUTOFF, "representation.cutoff_fn.eps"}
    used |= {
        f"{o.prefix}.{name}" for o in model.offsets for name in ("mean", "atomref")
    }
    for target, shape in shapes.items():
        name = _published_name(target, model)
        value = _get(tensors, name)
        if name.startswith(FILTERS) and not model.shared_filters:
            value = _one_filter(value, int(target.split(".")[2]), model, name)
        if value.shape != shape:
            raise ValueError(
                f"the tensor {name} has shape {list(value.shape)}, but the model asks "
                f"for {list(shape)}"
            )
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise ValueError(f"the tensor {name} does not hold finite real numbers")
        state[target] = value
        used.add(name)
    for name in sorted(tensors.keys() - used):
        raise ValueError(
            f"the tensor {name} is left over: MolPool's {spec.network['kind']} and its "
            "heads have no part for it"
        )
    potential = NeuralPotential(spec)
    dtypes = {value.dtype for value in state.values()}
    potential.to(torch.float64 if torch.float64 in dtypes else torch.float32)
    potential.load_state_dict(state)
    return potential


def _published_name(target: str, model: SchNetPackModel) -> str:
    """Return SchNetPack's name of a tensor of MolPool."""
    for output in model.outputs:
        inner = "before" if output.kind == "energy" else "readout"
        target = target.replace(
            f"heads.{output.kind}.{inner}.", f"{output.prefix}.outnet."
        )
    for pattern, replacement in _RULES:
        target = re.sub(pattern, replacement, target)
    return target


def _one_filter(value: Tensor, layer: int, model: SchNetPackModel, name: str) -> Tensor:
    """Return the rows of PaiNN's filter matrix that belong to one round."""
    width = 3 * model.n_atom_basis
    if value.dim() == 0 or value.shape[0] != width * model.n_interactions:
        raise ValueError(
            f"the tensor {name} has shape {list(value.shape)}, but the model asks for "
            f"{width * model.n_interactions} rows"
        )
    return value[layer * width : (layer + 1) * width]
