"""Settings of what turns features of atoms into numbers of systems."""

from typing import Any

from torch import nn

from molpool_calc.heads import Readout, ScalarHead
from molpool_calc.heads.readout import Layers
from molpool_calc.native.names import NotCovered, Settings, place
from molpool_calc.poolings import (
    POOLINGS,
    AttentionPooling,
    LogSumExpPooling,
    WeightedAveragePooling,
)
from molpool_calc.potential import NeuralPotential

ACTIVATIONS = ("silu", "shifted-softplus", "relu")
"""In the order of the code's enumeration."""
KINDS = {
    "sum": 0,
    "mean": 1,
    "log-sum-exp": 2,
    "softmax": 3,
    "weighted-average": 4,
    "orbital-weighted-average": 4,
    "attention": 5,
}
"""Poolings and their numbers in the code; two differ in how they are trained only."""


def scalars_of(potential: NeuralPotential) -> list[str]:
    """Return the names of the scalar heads that the code computes."""
    return [name for name, head in potential.heads.items() if _has_form(head)]


def _has_form(head: nn.Module) -> bool:
    if type(head) is not ScalarHead:
        return False
    try:
        readout_settings(head)
    except NotCovered:
        return False
    return True


def readout_settings(head: Readout) -> Settings:
    """Return the settings of a readout.

    Raises:
        NotCovered: its pooling has an option that the code does not have.
    """
    pooling: Any = head.pooling
    kind = next(name for name, made in POOLINGS.items() if made is type(pooling))
    pools_features = isinstance(head.after, Layers)
    # without layers, the one feature is the number itself
    layers: Any = head.after if pools_features else head.before
    has_layers = isinstance(layers, Layers)
    settings: Settings = {
        "pooling": KINDS[kind],
        "sharpness": 1.0,
        "embedding": int(pools_features),
        "layers": len(layers.names) if has_layers else 0,
        "activation": activation_of(layers) if has_layers else 0,
        "pooling_activation": 0,
    }
    if isinstance(pooling, LogSumExpPooling):
        settings["sharpness"] = pooling.sharpness
    if isinstance(pooling, WeightedAveragePooling):
        settings["pooling_layers"] = len(pooling.value.layers)
        settings["pooling_activation"] = activation_of(pooling.value)
    if isinstance(pooling, AttentionPooling):
        settings |= _attention(pooling)
    return settings


def _attention(pooling: AttentionPooling) -> Settings:
    if pooling.legacy_padding is not None:
        raise NotCovered("legacy_padding of an attention pooling")
    block = pooling.seeds.block
    return {
        "heads": block.n_heads,
        "blocks": len(pooling.encoder),
        "pooling_activation": activation_of(block),
    }


def activation_of(layers: Any) -> int:
    """Return the place of the activation between layers."""
    name = layers.activation.__name__.replace("_", "-")
    return place(ACTIVATIONS, name, "activation")
