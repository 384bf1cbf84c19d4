"""Functions of the distance: radial bases and cutoff functions.

Every cutoff function is exactly zero at and beyond the cutoff, value and gradient, so
that a pair list may hold more pairs than needed (a skin, or all pairs of a molecule).
Every basis and its gradient are finite at any distance, zero included.
"""

from collections.abc import Callable
from math import comb, exp, log, pi
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.networks.constants import Constants

RadialBasis = Literal["gaussian", "bessel", "physnet", "bernstein"]
CutoffFunction = Literal["cosine", "polynomial", "mollifier", "exponential"]

BERNSTEIN_DECAY = 0.9448630809783936
"""Å⁻¹, γ of the published SO3LR: 0.944863062918464 as the nearest float32 number."""

NEAREST = 1e-6
"""Å; a pair nearer than this counts as this far, where a logarithm would diverge."""


def _require_two(n_rbf: int, what: str) -> None:
    if n_rbf == 1:
        raise ValueError(f"n_rbf is 1, but a {what} basis needs at least 2")


class GaussianBasis(nn.Module):
    """φ_k(d) = exp(−(d − μ_k)² / 2w_k²), μ_k evenly from 0 to the cutoff.

    Schütt et al. 2018, Eq. 8. Centres and widths are stored with the weights, because
    a published float32 grid differs from the same grid computed in float64.
    """

    centers: Tensor
    widths: Tensor

    def __init__(self, n_rbf: int, cutoff: float) -> None:
        super().__init__()
        _require_two(n_rbf, "Gaussian")
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


class PhysNetBasis(Constants):
    """φ_k(d) = exp(−β(e^{−d} − c_k)²), c_k evenly from e^{−r_c} to 1, d in Å.

    β = (2(1 − e^{−r_c})/K)⁻². Unke and Meuwly 2019 (PhysNet), as in So3krates'
    published code.
    """

    centers: Tensor

    def __init__(self, n_rbf: int, cutoff: float) -> None:
        _require_two(n_rbf, "PhysNet")
        nearest = exp(-cutoff)
        centers = torch.linspace(nearest, 1.0, n_rbf, dtype=torch.float64)
        super().__init__(centers=centers)
        self.beta = (2.0 / n_rbf * (1.0 - nearest)) ** -2

    def forward(self, distances: Float[Tensor, " pairs"]) -> Float[Tensor, "pairs rbf"]:
        """Return the basis functions at each distance."""
        difference = torch.exp(-distances)[:, None] - self.centers
        return torch.exp(difference * difference * -self.beta)


class BernsteinBasis(Constants):
    """φ_k(d) = C(K−1, k) s^k (1 − s)^{K−1−k}, s = e^{−γd}, k = 0…K−1.

    As in SpookyNet (Unke et al. 2021) and the published SO3LR, with its fixed γ. Powers
    are taken as exponentials of logarithms, of which that of s is −γd itself: nothing
    overflows or vanishes too early. The published code gives zero where s is 0 or 1 to
    rounding; here φ_0 is 1 at far distances, where a cutoff function is zero anyway.
    """

    powers: Tensor
    log_binomials: Tensor

    def __init__(self, n_rbf: int, cutoff: float) -> None:
        del cutoff  # γ is fixed
        _require_two(n_rbf, "Bernstein")
        orders = torch.arange(n_rbf, dtype=torch.float64)
        binomials = [log(comb(n_rbf - 1, k)) for k in range(n_rbf)]
        super().__init__(
            powers=torch.stack((orders, orders.flip(0))),
            log_binomials=torch.tensor(binomials, dtype=torch.float64),
        )

    def forward(self, distances: Float[Tensor, " pairs"]) -> Float[Tensor, "pairs rbf"]:
        """Return the basis functions at each distance."""
        log_s = torch.clamp(distances, min=NEAREST) * -BERNSTEIN_DECAY
        logarithms = torch.stack((log_s, torch.log(-torch.expm1(log_s))), dim=1)
        return torch.exp(torch.addmm(self.log_binomials, logarithms, self.powers))


RADIAL_BASES: dict[str, Callable[[int, float], nn.Module]] = {
    "gaussian": GaussianBasis,
    "bessel": BesselBasis,
    "physnet": PhysNetBasis,
    "bernstein": BernsteinBasis,
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


def exponential_cutoff(
    distances: Float[Tensor, " pairs"], cutoff: float
) -> Float[Tensor, " pairs"]:
    """Return exp(−d²/(r_c² − d²)) below the cutoff, 0 beyond: smooth to all orders.

    SpookyNet (Unke et al. 2021). It is ``mollifier_cutoff``, differently written:
    −x²/(1 − x²) = 1 − 1/(1 − x²).
    """
    return mollifier_cutoff(distances, cutoff)


CUTOFF_FUNCTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "cosine": cosine_cutoff,
    "polynomial": polynomial_cutoff,
    "mollifier": mollifier_cutoff,
    "exponential": exponential_cutoff,
}
