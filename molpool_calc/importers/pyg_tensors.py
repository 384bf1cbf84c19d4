"""State dicts of PyTorch Geometric → tensors of MolPool's SchNet and DimeNet++.

Sizes are read off the shapes. Every tensor must be used, and have the shape that the
network asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor

from molpool_calc.networks.dimenet import Variant

PyGKind = Literal["schnet", "dimenet++"]
MIN_RBF = 2

DIMENET_MATRICES = {
    "radial_first": "lin_rbf1",
    "radial_second": "lin_rbf2",
    "angular_first": "lin_sbf1",
    "angular_second": "lin_sbf2",
    "down": "lin_down",
    "up": "lin_up",
}
"""Matrices of an interaction of DimeNet++: name in MolPool → name in PyG."""

SCHNET_LAYERS = {
    "filter.first": "mlp.0",
    "filter.second": "mlp.2",
    "project": "conv.lin1",
    "output.first": "conv.lin2",
    "output.second": "lin",
}
"""Layers of an interaction of SchNet: name in MolPool → name in PyG."""


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A model in MolPool's terms.

    Attributes:
        network: ``kind`` and constructor arguments.
        n_hidden: width of the hidden layer of the energy head; 0: no head.
        state: tensors under MolPool's names.
        atom_energies: added for an atom of each element, or ``None``.
        n_rows: of the embedding, of which row 0 is no element.
    """

    network: dict[str, Any]
    n_hidden: int
    state: dict[str, Tensor]
    atom_energies: Tensor | None
    n_rows: int


@dataclass
class Tensors:
    """The tensors of a file, and which of them were used."""

    published: Mapping[str, Tensor]
    used: set[str] = field(default_factory=set)

    def take(self, name: str, *, n_axes: int) -> Tensor:
        """Return a tensor of finite numbers with that many axes.

        Raises:
            ValueError: it is missing or something else.
        """
        if name not in self.published:
            raise ValueError(f"the tensor {name} is missing")
        self.used.add(name)
        value = self.published[name]
        if value.dim() != n_axes or value.numel() == 0:
            raise ValueError(
                f"the tensor {name} has shape {list(value.shape)}, but must have "
                f"{n_axes} axes"
            )
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise ValueError(f"the tensor {name} does not hold finite real numbers")
        return value

    def layer(self, name: str, *, bias: bool = True) -> dict[str, Tensor]:
        """Return the parts of a linear layer."""
        parts = {"weight": self.take(f"{name}.weight", n_axes=2)}
        if bias:
            parts["bias"] = self.take(f"{name}.bias", n_axes=1)
        return parts

    def numbered(self, pattern: str) -> int:
        """Return how many tensors there are with 0, 1, … in place of ``{}``."""
        return next(n for n in count() if pattern.format(n) not in self.published)

    def forget(self, *names: str) -> None:
        """Count these as used: they say nothing that is not said elsewhere."""
        self.used.update(names)

    def check_nothing_left(self, kind: str) -> None:
        """Check that every tensor was used.

        Raises:
            ValueError: one was not.
        """
        for name in sorted(self.published.keys() - self.used):
            raise ValueError(
                f"the tensor {name} is left over: MolPool's {kind} has no part for it"
            )


def kind_of_tensors(published: Mapping[str, Tensor]) -> PyGKind:
    """Return which of the models the tensors are of.

    Raises:
        ValueError: of none.
    """
    if "interactions.0.mlp.0.weight" in published:
        return "schnet"
    if "interaction_blocks.0.lin_sbf1.weight" in published:
        return "dimenet++"
    if any(name.startswith("interaction_blocks.0.") for name in published):
        raise ValueError(
            "it is a DimeNet, but only DimeNet++ and SchNet are imported; train the "
            "newer DimeNet++, which is better and faster"
        )
    raise ValueError(
        "its tensors are neither those of SchNet nor those of DimeNet++ of PyTorch "
        "Geometric; save the model alone with torch.save(model.state_dict(), file)"
    )


def translate_schnet(tensors: Tensors, cutoff: float | None) -> Translation:
    """Return a SchNet; its cutoff is that of its last Gaussian unless given.

    Raises:
        ValueError: a tensor is missing or misshapen, or the model is one of dipoles.
    """
    if "atomic_mass" in tensors.published:
        raise ValueError("it is a SchNet of dipoles, but only energies are imported")
    centers = tensors.take("distance_expansion.offset", n_axes=1)
    if len(centers) < MIN_RBF:
        raise ValueError(f"it has {len(centers)} Gaussians, but must have {MIN_RBF}")
    embedding = tensors.take("embedding.weight", n_axes=2)
    state = {
        "network.embedding.weight": embedding,
        "network.radial.basis.centers": centers,
        # the published code has one width, the first spacing
        "network.radial.basis.widths": (centers[1] - centers[0]).expand(len(centers)),
        **_named("heads.energy.before.first", tensors.layer("lin1")),
        **_named("heads.energy.before.second", tensors.layer("lin2")),
    }
    n_interactions = tensors.numbered("interactions.{}.mlp.0.weight")
    for block in range(n_interactions):
        theirs, ours = f"interactions.{block}", f"network.interactions.{block}"
        for our, their in SCHNET_LAYERS.items():
            parts = tensors.layer(f"{theirs}.{their}", bias=our != "project")
            state |= _named(f"{ours}.{our}", parts)
        for alias in ("0.weight", "0.bias", "2.weight", "2.bias"):
            tensors.forget(f"{theirs}.conv.nn.{alias}")
    tensors.forget("initial_atomref")
    has_atoms = "atomref.weight" in tensors.published
    n_rows, n_features = embedding.shape
    return Translation(
        network={
            "kind": "schnet",
            "n_features": n_features,
            "n_filters": state["network.interactions.0.filter.second.weight"].shape[0],
            "n_interactions": n_interactions,
            "cutoff": float(centers[-1]) if cutoff is None else cutoff,
            "n_rbf": len(centers),
            "max_atomic_number": n_rows - 1,
        },
        n_hidden=state["heads.energy.before.first.weight"].shape[0],
        state=state,
        atom_energies=tensors.take("atomref.weight", n_axes=2) if has_atoms else None,
        n_rows=n_rows,
    )


