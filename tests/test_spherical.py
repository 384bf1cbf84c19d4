"""Spherical harmonics against SciPy's, and the sums over their components."""

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y
from small_potentials import rotation

from molpool_calc.networks.spherical import DegreeSums, SphericalHarmonics

CHOICES = [(1,), (2,), (1, 2), (3,), (1, 2, 3), (4,), (2, 4), (1, 2, 3, 4)]


def units(n: int = 40) -> torch.Tensor:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(n, 3)))
    return vectors / vectors.norm(dim=1, keepdim=True)


def scipy_harmonic(degree: int, m: int, u: np.ndarray) -> np.ndarray:
    """Real, orthonormal, without the Condon–Shortley sign."""
    polar, azimuth = np.arccos(u[:, 2]), np.arctan2(u[:, 1], u[:, 0])
    value = (-1) ** m * sph_harm_y(degree, abs(m), polar, azimuth)
    if m == 0:
        return value.real
    return np.sqrt(2) * (value.real if m > 0 else value.imag)


@pytest.mark.parametrize("degrees", CHOICES)
def test_components_are_those_of_scipy(degrees):
    u = units()
    found = SphericalHarmonics(degrees).double()(u).numpy()
    expected = [
        scipy_harmonic(degree, m, u.numpy())
        for degree in degrees
        for m in range(-degree, degree + 1)
    ]
    np.testing.assert_allclose(found.T, expected, rtol=0, atol=1e-14)


def test_degree_one_is_y_z_x():
    u = units()
    found = SphericalHarmonics((1,)).double()(u)
    expected = np.sqrt(3 / (4 * np.pi)) * u[:, [1, 2, 0]]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def test_constants_stay_exact_after_a_visit_to_float32():
    harmonics, sums = SphericalHarmonics((1, 3)).double(), DegreeSums((1, 3)).double()
    values = harmonics(units()), sums(torch.ones(1, 10, dtype=torch.float64))
    harmonics, sums = harmonics.float().double(), sums.float().double()
    torch.testing.assert_close(harmonics(units()), values[0], rtol=0, atol=0)
    ones = torch.ones(1, 10, dtype=torch.float64)
    torch.testing.assert_close(sums(ones), values[1], rtol=0, atol=0)


def test_constants_are_no_weights():
    assert not SphericalHarmonics((1, 2)).state_dict()
    assert not DegreeSums((1, 2)).state_dict()


def test_first_and_second_derivatives_are_those_of_finite_differences():
    harmonics = SphericalHarmonics((1, 2, 3, 4)).double()
    vectors = units(3).requires_grad_()

    def components(vectors: torch.Tensor) -> torch.Tensor:
        return harmonics(vectors / vectors.norm(dim=1, keepdim=True))

    assert torch.autograd.gradcheck(components, (vectors,))
    assert torch.autograd.gradgradcheck(components, (vectors,))


def test_sums_of_squares_do_not_change_under_rotation_and_reflection():
    harmonics, sums = SphericalHarmonics((1, 2, 3, 4)), DegreeSums((1, 2, 3, 4))
    harmonics, sums = harmonics.double(), sums.double()
    u, weights = units(), torch.linspace(-1, 1, 40, dtype=torch.float64)

    def invariants(u: torch.Tensor) -> torch.Tensor:
        return sums(weights @ harmonics(u))

    expected = invariants(u)
    torch.testing.assert_close(invariants(u @ rotation()), expected)
    torch.testing.assert_close(invariants(-u @ rotation()), expected)


def test_sums_divide_by_the_root_of_the_number_of_components():
    chi = torch.arange(1.0, 9.0, dtype=torch.float64)[None]
    found = DegreeSums((1, 2)).double()(chi)[0]
    expected = [14 / np.sqrt(3), (16 + 25 + 36 + 49 + 64) / np.sqrt(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_expansion_repeats_each_degree_for_its_components():
    found = DegreeSums((1, 3)).expand(torch.tensor([[2.0, -1.0]]))
    assert found.tolist() == [[2.0] * 3 + [-1.0] * 7]


@pytest.mark.parametrize("degrees", [(), (0, 1), (2, 1), (1, 1), (5,)])
def test_other_degrees_are_refused(degrees):
    with pytest.raises(ValueError, match="ascending whole numbers from 1 to 4"):
        SphericalHarmonics(degrees)
    with pytest.raises(ValueError, match="ascending whole numbers from 1 to 4"):
        DegreeSums(degrees)
