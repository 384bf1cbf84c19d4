"""Radial and spherical Bessel functions of DimeNet, of the distances of pairs.

Gasteiger, Groß, Günnemann, ICLR 2020 (arXiv:2003.03123). With x = d / r_c:

=====================================  ========================================
Eq. 7, frequencies learned             ``radial``: U(x) sin(ω_n x)
Eq. 6 without its angular part Y_l0    ``spherical``: U(x) N_ln j_l(z_ln x) c_l
Eq. 8, divided by x                    U(x) = 1/x + a xᵖ⁻¹ + b xᵖ + c xᵖ⁺¹
=====================================  ========================================

z_ln is the n-th root of j_l, N_ln = [½ j_{l+1}(z_ln)²]^(−½), and c_l = √((2l+1)/4π)
is what Y_l0 has beside the Legendre polynomial of the cosine.

j_l(z) is sin(z) A_l(1/z) + cos(z) B_l(1/z) with polynomials A_l and B_l, so all orders
and roots are two matrix products. These terms cancel for z ≪ l, where they exceed j_l
by up to z^(−2l−1). In float32 nothing would be left of j_6 at the distance of a bond.
Everything here is therefore float64, whatever the dtype of the network.
"""

from collections.abc import Callable
from math import pi, sqrt

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

MIN_SCALED = 0.02
"""Distances below this part of the cutoff (0.1 Å of 5 Å) count as this far: bounds the
cancellation, and keeps 1/x finite."""

N_BISECTIONS = 60
"""Halvings of an interval of about 3 after which float64 has no number in between."""


def spherical_bessel(z: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Return j_order(z) by upward recurrence, which is accurate for z ≥ order."""
    below, value = np.cos(z) / z, np.sin(z) / z
    for l in range(order):
        below, value = value, (2 * l + 1) / z * value - below
    return value


def bessel_roots(n_orders: int, n_roots: int) -> Float[np.ndarray, "orders roots"]:
    """Return the first positive roots of j_l for l = 0, 1, 2 and so on.

    Between two neighboring roots of j_l is exactly one of j_{l+1}.

    Args:
        n_orders: number of orders.
        n_roots: number of roots of each.

    Example:
        >>> bessel_roots(2, 2).round(4).tolist()
        [[3.1416, 6.2832], [4.4934, 7.7253]]
    """
    roots = pi * np.arange(1.0, n_roots + n_orders)
    rows = [roots[:n_roots]]
    for l in range(1, n_orders):
        low, high = roots[:-1], roots[1:]
        sign_low = np.sign(spherical_bessel(low, l))
        for _ in range(N_BISECTIONS):
            middle = 0.5 * (low + high)
            left = np.sign(spherical_bessel(middle, l)) == sign_low
            low, high = np.where(left, middle, low), np.where(left, high, middle)
        roots = 0.5 * (low + high)
        rows.append(roots[:n_roots])
    return np.stack(rows)


def closed_form(n_orders: int) -> Float[np.ndarray, "two orders powers"]:
    """Return the coefficients of A_l and B_l for the powers 1/z, 1/z² and so on.

    Both obey f_{l+1} = (2l+1)/z f_l − f_{l−1}, from A_0 = 1/z, B_0 = 0, A_1 = 1/z²,
    B_1 = −1/z.
    """
    table = np.zeros((2, n_orders + 1, n_orders + 1))
    table[0, 0, 0], table[0, 1, 1], table[1, 1, 0] = 1.0, 1.0, -1.0
    for l in range(1, n_orders):
        table[:, l + 1, 1:] = (2 * l + 1) * table[:, l, :-1]
        table[:, l + 1] -= table[:, l - 1]
    return table[:, :n_orders, :n_orders]


def _constants(n_orders: int, n_roots: int) -> tuple[Tensor, Tensor]:
    """Return roots [l·n] and [A, B] for powers of 1/x [powers, 2·l·n]; see module."""
    roots = bessel_roots(n_orders, n_roots)
    columns = []
    for l, row in enumerate(roots):
        scale = np.abs(spherical_bessel(row, l + 1)) / sqrt(2.0)
        columns.append(sqrt((2 * l + 1) / (4.0 * pi)) / scale)
    powers = np.arange(1, n_orders + 1)
    # [two, l, n, power]: the root of each function goes into its coefficients
    table = closed_form(n_orders)[:, :, None, :] / roots[None, :, :, None] ** powers
    table = table * np.stack(columns)[None, :, :, None]
    flat = table.reshape(2 * n_orders * n_roots, n_orders)
    return torch.from_numpy(roots.reshape(-1)), torch.from_numpy(flat.T.copy())


class BesselBases(nn.Module):
    """Both bases of DimeNet; zero at and beyond the cutoff, with two derivatives.

    Args:
        n_spherical: number of orders l.
        n_radial: number of radial functions, and of roots of each order.
        cutoff: r_c in Å.
        envelope_exponent: p − 1 of Eq. 8.
    """

    def __init__(
        self,
        *,
        n_spherical: int,
        n_radial: int,
        cutoff: float,
        envelope_exponent: int,
    ) -> None:
        super().__init__()
        self.cutoff, self.power = cutoff, envelope_exponent
        p = envelope_exponent + 1
        self.envelope = (-(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2)
        frequencies = pi * torch.arange(1, n_radial + 1, dtype=torch.float64)
        self.frequencies = nn.Parameter(frequencies.float())
        # no buffers: these stay float64 when the network is cast
        self.roots, self.table = _constants(n_spherical, n_radial)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "BesselBases":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(self.roots).device
        self.roots, self.table = self.roots.to(device), self.table.to(device)
        return self

    def forward(
        self, distances: Float[Tensor, " pairs"]
    ) -> tuple[Float[Tensor, "pairs radial"], Float[Tensor, "pairs spherical_radial"]]:
        """Return both bases at distances in Å; the second with l as slow index."""
        scaled = distances.double() / self.cutoff
        x = scaled.clamp(min=MIN_SCALED, max=1.0)[:, None]
        inverse = 1.0 / x
        a, b, c = self.envelope
        envelope = inverse + x**self.power * (a + x * (b + x * c))
        # value and slope at x = 1 are zero but for rounding
        envelope = envelope * (scaled < 1.0)[:, None]
        powers = [inverse]
        for _ in range(self.table.shape[0] - 1):
            powers.append(powers[-1] * inverse)
        of_sine, of_cosine = (torch.cat(powers, dim=1) @ self.table).chunk(2, dim=1)
        phase = x * self.roots
        bessel = torch.addcmul(phase.sin() * of_sine, phase.cos(), of_cosine)
        radial = torch.sin(x * self.frequencies.double())
        dtype = distances.dtype
        return (radial * envelope).to(dtype), (bessel * envelope).to(dtype)
