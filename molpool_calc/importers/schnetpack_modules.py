"""What kind of model a SchNetPack 2 file holds, read off its module tree.

A part that MolPool has no equal of is refused by name: a potential that is nearly the
published one would be worse than none.
"""

from collections.abc import Collection

from molpool_calc.importers.module_tree import (
    attribute,
    attributes,
    child,
    children,
    flag,
    integer,
    kind_of,
    text,
)
from molpool_calc.importers.restricted_pickle import Record
from molpool_calc.importers.schnetpack_model import (
    SchNetPackModel,
    SchNetPackOffsets,
    SchNetPackOutput,
)
from molpool_calc.networks.layers import Activation, CutoffFunction, RadialBasis

MODEL = "schnetpack.model.base.NeuralNetworkPotential"
PAINN = "schnetpack.representation.painn.PaiNN"
SCHNET = "schnetpack.representation.schnet.SchNet"
INPUTS = frozenset(
    {
        "schnetpack.atomistic.distances.PairwiseDistances",
        "schnetpack.atomistic.response.Strain",
    }
)
RESPONSES = frozenset({"schnetpack.atomistic.response.Forces"})
CASTS = frozenset(
    {
        "schnetpack.transform.casting.CastTo64",
        "schnetpack.transform.casting.CastTo32",
    }
)
ADD_OFFSETS = "schnetpack.transform.atomistic.AddOffsets"
RADIAL_BASES: dict[str, RadialBasis] = {
    "schnetpack.nn.radial.GaussianRBF": "gaussian",
    "schnetpack.nn.radial.GaussianRBFCentered": "gaussian",
    "schnetpack.nn.radial.BesselRBF": "bessel",
}
CUTOFF_FUNCTIONS: dict[str, CutoffFunction] = {
    "schnetpack.nn.cutoff.CosineCutoff": "cosine",
    "schnetpack.nn.cutoff.MollifierCutoff": "mollifier",
}
IDENTITY = "torch.nn.modules.linear.Identity"
ACTIVATIONS: dict[str, Activation] = {
    "torch.nn.functional.silu": "silu",
    "torch.nn.modules.activation.SiLU": "silu",
    "schnetpack.nn.activations.shifted_softplus": "shifted-softplus",
}
LAYERS_OF_PAINN: dict[str, tuple[str, ...]] = {
    "interactions": ("interatomic_context_net",),
    "mixing": ("intraatomic_context_net",),
}
LAYERS_OF_SCHNET: dict[str, tuple[str, ...]] = {
    "interactions": ("f2out", "filter_network")
}


def read_model(root: object) -> SchNetPackModel:
    """Return what a SchNetPack model is, its tensors aside.

    Args:
        root: the record of the whole model.

    Raises:
        ValueError: a part that MolPool has no equal of; the message names it.
    """
    if kind_of(root) != MODEL:
        raise ValueError(
            f"it holds a {kind_of(root)}, but only {MODEL} is imported; give the "
            "best_model of a SchNetPack 2 training"
        )
    for key, part in children(child(root, "input_modules", "model"), "input").items():
        _require(part, INPUTS, f"input module {key}")
    network = child(root, "representation", "the model")
    _require(network, {PAINN, SCHNET}, "its representation")
    where = "the representation"
    basis = child(network, "radial_basis", where)
    cutoff = child(network, "cutoff_fn", where)
    _require(basis, RADIAL_BASES, "its radial basis")
    _require(cutoff, CUTOFF_FUNCTIONS, "its cutoff function")
    _check_embeddings(network)
    is_painn = network.kind == PAINN
    layers = LAYERS_OF_PAINN if is_painn else LAYERS_OF_SCHNET
    activation: Activation = "silu" if is_painn else "shifted-softplus"
    n_layers = _check_layers(network, layers, activation)
    outputs = _outputs(root)
    return SchNetPackModel(
        representation="PaiNN" if is_painn else "SchNet",
        n_atom_basis=integer(network, "n_atom_basis", where),
        n_interactions=n_layers,
        n_rbf=integer(basis, "n_rbf", "the radial basis"),
        radial_basis=RADIAL_BASES[basis.kind],
        cutoff_function=CUTOFF_FUNCTIONS[cutoff.kind],
        n_filters=None if is_painn else integer(network, "n_filters", where),
        shared_filters=is_painn and flag(network, "share_filters", where),
        epsilon=_epsilon(network) if is_painn else None,
        outputs=outputs,
        offsets=_offsets(root, outputs),
    )


