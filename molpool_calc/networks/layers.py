"""Parts shared by the networks: radial bases, cutoff functions, dense layers.

Every cutoff function is exactly zero at and beyond the cutoff, value and gradient, so
that a pair list may hold more pairs than needed (a skin, or all pairs of a molecule).
"""

from collections.abc import Callable
from math import log, pi
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Edges

T = TypeVar("T")
Activation = Literal["silu", "shifted-softplus"]
RadialBasis = Literal["gaussian", "bessel"]
CutoffFunction = Literal["cosine", "polynomial", "mollifier"]


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


def dense(n_in: int, n_out: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer with Xavier-uniform weights and zero bias."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class GaussianBasis(nn.Module):
    """φ_k(d) = exp(−(d − μ_k)² / 2w_k²), μ_k evenly from 0 to the cutoff.

    Schütt et al. 2018, Eq. 8. Centres and widths are stored with the weights, because
    a published float32 grid differs from the same grid computed in float64.
    """

    centers: Tensor
    widths: Tensor

    def __init__(self, n_rbf: int, cutoff: float) -> None:
        super().__init__()
        if n_rbf == 1:
            raise ValueError("n_rbf is 1, but a Gaussian basis needs at least 2")
        self.register_buffer("centers", torch.linspace(0.0, cutoff, n_rbf))
        spacing = cutoff / (n_rbf - 1)
        self.register_buffer("widths", torch.full((n_rbf,), spacing))

    def forward(self, distances: Float[Tensor, " pairs"]) -> Float[Tensor, "pairs rbf"]:
        """Return the basis functions at each distance."""
        scaled = (distances[:, None] - self.centers) / self.widths
        return torch.exp(-0.5 * scaled * scaled)


class BesselBasis(nn.Module):
    """φ_n(d) = sin(nπd/r_c) / d, n = 1…K (Gasteiger et al. 2020, Eq. 7, unscaled)."""

    frequencies: Tensor

    def __init__(self, n_rbf: int, cutoff: float) -> None:
        super().__init__()
        orders = torch.arange(1, n_rbf + 1, dtype=torch.float64)
        self.register_buffer("frequencies", (orders * pi / cutoff).float())

    def forward(self, distances: Float[Tensor, " pairs"]) -> Float[Tensor, "pairs rbf"]:
        """Return the basis functions at each distance (finite limit at zero)."""
        d = distances[:, None]
        # sinc keeps value and gradient finite at d = 0
        return self.frequencies * torch.sinc(self.frequencies * d / pi)


RADIAL_BASES: dict[str, type[GaussianBasis] | type[BesselBasis]] = {
    "gaussian": GaussianBasis,
    "bessel": BesselBasis,
}


def cosine_cutoff(
    distances: Float[Tensor, " pairs"], cutoff: float
) -> Float[Tensor, " pairs"]:
    """Return ½(cos(πd/r_c) + 1) below the cutoff, 0 beyond: C¹ at the cutoff."""
    inside = (distances < cutoff).to(distances.dtype)
    return (0.5 * torch.cos(distances * (pi / cutoff)) + 0.5) * inside


def polynomial_cutoff(
    distances: Float[Tensor, " pairs"], cutoff: float
) -> Float[Tensor, " pairs"]:
    """Return 1 − 6x⁵ + 15x⁴ − 10x³ below the cutoff, 0 beyond: C² at the cutoff."""
    x = torch.clamp(distances / cutoff, max=1.0)
    # the slope at x = 1 is zero but for rounding
    inside = (x < 1.0).to(x.dtype)
    return (1.0 + x**3 * (-10.0 + x * (15.0 - 6.0 * x))) * inside


def mollifier_cutoff(
    distances: Float[Tensor, " pairs"], cutoff: float
) -> Float[Tensor, " pairs"]:
    """Return exp(1 − 1/(1 − x²)) below the cutoff, 0 beyond: smooth to all orders."""
    x = distances / cutoff
    inside = x < 1.0
    # 0 stands in for x outside, where the fraction would overflow
    safe = torch.where(inside, x, torch.zeros_like(x))
    value = torch.exp(1.0 - 1.0 / (1.0 - safe * safe))
    return torch.where(inside, value, torch.zeros_like(x))


CUTOFF_FUNCTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "cosine": cosine_cutoff,
    "polynomial": polynomial_cutoff,
    "mollifier": mollifier_cutoff,
}


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
        envelope = self.envelope(edges.distances, self.cutoff)[:, None]
        basis = self.basis(edges.distances)
        return torch.cat((basis * envelope, envelope), dim=1)


def enveloped_linear(
    layer: nn.Module, radial: Float[Tensor, "pairs rbf_plus_one"]
) -> Float[Tensor, "pairs n_out"]:
    """Return fc·(W φ + b) for the output of ``RadialFilterInput``."""
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"a filter must be nn.Linear, not {type(layer).__name__}")
    return radial @ torch.cat((layer.weight, layer.bias[:, None]), dim=1).T
