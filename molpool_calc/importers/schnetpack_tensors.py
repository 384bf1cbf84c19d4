"""Tensors of a SchNetPack 2 model → network and heads of MolPool.

PaiNN's one filter matrix for all rounds is cut into one for each round. Weights and
the numbers of the radial basis are taken over bit for bit: a grid computed anew in
float64 would differ from the published float32 one. Units of energy go into the scale
and the element energies of the energy head, which are float64.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.elements import MAX_ATOMIC_NUMBER, number, symbol
from molpool_calc.importers.schnetpack_model import (
    SchNetPackModel,
    SchNetPackOutput,
    SchNetPackUnits,
)
from molpool_calc.importers.schnetpack_names import (
    CUTOFF,
    EMBEDDING,
    FILTERS,
    names_beside_weights,
    published_name,
)
from molpool_calc.potential import NeuralPotential, PotentialSpec

READOUT_EPSILON = 1e-16
"""SchNetPack takes |V| without epsilon, whose gradient is not a number at V = 0. This
one changes |V| by at most 1e-8 and keeps the gradient finite."""

MIN_RBF = 2

UNKNOWN_ELEMENTS = (
    "The imported file does not say what elements it was trained on, so all that its "
    "embedding has a row for are listed; trust it only for those it was trained on."
)


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
    n_rows = _n_rows(model, present)
    offsets = _offsets(model, present, n_rows)
    known = _known_elements(model, present, n_rows)
    numbers = _chosen_elements(elements, known)
    guessed = elements is None and not any(o.add_atomrefs for o in model.offsets)
    spec = PotentialSpec(
        name=name,
        elements=numbers,
        network=_network(model, _number(present, CUTOFF), n_rows),
        heads=_heads(model, present, units, {z: float(offsets[z]) for z in numbers}),
        source=source,
        description=UNKNOWN_ELEMENTS if guessed else "",
    )
    return _filled(spec, model, present)


def _get(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"the tensor {name} is missing")
    return tensors[name]


def _n_rows(model: SchNetPackModel, tensors: Mapping[str, Tensor]) -> int:
    """Return the number of rows of the embedding, of which row 0 is no element."""
    match list(_get(tensors, EMBEDDING).shape):
        case [int(n_rows), model.n_atom_basis] if n_rows > 1:
            return n_rows
        case shape:
            raise ValueError(
                f"the tensor {EMBEDDING} has shape {shape}, but the model asks for at "
                f"least 2 rows of {model.n_atom_basis}"
            )


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
            values = _get(tensors, f"{offset.prefix}.atomref").reshape(-1)
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


def _network(model: SchNetPackModel, cutoff: float, n_rows: int) -> dict[str, Any]:
    if not cutoff > 0.0 or model.n_rbf < MIN_RBF:
        raise ValueError(
            f"its cutoff is {cutoff} Å with {model.n_rbf} radial functions, but must "
            f"be above zero with at least {MIN_RBF}"
        )
    common = {
        "n_features": model.n_atom_basis,
        "n_interactions": model.n_interactions,
        "cutoff": cutoff,
        "n_rbf": model.n_rbf,
        "radial_basis": model.radial_basis,
        "cutoff_function": model.cutoff_function,
        "max_atomic_number": n_rows - 1,
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
                "n_hidden": _n_hidden(output, tensors),
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
    _check_widths(model, tensors)
    potential = NeuralPotential(spec)
    state, used = {}, names_beside_weights(model)
    for target, empty in potential.state_dict().items():
        name = published_name(target, model)
        value = _get(tensors, name)
        is_cut = name.startswith(FILTERS) and not model.shared_filters
        n_parts = model.n_interactions if is_cut else 1
        _check(name, value, [n_parts * empty.shape[0], *empty.shape[1:]])
        state[target] = value
        if is_cut:
            state[target] = value.chunk(n_parts)[int(target.split(".")[2])]
        used.add(name)
    for name in sorted(tensors.keys() - used):
        raise ValueError(
            f"the tensor {name} is left over: MolPool's {spec.network['kind']} and its "
            "heads have no part for it"
        )
    dtypes = {value.dtype for value in state.values()}
    potential.to(torch.float64 if torch.float64 in dtypes else torch.float32)
    potential.load_state_dict(state)
    return potential


def _check(name: str, value: Tensor, shape: list[int]) -> None:
    if list(value.shape) != shape:
        raise ValueError(
            f"the tensor {name} has shape {list(value.shape)}, but the model asks for "
            f"{shape}"
        )
    if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
        raise ValueError(f"the tensor {name} does not hold finite real numbers")


def _check_widths(model: SchNetPackModel, tensors: Mapping[str, Tensor]) -> None:
    """Check that the file is large enough for the network that it describes."""
    n_numbers = sum(value.numel() for value in tensors.values())
    f, n_filters = model.n_atom_basis, model.n_filters or model.n_atom_basis
    matrices = [
        model.n_interactions * max(f * f, f * n_filters, n_filters * n_filters),
        model.n_rbf * n_filters,
        *(_n_hidden(o, tensors) * f for o in model.outputs if o.kind == "energy"),
    ]
    if max(matrices) > n_numbers:
        raise ValueError(
            f"its tensors hold {n_numbers} numbers, but the network that it describes "
            f"has a matrix of {max(matrices)}"
        )


def _n_hidden(output: SchNetPackOutput, tensors: Mapping[str, Tensor]) -> int:
    return _get(tensors, f"{output.prefix}.outnet.0.bias").numel()
