"""The weights and settings of a potential under the names that the code reads.

Weights keep their names in the state of ``network`` and ``heads``; settings are arrays,
most of one number. What the code does not compute is refused here, by name; heads that
it does not know are left out, and with them what they give.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from molpool_calc.elements import mass_table
from molpool_calc.heads import (
    DipoleHead,
    EnergyHead,
    HirshfeldHead,
    PolarizabilityHead,
)
from molpool_calc.heads.tensors import GatedReadout
from molpool_calc.native.library import Variant
from molpool_calc.native.names import Archive, NotCovered, Settings, envelope_of, place
from molpool_calc.native.readouts import activation_of, readout_settings, scalars_of
from molpool_calc.native.terms import terms_of
from molpool_calc.networks import DimeNetPlusPlus, PaiNN, SchNet, So3kratesEuclidean
from molpool_calc.networks.radial import BERNSTEIN_DECAY
from molpool_calc.networks.spherical_bessel import MIN_SCALED
from molpool_calc.potential import NeuralPotential

BASES = ("gaussian", "bessel", "physnet", "bernstein")
"""Choices in the order of the code's enumerations."""
MOST_KEPT = 40_000
"""Messages of DimeNet++ of which all is kept for the gradient, 30 kB each with the
published widths; of more it is computed once more, in a third of the memory."""


def archive_of(potential: NeuralPotential) -> Archive:
    """Return weights and settings, float64.

    Raises:
        NotCovered: the network, a head or a term is not among those of the code.
    """
    settings = _of_network(potential.network)
    for name, head in potential.heads.items():
        made = HEADS[type(head)](head) if type(head) in HEADS else {}
        settings |= {f"{name}.{key}": value for key, value in made.items()}
    archive = {name: np.atleast_1d(value) for name, value in settings.items()}
    archive |= _weights(potential.network, "")
    archive |= _weights(potential.heads, "heads.")
    archive |= terms_of(potential)
    archive["masses"] = mass_table().numpy()
    for name, head in potential.heads.items():
        if isinstance(head, EnergyHead):
            archive[f"{name}.reference"] = head.reference.values.cpu().numpy()
    for k, name in enumerate(scalars_of(potential)):
        archive |= _scalar(potential.heads[name], f"scalars.{k}.")
    return {
        name: np.ascontiguousarray(values, dtype=np.float64).reshape(-1)
        for name, values in archive.items()
    }


def variant_of(potential: NeuralPotential) -> Variant:
    """Return which library computes a potential that is covered."""
    name, header = CLASSES[type(potential.network)]
    real: Literal["float", "double"] = (
        "float" if potential.dtype == torch.float32 else "double"
    )
    return Variant(network=name, header=header, real=real)


def _weights(module: nn.Module, prefix: str) -> Archive:
    return {
        prefix + name: tensor.detach().cpu().double().numpy()
        for name, tensor in module.state_dict().items()
    }


def _of_network(network: nn.Module) -> Settings:
    if type(network) not in NETWORKS:
        raise NotCovered(f"the network {type(network).__name__}")
    return NETWORKS[type(network)](network)


def _painn(network: PaiNN) -> Settings:
    return {
        "n_features": network.n_features,
        "n_interactions": len(network.messages),
        "epsilon": network.epsilon,
        "cutoff": network.cutoff,
        **_radial(network.radial),
    }


def _schnet(network: SchNet) -> Settings:
    return {
        "n_features": network.n_features,
        "n_filters": network.n_filters,
        "n_interactions": len(network.interactions),
        "cutoff": network.cutoff,
        **_radial(network.radial),
    }


def _dimenet(network: DimeNetPlusPlus) -> Settings:
    bases = network.bases
    return {
        "n_features": network.n_features,
        "n_hidden": network.embedding.embedding_dim,
        "n_interactions": len(network.interactions),
        "n_spherical": network.n_spherical,
        "angle_at_end": int(network.angle_at == "end"),
        "most_kept": MOST_KEPT,
        "cutoff": network.cutoff,
        "smallest": MIN_SCALED,
        "power": bases.power,
        "envelope": np.array(bases.envelope),
        "roots": bases.roots.cpu().numpy(),
        "table": bases.table.cpu().numpy(),
    }


def _euclidean(network: So3kratesEuclidean) -> Settings:
    degrees = {f"degree.{degree}": 1 for degree in network.degrees}
    return {
        "n_features": network.n_features,
        "n_interactions": len(network.layers),
        "n_heads": network.n_heads,
        "norm.0": network.norms[0],
        "norm.1": network.norms[1],
        "cutoff": network.cutoff,
        "n_rbf": network.n_rbf,
        "bernstein_decay": BERNSTEIN_DECAY,
        **degrees,
        **_radial(network),
    }


def _radial(radial: Any) -> Settings:
    kind = type(radial.basis).__name__.removesuffix("Basis").lower()
    return {
        "basis": place(BASES, kind, "radial basis"),
        "envelope": envelope_of(radial.envelope),
    }


def _energy(head: EnergyHead) -> Settings:
    settings = {"scale": head.scale, **readout_settings(head)}
    if head.element_scales and settings["embedding"]:
        raise NotCovered("element_scales of pooled features")
    if head.correction is not None:
        correction = readout_settings(head.correction)
        settings |= {f"correction.{key}": value for key, value in correction.items()}
    return settings


def _scalar(head: Any, prefix: str) -> Archive:
    settings = {"scale": head.scale, "shift": head.shift, **readout_settings(head)}
    numbers = {prefix + name: np.atleast_1d(value) for name, value in settings.items()}
    reference = head.reference.values.cpu().numpy()
    return numbers | _weights(head, prefix) | {f"{prefix}reference": reference}


def _dipole(head: DipoleHead) -> Settings:
    if isinstance(head.readout, GatedReadout):
        return {"vectors": 1, "epsilon": head.readout.epsilon}
    return {"vectors": 0, "activation": activation_of(head.readout)}


def _polarizability(head: PolarizabilityHead) -> Settings:
    return {"scale": head.scale, "epsilon": head.readout.epsilon}


def _hirshfeld(head: HirshfeldHead) -> Settings:
    return {"activation": activation_of(head.readout)}


NETWORKS: dict[type[Any], Callable[[Any], Settings]] = {
    DimeNetPlusPlus: _dimenet,
    PaiNN: _painn,
    SchNet: _schnet,
    So3kratesEuclidean: _euclidean,
}
CLASSES = {
    DimeNetPlusPlus: ("DimeNet", "dimenet_backward.h"),
    PaiNN: ("PaiNN", "painn_backward.h"),
    SchNet: ("SchNet", "schnet.h"),
    So3kratesEuclidean: ("Euclidean", "euclidean_backward.h"),
}
"""Class and header of each network in the code."""
HEADS: dict[type[Any], Callable[[Any], Settings]] = {
    EnergyHead: _energy,
    DipoleHead: _dipole,
    PolarizabilityHead: _polarizability,
    HirshfeldHead: _hirshfeld,
}
