"""Couplings of two spherical degrees to a third, for real spherical harmonics.

The coupling coefficients C of degrees l₁, l₂, l₃ with l₁ + l₂ + l₃ even are, up to a
factor, the integrals of three harmonics over the sphere, because the rotations leave
room for one such tensor only (Wigner and Eckart). The factor is fixed by
Σ_{ab} C_abc C_abd = δ_cd, as for Clebsch–Gordan coefficients. The integrals are exact:
the integrand is a polynomial, and the quadrature has enough points.
"""

from collections.abc import Iterator, Sequence
from math import pi

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.networks.spherical import SphericalHarmonics

Coupling = tuple[int, int, int]


def couplings(degrees: Sequence[int]) -> list[Coupling]:
    """Return the (l₁, l₂, l₃) with l₁ < l₂ that couple and keep the parity."""
    return list(_couplings(sorted(degrees)))


def _couplings(degrees: list[int]) -> Iterator[Coupling]:
    for first in degrees:
        for second in degrees:
            for third in degrees:
                couple = second - first <= third <= first + second
                if first < second and couple and (first + second + third) % 2 == 0:
                    yield first, second, third


def coupling_tensors(
    degrees: Sequence[int],
) -> Float[Tensor, "couplings m_tot m_tot m_tot"]:
    """Return C of each of ``couplings``, float64; zero outside of its degrees."""
    directions, weights = _quadrature(2 * max(degrees) + max(degrees))
    harmonics = SphericalHarmonics(degrees).double()(directions)
    integrals = torch.einsum("p,pa,pb,pc->abc", weights, *[harmonics] * 3)
    of_degree = torch.tensor(
        [degree for degree in degrees for _ in range(2 * degree + 1)]
    )
    tensors = []
    for first, second, third in couplings(degrees):
        chosen = (
            (of_degree == first)[:, None, None]
            & (of_degree == second)[None, :, None]
            & (of_degree == third)[None, None, :]
        )
        tensor = integrals * chosen
        # the sum of squares is the same for each of the 2·l₃ + 1 components
        factor = ((2 * third + 1) / tensor.square().sum()).sqrt()
        tensors.append(tensor * factor)
    size = len(of_degree)
    return (
        torch.stack(tensors) if tensors else torch.zeros(0, size, size, size).double()
    )


def _quadrature(
    degree: int,
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, " points"]]:
    """Return directions and weights exact for polynomials up to a degree."""
    z, of_z = np.polynomial.legendre.leggauss(degree // 2 + 1)
    angle = 2 * pi * np.arange(degree + 1) / (degree + 1)
    radius = np.sqrt(1 - z * z)[:, None]
    shape = (len(z), len(angle))
    directions = np.stack(
        (
            radius * np.cos(angle),
            radius * np.sin(angle),
            np.broadcast_to(z[:, None], shape),
        ),
        axis=-1,
    )
    weights = np.broadcast_to(of_z[:, None] * 2 * pi / len(angle), shape)
    return torch.from_numpy(directions.reshape(-1, 3)), torch.from_numpy(
        weights.reshape(-1).copy()
    )
