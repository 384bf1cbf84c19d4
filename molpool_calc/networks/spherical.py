"""Real spherical harmonics of unit vectors, and sums over their components.

Orthonormal on the sphere, without the Condon–Shortley sign, components m = −l … l, so
that degree 1 is √(3/4π)·(y, z, x). With Π the polynomial part of the Legendre function
and A_m + iB_m = (x + iy)^m (Blanco, Flórez, Bermejo, J. Mol. Struct. THEOCHEM 419, 19
(1997), give the same table):

    Y_lm = √((2l+1)/4π · (2 − δ_m0) (l−|m|)!/(l+|m|)!) · Π_l|m|(z) · (A_m or B_|m|)
"""

from collections.abc import Sequence
from math import comb, factorial, pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from molpool_calc.networks.constants import Constants

Exponents = tuple[int, int, int]
MAX_DEGREE = 4


def check_degrees(degrees: Sequence[int]) -> None:
    """Check a choice of degrees.

    Raises:
        ValueError: none, a repeated or descending one, or one outside 1 to 4.
    """
    allowed = all(1 <= degree <= MAX_DEGREE for degree in degrees)
    if not degrees or not allowed or list(degrees) != sorted(set(degrees)):
        raise ValueError(
            f"degrees are {list(degrees)}, but must be ascending whole numbers "
            f"from 1 to {MAX_DEGREE}, such as [1, 2, 3]"
        )


class SphericalHarmonics(Constants):
    """Y_lm(u) of unit vectors for ascending degrees from 1 to 4.

    Every component is a polynomial in x, y, z, and every monomial up to degree 4 a
    product of two monomials up to degree 2, each a product of two of 1, x, y, z. Three
    products of small matrices thus give all components, with all derivatives.

    Args:
        degrees: ascending, from 1 to 4.

    Raises:
        ValueError: other degrees.
    """

    factors: Tensor
    ones: Tensor
    coefficients: Tensor

    def __init__(self, degrees: Sequence[int]) -> None:
        check_degrees(degrees)
        linear, quadratic = _monomials(1), _monomials(2)
        halves = [_split(exponents) for exponents in quadratic]
        columns = [left for left, _ in halves] + [right for _, right in halves]
        n_more = max(degrees) - 2
        if n_more == 1:
            columns += linear
        second = {1: linear, 2: quadratic}.get(n_more, [(0, 0, 0)])
        table = [_add(a, b) for a in quadratic for b in second]
        factors = torch.tensor(columns, dtype=torch.float64).T.contiguous()
        super().__init__(
            factors=factors,
            ones=1.0 - factors.sum(0),
            coefficients=_coefficients(degrees, table),
        )
        self._n_quadratic, self._n_more = len(quadratic), n_more

    def forward(self, units: Float[Tensor, "pairs 3"]) -> Float[Tensor, "pairs m_tot"]:
        """Return the components of all degrees, one degree after the other."""
        n = self._n_quadratic
        linear = torch.addmm(self.ones, units, self.factors)
        products = linear[:, :n] * linear[:, n : 2 * n]
        if self._n_more > 0:
            second = linear[:, 2 * n :] if self._n_more == 1 else products
            products = (products[:, :, None] * second[:, None, :]).flatten(1)
        return products @ self.coefficients


class DegreeSums(Constants):
    """Sums over the components of each degree, and their inverse, the expansion.

    Args:
        degrees: ascending, from 1 to 4.

    Raises:
        ValueError: other degrees.
    """

    weights: Tensor
    membership: Tensor

    def __init__(self, degrees: Sequence[int]) -> None:
        check_degrees(degrees)
        sizes = torch.tensor([2 * degree + 1 for degree in degrees])
        membership = torch.eye(len(degrees), dtype=torch.float64)
        membership = membership.repeat_interleave(sizes, dim=1)
        weights = (membership / sizes[:, None].double().sqrt()).T.contiguous()
        super().__init__(weights=weights, membership=membership)

    def forward(
        self, components: Float[Tensor, "*items m_tot"]
    ) -> Float[Tensor, "*items degrees"]:
        """Return c_l = Σ_m χ_lm² / √(2l+1): the coupling of χ with itself to l = 0."""
        return (components * components) @ self.weights

    def norms(
        self, components: Float[Tensor, "*items m_tot"], epsilon: float
    ) -> Float[Tensor, "*items degrees"]:
        """Return √(Σ_m χ_lm² + epsilon), whose gradient is finite at zero."""
        squares = (components * components) @ self.membership.T
        return torch.sqrt(squares + epsilon)

    def expand(
        self, values: Float[Tensor, "*items degrees"]
    ) -> Float[Tensor, "*items m_tot"]:
        """Return the value of each degree for every one of its components."""
        return values @ self.membership


def _monomials(degree: int) -> list[Exponents]:
    """Return the exponents of x, y, z of all monomials up to a degree."""
    powers = range(degree + 1)
    return [
        (a, b, c) for a in powers for b in powers for c in powers if a + b + c <= degree
    ]


def _split(exponents: Exponents) -> tuple[Exponents, Exponents]:
    """Return two monomials up to degree 1 of which this one is the product."""
    left = next((k for k in range(3) if exponents[k]), None)
    unit = tuple(int(k == left) for k in range(3))
    rest = tuple(e - u for e, u in zip(exponents, unit, strict=True))
    return (unit[0], unit[1], unit[2]), (rest[0], rest[1], rest[2])


def _add(a: Exponents, b: Exponents) -> Exponents:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _coefficients(
    degrees: Sequence[int], table: Sequence[Exponents]
) -> Float[Tensor, "monomials m_tot"]:
    """Return the matrix from monomials to components; a repeated one counts once."""
    components = [(degree, m) for degree in degrees for m in range(-degree, degree + 1)]
    matrix = torch.zeros(len(table), len(components), dtype=torch.float64)
    for column, (degree, m) in enumerate(components):
        for exponents, value in _polynomial(degree, m).items():
            matrix[table.index(exponents), column] = value
    return matrix


def _polynomial(degree: int, m: int) -> dict[Exponents, float]:
    """Return Y_lm on the unit sphere: exponents of x, y, z → coefficient."""
    order = abs(m)
    norm = (2 * degree + 1) / (4 * pi) * (2 if m else 1)
    norm *= factorial(degree - order) / factorial(degree + order)
    along = {  # Π_lm(z), the m-th derivative of the Legendre polynomial
        degree - 2 * k - order: (-1) ** k
        * comb(degree, k)
        * comb(2 * degree - 2 * k, degree)
        * factorial(degree - 2 * k)
        / (2**degree * factorial(degree - 2 * k - order))
        for k in range((degree - order) // 2 + 1)
    }
    # the real (m ≥ 0) or imaginary (m < 0) part of (x + iy)^|m|
    around = {
        (order - p, p): (-1) ** (p // 2) * comb(order, p)
        for p in range(int(m < 0), order + 1, 2)
    }
    return {
        (a, b, c): sqrt(norm) * plane * height
        for (a, b), plane in around.items()
        for c, height in along.items()
    }