def _require(part: object, known: Collection[str], what: str) -> None:
    if kind_of(part) not in known:
        raise ValueError(
            f"{what} is {kind_of(part)}, but only {', '.join(sorted(known))} can be "
            "imported"
        )


def _check_embeddings(network: Record) -> None:
    where = "the representation"
    embedding = child(network, "embedding", where)
    _require(embedding, {"torch.nn.modules.sparse.Embedding"}, "its embedding")
    if attribute(embedding, "max_norm", "the embedding") is not None:
        raise ValueError("its embedding renormalizes its rows, which MolPool does not")
    # files of versions before 2.1 do not have this entry
    electronic = children(network, where).get("electronic_embeddings")
    if electronic is not None and children(electronic, "electronic_embeddings"):
        raise ValueError(
            "it embeds charge or spin (electronic_embeddings), which no network of "
            "MolPool does"
        )


def _check_layers(
    network: Record, layers: dict[str, tuple[str, ...]], activation: Activation
) -> int:
    """Return the number of interactions, after a look at each activation function."""
    counts = []
    for group, names in layers.items():
        blocks = children(child(network, group, "the representation"), group)
        counts.append(len(blocks))
        for key, block in blocks.items():
            for name in names:
                where = f"{group}.{key}.{name}"
                found = _two_layer(child(block, name, f"{group}.{key}"), where)
                if found != activation:
                    raise ValueError(
                        f"the activation function of {where} is {found}, but that of "
                        f"MolPool's network is {activation}"
                    )
    if len(set(counts)) != 1 or counts[0] == 0:
        raise ValueError(f"its numbers of interaction blocks are {counts}")
    return counts[0]


def _two_layer(sequence: Record, where: str) -> Activation:
    """Return the activation function of Lin₂(act(Lin₁ x))."""
    layers = children(sequence, where)
    if list(layers) != ["0", "1"]:
        raise ValueError(f"{where} has the layers {list(layers)}, but must have two")
    first, second = (_activation(layers[key], f"{where}.{key}") for key in "01")
    if second != IDENTITY or first not in ACTIVATIONS:
        raise ValueError(
            f"the activation functions of {where} are {first} and {second}, but the "
            f"first must be one of {', '.join(ACTIVATIONS)}, and the second none"
        )
    return ACTIVATIONS[first]


def _activation(layer: object, where: str) -> str:
    _require(layer, {"schnetpack.nn.base.Dense"}, where)
    plain = attributes(layer, where).get("activation")
    function = children(layer, where).get("activation") if plain is None else plain
    return IDENTITY if function is None else kind_of(function)


def _epsilon(network: Record) -> float:
    mixing = children(child(network, "mixing", "the representation"), "mixing")
    found = {attribute(block, "epsilon", f"mixing.{k}") for k, block in mixing.items()}
    epsilon = found.pop()
    if found or not isinstance(epsilon, float) or not 0.0 <= epsilon < 1.0:
        raise ValueError("its mixing blocks have no common epsilon between 0 and 1")
    return epsilon


def _outputs(root: object) -> tuple[SchNetPackOutput, ...]:
    outputs = []
    modules = children(child(root, "output_modules", "the model"), "output_modules")
    for key, module in modules.items():
        where = f"output_modules.{key}"
        match kind_of(module):
            case "schnetpack.atomistic.atomwise.Atomwise":
                outputs.append(_energy(module, where))
            case "schnetpack.atomistic.atomwise.DipoleMoment":
                outputs.append(_dipole(module, where))
            case "schnetpack.atomistic.atomwise.Polarizability":
                _check_gated(module, where)
                outputs.append(SchNetPackOutput(kind="polarizability", prefix=where))
            case _:
                _require(module, RESPONSES, f"{where} (besides energy and tensors)")
    return tuple(outputs)