def translate_dimenet(
    tensors: Tensors,
    cutoff: float | None,
    *,
    envelope_exponent: int,
    variant: Variant,
) -> Translation:
    """Return a DimeNet++.

    Raises:
        ValueError: a tensor is missing or misshapen, no cutoff was given, or the model
            gives more than one number for an atom.
    """
    if cutoff is None:
        raise ValueError(
            "the file of a DimeNet++ does not say its cutoff; give it in Å (5 is the "
            "default of PyTorch Geometric)"
        )
    frequencies = tensors.take("rbf.freq", n_axes=1)
    state = {
        "network.bases.frequencies": frequencies,
        "network.embedding.weight": tensors.take("emb.emb.weight", n_axes=2),
        **_named("network.embed_radial", tensors.layer("emb.lin_rbf")),
        **_named("network.embed_pair", tensors.layer("emb.lin")),
    }
    n_interactions = tensors.numbered("interaction_blocks.{}.lin_sbf1.weight")
    for block in range(n_interactions):
        theirs, ours = f"interaction_blocks.{block}", f"network.interactions.{block}"
        state |= _dimenet_interaction(tensors, theirs, ours)
    n_output_layers = tensors.numbered("output_blocks.0.lins.{}.weight")
    state |= _dimenet_outputs(tensors, n_interactions + 1, n_output_layers)
    first, n_radial = "network.interactions.0", len(frequencies)
    skips = "interaction_blocks.0.layers_{}_skip.{{}}.lin1.weight"
    n_features = state["network.outputs.last.weight"].shape[1]
    if n_features != 1:
        raise ValueError(
            f"it gives {n_features} numbers for an atom, but an energy is one number"
        )
    n_rows, n_hidden = state["network.embedding.weight"].shape
    return Translation(
        network={
            "kind": "dimenet++",
            "n_features": 1,
            "n_hidden": n_hidden,
            "n_int_embedding": state[f"{first}.down.weight"].shape[0],
            "n_basis_embedding": state[f"{first}.radial_first.weight"].shape[0],
            "n_out_embedding": state["network.outputs.up.weight"].shape[1],
            "n_interactions": n_interactions,
            "n_spherical": state[f"{first}.angular_first.weight"].shape[1] // n_radial,
            "n_radial": n_radial,
            "cutoff": cutoff,
            "envelope_exponent": envelope_exponent,
            "n_before_skip": tensors.numbered(skips.format("before")),
            "n_after_skip": tensors.numbered(skips.format("after")),
            "n_output_layers": n_output_layers,
            "variant": variant,
            "max_atomic_number": n_rows - 1,
        },
        n_hidden=0,
        state=state,
        atom_energies=None,
        n_rows=n_rows,
    )


def _named(name: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{part}": value for part, value in parts.items()}


def _dimenet_interaction(tensors: Tensors, theirs: str, ours: str) -> dict[str, Tensor]:
    own, arriving = (tensors.layer(f"{theirs}.{n}") for n in ("lin_ji", "lin_kj"))
    joined = {part: torch.cat((own[part], arriving[part])) for part in own}
    state = _named(f"{ours}.source", joined)
    for our, their in DIMENET_MATRICES.items():
        matrix = tensors.layer(f"{theirs}.{their}", bias=False)
        state |= _named(f"{ours}.{our}", matrix)
    state |= _named(f"{ours}.skip", tensors.layer(f"{theirs}.lin"))
    for where in ("before", "after"):
        group = f"{theirs}.layers_{where}_skip"
        for n in range(tensors.numbered(group + ".{}.lin1.weight")):
            for our, their in (("first", "lin1"), ("second", "lin2")):
                parts = tensors.layer(f"{group}.{n}.{their}")
                state |= _named(f"{ours}.{where}_skip.{n}.{our}", parts)
    return state


def _dimenet_outputs(
    tensors: Tensors, n_blocks: int, n_layers: int
) -> dict[str, Tensor]:
    """Return the output blocks, which MolPool holds side by side."""

    def stack(name: str, n_axes: int) -> Tensor:
        blocks = [f"output_blocks.{block}.{name}" for block in range(n_blocks)]
        values = [tensors.take(block, n_axes=n_axes) for block in blocks]
        if len({value.shape for value in values}) > 1:
            raise ValueError(f"the tensors output_blocks.*.{name} differ in shape")
        return torch.stack(values)

    state = {
        "gate.weight": stack("lin_rbf.weight", 2),
        "up.weight": stack("lin_up.weight", 2),
        "last.weight": stack("lin.weight", 2),
    }
    for n in range(n_layers):
        state[f"hidden.{n}.weight"] = stack(f"lins.{n}.weight", 2)
        state[f"hidden.{n}.bias"] = stack(f"lins.{n}.bias", 1)[:, None, :]
    return _named("network.outputs", state)
