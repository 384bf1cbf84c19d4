"""Layers of the learned poolings."""

from collections.abc import Callable
from itertools import pairwise, starmap
from math import log

from jaxtyping import Float
from torch import Tensor, nn


def shifted_softplus(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return ln(½eˣ + ½)."""
    return nn.functional.softplus(x) - log(2.0)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "shifted-softplus": shifted_softplus,
    "relu": nn.functional.relu,
}
KINKED = frozenset({"relu"})
"""Activations whose first derivative jumps, and with it the forces."""


def activation_of(name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation of that name.

    Raises:
        ValueError: the name is not in the table.
    """
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation {name!r} is unknown; choose one of {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def require_counts(**arguments: int) -> None:
    """Check constructor arguments.

    Raises:
        ValueError: one of them is not a positive integer; the message names it.
    """
    for name, value in arguments.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}, but must be a positive integer")


def require_same_width(n_in: int, n_out: int, pooling: str) -> None:
    """Check the widths of a pooling that has no weights.

    Raises:
        ValueError: they differ.
    """
    require_counts(n_in=n_in, n_out=n_out)
    if n_in != n_out:
        raise ValueError(
            f"{pooling} pooling has no weights and keeps the width of its features, "
            f"but n_in is {n_in} and n_out is {n_out}; give equal widths"
        )


class Pyramid(nn.Module):
    """A multilayer perceptron whose hidden widths are halved from layer to layer.

    The last layer goes to ``n_out`` without activation; Xavier-uniform weights, zero
    biases.
    """

    def __init__(self, n_in: int, n_out: int, n_layers: int, activation: str) -> None:
        super().__init__()
        self.activation = activation_of(activation)
        hidden = [max(n_in >> k, n_out, 1) for k in range(1, n_layers)]
        widths = [n_in, *hidden, n_out]
        self.layers = nn.ModuleList(starmap(_dense, pairwise(widths)))

    def forward(self, x: Float[Tensor, "atoms n_in"]) -> Float[Tensor, "atoms n_out"]:
        """Apply all layers."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        result: Tensor = last(x)
        return result


def _dense(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