def _energy(module: object, where: str) -> SchNetPackOutput:
    key = text(module, "output_key", where)
    if "energy" not in key.lower() or integer(module, "n_out", where) != 1:
        raise ValueError(
            f"{where} gives {key!r}, but of the outputs of atoms only one energy is "
            "imported"
        )
    aggregation = text(module, "aggregation_mode", where)
    if aggregation not in ("sum", "avg"):
        raise ValueError(f"{where} pools by {aggregation!r}, but sum or avg is needed")
    return SchNetPackOutput(
        kind="energy",
        prefix=where,
        key=key,
        activation=_two_layer(child(module, "outnet", where), f"{where}.outnet"),
        pooling="sum" if aggregation == "sum" else "mean",
    )


def _dipole(module: object, where: str) -> SchNetPackOutput:
    if flag(module, "predict_magnitude", where):
        raise ValueError(
            f"{where} gives the length of the dipole, but spectra need the vector"
        )
    if not flag(module, "correct_charges", where):
        raise ValueError(
            f"the charges of {where} do not add up to the total charge, as those of "
            "MolPool's dipole do"
        )
    if flag(module, "use_vector_representation", where):
        _check_gated(module, where)
        return SchNetPackOutput(kind="dipole", prefix=where, use_vectors=True)
    activation = _two_layer(child(module, "outnet", where), f"{where}.outnet")
    return SchNetPackOutput(
        kind="dipole", prefix=where, use_vectors=False, activation=activation
    )


def _check_gated(module: object, where: str) -> None:
    """Check for two gated blocks with silu, the last without on its scalars."""
    blocks = children(child(module, "outnet", where), f"{where}.outnet")
    if list(blocks) != ["0", "1"]:
        raise ValueError(f"{where} has the layers {list(blocks)}, but must have two")
    for key, final in (("0", "torch.nn.functional.silu"), ("1", "NoneType")):
        place = f"{where}.outnet.{key}"
        block = blocks[key]
        _require(block, {"schnetpack.nn.equivariant.GatedEquivariantBlock"}, place)
        inner = _two_layer(child(block, "scalar_net", place), f"{place}.scalar_net")
        found = kind_of(attributes(block, place).get("sactivation"))
        if inner != "silu" or found != final:
            raise ValueError(
                f"the activation functions of {place} are {inner} and {found}, but "
                f"must be silu and {final}"
            )


def _offsets(
    root: object, outputs: tuple[SchNetPackOutput, ...]
) -> tuple[SchNetPackOffsets, ...]:
    energies = {output.key for output in outputs if output.kind == "energy"}
    modules = children(child(root, "postprocessors", "the model"), "postprocessors")
    found = []
    for key, module in modules.items():
        where = f"postprocessors.{key}"
        if kind_of(module) in CASTS:
            continue
        _require(module, {ADD_OFFSETS, *CASTS}, where)
        if text(module, "_property", where) not in energies:
            raise ValueError(
                f"{where} adds an offset to something else than the energy"
            )
        if not flag(module, "is_extensive", where):
            raise ValueError(
                f"{where} adds an offset that does not grow with the number of atoms "
                "(is_extensive is false), which MolPool's energies do not have"
            )
        add_atomrefs = flag(module, "add_atomrefs", where)
        if add_atomrefs:
            # development versions without this attribute subtracted atomref
            attribute(module, "_atomrefs_initialized", where)
        found.append(
            SchNetPackOffsets(
                prefix=where,
                add_mean=flag(module, "add_mean", where),
                add_atomrefs=add_atomrefs,
            )
        )
    return tuple(found)
