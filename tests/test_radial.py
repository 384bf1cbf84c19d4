"""Radial bases and cutoff functions against their formulas, and at the extremes."""

import math

import numpy as np
import pytest
import torch

from molpool_calc.networks.radial import (
    BERNSTEIN_DECAY,
    CUTOFF_FUNCTIONS,
    RADIAL_BASES,
    BernsteinBasis,
    PhysNetBasis,
    exponential_cutoff,
)

DISTANCES = torch.linspace(0.3, 4.4, 30, dtype=torch.float64)


def test_physnet_is_its_formula():
    found = PhysNetBasis(8, 5.0).double()(DISTANCES).numpy()
    near = np.exp(-5.0)
    centers = np.linspace(near, 1.0, 8)
    beta = (2 / 8 * (1 - near)) ** -2
    expected = np.exp(-beta * (np.exp(-DISTANCES.numpy())[:, None] - centers) ** 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_bernstein_is_its_formula_and_sums_to_one():
    found = BernsteinBasis(32, 4.5).double()(DISTANCES).numpy()
    s = np.exp(-BERNSTEIN_DECAY * DISTANCES.numpy())
    expected = [math.comb(31, k) * s**k * (1 - s) ** (31 - k) for k in range(32)]
    np.testing.assert_allclose(found.T, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-13)


def test_exponential_is_its_formula():
    found = exponential_cutoff(DISTANCES, 4.5)
    expected = torch.exp(-(DISTANCES**2) / ((4.5 - DISTANCES) * (4.5 + DISTANCES)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["gaussian", "physnet", "bernstein"])
def test_bases_are_finite_at_any_distance(name, dtype):
    basis = RADIAL_BASES[name](32, 4.5).to(dtype)
    distances = torch.tensor([0.0, 1e-12, 1e-5, 1.0, 80.0, 1732.0], dtype=dtype)
    distances.requires_grad_()
    values = basis(distances)
    (first,) = torch.autograd.grad(values.sum(), distances, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), distances)
    for found in (values, first, second):
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", CUTOFF_FUNCTIONS)
def test_cutoff_functions_are_zero_beyond_with_their_gradient(name):
    distances = torch.tensor([4.5, 4.6, 1732.0], dtype=torch.float64).requires_grad_()
    values = CUTOFF_FUNCTIONS[name](distances, 4.5)
    (gradient,) = torch.autograd.grad(values.sum(), distances)
    assert not values.any()
    assert not gradient.any()


@pytest.mark.parametrize("name", ["physnet", "bernstein"])
def test_constants_are_exact_in_float64_and_no_weights(name):
    basis = RADIAL_BASES[name](16, 4.5)
    assert not basis.state_dict()
    exact = RADIAL_BASES[name](16, 4.5).double()(DISTANCES)
    assert torch.equal(basis.float().double()(DISTANCES), exact)


@pytest.mark.parametrize("name", ["gaussian", "physnet", "bernstein"])
def test_a_single_function_is_refused(name):
    with pytest.raises(ValueError, match=r"n_rbf is 1, but a .* needs at least 2"):
        RADIAL_BASES[name](1, 4.5)
