"""Parts shared by the networks: activations, dense layers, filters of the distance."""

from collections.abc import Callable
from math import log
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Edges
from molpool_calc.networks.radial import (
    CUTOFF_FUNCTIONS,
    RADIAL_BASES,
    BesselBasis,
    CutoffFunction,
    GaussianBasis,
    RadialBasis,
    cosine_cutoff,
    mollifier_cutoff,
    polynomial_cutoff,
)

__all__ = [
    "ACTIVATIONS",
    "CUTOFF_FUNCTIONS",
    "LAYER_NORM_EPSILON",
    "RADIAL_BASES",
    "Activation",
    "BesselBasis",
    "CutoffFunction",
    "GaussianBasis",
    "RadialBasis",
    "RadialFilterInput",
    "ResidualMLP",
    "TwoLayer",
    "choose",
    "cosine_cutoff",
    "dense",
    "enveloped_linear",
    "enveloped_matrix",
    "mollifier_cutoff",
    "polynomial_cutoff",
    "require_positive",
    "shifted_softplus",
]

LAYER_NORM_EPSILON = 1e-6
"""Of the published So3krates code; keeps the norm of equal features finite."""

T = TypeVar("T")
Activation = Literal["silu", "shifted-softplus"]


def shifted_softplus(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return ln(½eˣ + ½) (Schütt et al. 2018, J. Chem. Phys. 148, 241722, Sec. II)."""
    return nn.functional.softplus(x) - log(2.0)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "shifted-softplus": shifted_softplus,
}


def choose(table: dict[str, T], name: str, what: str) -> T:
    """Return the entry of a closed table.

    Raises:
        ValueError: ``name`` is not in the table; the message lists what is.
    """
    if name not in table:
        known = ", ".join(table)
        raise ValueError(f"{what} {name!r} is unknown; choose one of {known}")
    return table[name]


def require_positive(**arguments: int | float) -> None:
    """Check constructor arguments.

    Raises:
        ValueError: one of them is not positive; the message names it.
    """
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(f"{name} is {value!r}, but must be positive")


class TwoLayer(nn.Module):
    """Lin₂(act(Lin₁ x)), Xavier-uniform weights and zero biases."""

    def __init__(
        self, n_in: int, n_hidden: int, n_out: int, activation: Activation
    ) -> None:
        super().__init__()
        self.activation = choose(ACTIVATIONS, activation, "activation")
        self.first = dense(n_in, n_hidden)
        self.second = dense(n_hidden, n_out)

    def forward(self, x: Float[Tensor, "*any n_in"]) -> Float[Tensor, "*any n_out"]:
        """Apply both layers to the last axis."""
        out: Tensor = self.second(self.activation(self.first(x)))
        return out


class ResidualMLP(nn.Module):
    """x + Lin₂(silu(Lin₁(silu x)))."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.mlp = TwoLayer(n_features, n_features, n_features, "silu")

    def forward(
        self, x: Float[Tensor, "atoms features"]
    ) -> Float[Tensor, "atoms features"]:
        """Return the features after the network."""
        return torch.add(x, self.mlp(nn.functional.silu(x)))


def dense(n_in: int, n_out: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer with Xavier-uniform weights and zero bias."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class RadialFilterInput(nn.Module):
    """Basis times cutoff function, with the cutoff function itself as last column.

    A filter fc(d)·(W φ(d) + b) is then one product with the matrix [W, b], which never
    needs a separate multiplication of the much wider filter by fc.
    """

    def __init__(
        self,
        *,
        n_rbf: int,
        cutoff: float,
        radial_basis: RadialBasis,
        cutoff_function: CutoffFunction,
    ) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.basis = choose(RADIAL_BASES, radial_basis, "radial basis")(n_rbf, cutoff)
        self.envelope = choose(CUTOFF_FUNCTIONS, cutoff_function, "cutoff function")

    def forward(self, edges: Edges) -> Float[Tensor, "pairs rbf_plus_one"]:
        """Return [fc·φ_1 … fc·φ_K, fc] for every pair."""
        return self.at(edges.distances)

    def at(
        self, distances: Float[Tensor, " pairs"]
    ) -> Float[Tensor, "pairs rbf_plus_one"]:
        """Return the same at given distances in Å."""
        envelope = self.envelope(distances, self.cutoff)[:, None]
        basis = self.basis(distances)
        return torch.cat((basis * envelope, envelope), dim=1)


def enveloped_linear(
    layer: nn.Module, radial: Float[Tensor, "pairs rbf_plus_one"]
) -> Float[Tensor, "pairs n_out"]:
    """Return fc·(W φ + b) for the output of ``RadialFilterInput``."""
    return radial @ enveloped_matrix(layer)


def enveloped_matrix(layer: nn.Module) -> Float[Tensor, "rbf_plus_one n_out"]:
    """Return W and b as one matrix for the output of ``RadialFilterInput``."""
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"a filter must be nn.Linear, not {type(layer).__name__}")
    return torch.cat((layer.weight.T, layer.bias[None, :]))
