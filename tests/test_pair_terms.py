"""Repulsion, electrostatics and dispersion: laws, limits and layouts."""

from math import erf, exp, inf

import numpy as np
import pytest
import torch
from ase import Atoms
from small_potentials import batch_of, crystal, dense_pairs, ethanol, water
from torch import Tensor, nn

from molpool_calc.edges import edges_from_positions
from molpool_calc.interfaces import AtomsBatch, NeighborList, PairTerm, Prediction
from molpool_calc.neighbors import complete_pairs, neighbor_list
from molpool_calc.pair_terms import TERMS
from molpool_calc.pair_terms.dispersion import FINE_STRUCTURE
from molpool_calc.pair_terms.free_atoms import C6_COEFFICIENTS, POLARIZABILITIES
from molpool_calc.pair_terms.pairs import smooth_switch
from molpool_calc.units import BOHR, COULOMB, HARTREE

CUT = 6.0
ARGUMENTS = {
    "zbl": {"cutoff": 4.5},
    "electrostatics": {"cutoff": CUT},
    "dispersion": {"cutoff": CUT},
}
EVERY = [*ARGUMENTS.items(), ("electrostatics", {}), ("dispersion", {})]
every_term = pytest.mark.parametrize(("name", "arguments"), EVERY)


def term_of(name: str, arguments: dict) -> nn.Module:
    return TERMS[name](**arguments).double()


def given(batch: AtomsBatch, *, live: bool = False) -> Prediction:
    """Charges and volumes of no particular size."""
    n = batch.positions.shape[0]
    charges = torch.linspace(-0.4, 0.5, n, dtype=batch.positions.dtype)
    ratios = torch.linspace(0.6, 1.1, n, dtype=batch.positions.dtype)
    return Prediction(
        charges=charges.requires_grad_(live),
        hirshfeld_ratios=ratios.requires_grad_(live),
    )


def energies_of(
    term: PairTerm, batch: AtomsBatch, pairs: NeighborList, given_: Prediction
) -> Tensor:
    return term(batch, edges_from_positions(batch, pairs), given_)


def pair(distance: float, symbols: str = "CO") -> Atoms:
    return Atoms(symbols, [[0, 0, 0], [0.6 * distance, 0, 0.8 * distance]])


def pair_energy(term: PairTerm, distance: float, symbols: str = "CO") -> float:
    batch = batch_of(pair(distance, symbols))
    values = energies_of(term, batch, complete_pairs(batch), given(batch))
    assert values[0] == values[1]
    return float(values.detach().sum())


def forces_of(
    term: PairTerm, atoms: Atoms, pairs: NeighborList | None = None
) -> tuple[Tensor, Tensor]:
    batch = batch_of(atoms)
    batch.positions.requires_grad_()
    if pairs is None:
        pairs = complete_pairs(batch)
    energies = energies_of(term, batch, pairs, given(batch))
    (gradient,) = torch.autograd.grad(
        energies.sum(), batch.positions, allow_unused=True
    )
    return energies.detach(), -gradient


@every_term
def test_a_term_is_a_pair_term_with_float64_energies(name: str, arguments) -> None:
    term = TERMS[name](**arguments)
    assert isinstance(term, PairTerm)
    assert term.needs <= set(Prediction.__dataclass_fields__)
    batch = batch_of(ethanol(), dtype=torch.float32)
    energies = energies_of(term, batch, complete_pairs(batch), given(batch))
    assert energies.dtype == torch.float64
    assert energies.shape == (9,)


@every_term
def test_both_layouts_give_the_same(name: str, arguments) -> None:
    term = term_of(name, arguments)
    batch = batch_of(water(), water())
    values = given(batch)
    listed = energies_of(term, batch, complete_pairs(batch), values)
    dense = energies_of(term, batch, dense_pairs(batch), values)
    torch.testing.assert_close(dense, listed, rtol=0, atol=1e-13)
    _, force = forces_of(term, ethanol())
    _, other = forces_of(term, ethanol(), dense_pairs(batch_of(ethanol())))
    torch.testing.assert_close(force, other, rtol=0, atol=1e-12)


@every_term
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_atom_does_not_see_itself(name: str, arguments, dtype) -> None:
    term = TERMS[name](**arguments).to(dtype)
    batch = batch_of(Atoms("O", [[0.1, 0.2, 0.3]]), dtype=dtype)
    batch.positions.requires_grad_()
    values = given(batch, live=True)
    energies = energies_of(term, batch, dense_pairs(batch), values)
    assert energies.tolist() == [0.0]
    inputs = (batch.positions, values.charges, values.hirshfeld_ratios)
    for gradient in torch.autograd.grad(energies.sum(), inputs, allow_unused=True):
        assert gradient is None or not gradient.any()
    listed = energies_of(term, batch, complete_pairs(batch), values)
    assert listed.tolist() == [0.0]


@pytest.mark.parametrize("name", ["electrostatics", "dispersion"])
def test_an_atom_sees_its_periodic_images(name: str) -> None:
    term = term_of(name, ARGUMENTS[name])
    atoms = Atoms("O", cell=[3.0, 9.0, 9.0], pbc=True)
    batch = batch_of(atoms)
    values = Prediction(
        charges=torch.ones(1).double(), hirshfeld_ratios=torch.ones(1).double()
    )
    energies = energies_of(term, batch, neighbor_list(batch, CUT), values)
    two = batch_of(Atoms("OO", [[0, 0, 0], [3, 0, 0]]))
    doubled = Prediction(
        charges=torch.ones(2).double(), hirshfeld_ratios=torch.ones(2).double()
    )
    # images to the left and to the right, each with half the energy
    expected = energies_of(term, two, complete_pairs(two), doubled).sum()
    assert abs(float(energies.sum() - expected)) < 1e-13
    assert float(expected) != 0.0


@every_term
def test_forces_are_minus_the_slope(name: str, arguments) -> None:
    term, atoms, step = term_of(name, arguments), ethanol(), 1e-5
    atoms.positions[1] = atoms.positions[0] + [0.7, 0.6, 0.5]  # within the repulsion
    _, forces = forces_of(term, atoms)
    assert float(forces.abs().max()) > 1e-3
    assert float(forces.sum(0).abs().max()) < 1e-12
    for atom, axis in ((0, 0), (1, 2), (4, 1), (8, 2)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            ends.append(float(forces_of(term, moved)[0].sum()))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert abs(slope + float(forces[atom, axis])) < 1e-7


@every_term
def test_second_derivatives_exist(name: str, arguments) -> None:
    term, batch = term_of(name, arguments), batch_of(water())
    pairs, values = dense_pairs(batch), given(batch)

    def total(positions: Tensor) -> Tensor:
        moved = AtomsBatch(
            **{f: getattr(batch, f) for f in AtomsBatch.__slots__ if f != "positions"},
            positions=positions,
        )
        return energies_of(term, moved, pairs, values).sum()

    assert torch.autograd.gradcheck(total, batch.positions.clone().requires_grad_())
    assert torch.autograd.gradgradcheck(total, batch.positions.clone().requires_grad_())


@pytest.mark.parametrize("name", ["electrostatics", "dispersion"])
def test_nothing_is_left_at_the_long_range_cutoff(name: str) -> None:
    term, step = term_of(name, ARGUMENTS[name]), 1e-4
    assert pair_energy(term, CUT) == 0.0
    assert pair_energy(term, CUT + 3.0) == 0.0
    assert 0.0 < abs(pair_energy(term, CUT - 0.2)) < 1e-3
    for distance in (CUT - step, CUT + step):
        energies, forces = forces_of(term, pair(distance))
        assert float(energies.abs().max()) < 1e-7
        assert float(forces.abs().max()) < 1e-4
    _, forces = forces_of(term, pair(CUT + step))
    assert not forces.any()


def test_repulsion_ends_within_its_reach() -> None:
    term = term_of("zbl", {"cutoff": 4.5, "reach": 1.5})
    assert pair_energy(term, 1.5) == 0.0
    assert 0.0 < pair_energy(term, 1.4) < 1e-1
    assert pair_energy(term, 0.5) > 50.0


def test_repulsion_is_that_of_the_nuclei_when_they_are_near() -> None:
    term = term_of("zbl", {"cutoff": 4.5})
    d = 0.001
    length = 0.8854 * BOHR / (6**0.23 + 8**0.23)
    weights = (0.18175, 0.50986, 0.28022, 0.02817)
    exponents = (3.1998, 0.94229, 0.4028, 0.20162)
    screening = sum(
        w * exp(-a * d / length) for w, a in zip(weights, exponents, strict=True)
    ) / sum(weights)
    expected = COULOMB * 48 / d * screening
    assert abs(pair_energy(term, d) / expected - 1.0) < 1e-6


def test_electrostatics_of_all_pairs_is_a_damped_coulomb_law() -> None:
    term = term_of("electrostatics", {})
    assert term.cutoff == inf
    for d in (0.5, 3.0, 40.0):
        expected = COULOMB * -0.4 * 0.5 * erf(d / 4.0) / d
        assert abs(pair_energy(term, d) - expected) < 1e-13


def test_shifted_electrostatics_follows_its_formula() -> None:
    term, end, step = term_of("electrostatics", {"cutoff": CUT}), CUT, 1e-5

    def g(r: float) -> float:
        return erf(r / 4.0) / r

    slope = (g(end + step) - g(end - step)) / (2 * step)
    for d in (1.0, 2.6, 3.1, 4.7, 5.9):
        c = (d - 0.45 * end) / (0.55 * end)
        ends = [exp(-1 / x) if x > 0 else 0.0 for x in (1 - c, c)]
        f = ends[0] / sum(ends)
        shifted = f * (g(d) - g(end)) + (1 - f) * (g(d) - g(end) - slope * (d - end))
        assert abs(pair_energy(term, d) - COULOMB * -0.2 * shifted) < 1e-9


def test_dispersion_follows_its_formula() -> None:
    term, d = term_of("dispersion", {}), 3.3
    a = [POLARIZABILITIES[5] * 0.6, POLARIZABILITIES[7] * 1.1]
    c = [C6_COEFFICIENTS[5] * 0.6**2, C6_COEFFICIENTS[7] * 1.1**2]
    mean = sum(a) / 2
    c6 = 2 * c[0] * c[1] * a[0] * a[1] / (a[0] ** 2 * c[1] + a[1] ** 2 * c[0])
    r = FINE_STRUCTURE ** (-4 / 21) * mean ** (1 / 7)
    width = -0.00078893 * r**3 + 0.04125273 * r**2 + 0.24428889 * r - 0.00433008
    gamma = 1 / (2 * width**2)
    p = 1.2 * 2 * 2.54 * mean ** (1 / 7)
    c8, c10 = 5 * c6 / gamma, 245 * c6 / (8 * gamma**2)
    x = d / BOHR
    expected = -HARTREE * sum(
        cn / (x**n + p**n) for n, cn in ((6, c6), (8, c8), (10, c10))
    )
    assert abs(pair_energy(term, d) - expected) < 1e-12
    assert abs(1 / FINE_STRUCTURE - 137.036) < 1e-4


def test_energies_of_fragments_far_apart_add_up_with_a_cutoff() -> None:
    for name, arguments in ARGUMENTS.items():
        term = term_of(name, arguments)
        first, second = ethanol(), ethanol()
        second.positions += 50.0
        batch = batch_of(first + second)
        alone = batch_of(first)
        values = given(alone)
        twice = Prediction(
            charges=torch.cat((values.charges,) * 2),
            hirshfeld_ratios=torch.cat((values.hirshfeld_ratios,) * 2),
        )
        both = energies_of(term, batch, complete_pairs(batch), twice).sum()
        one = energies_of(term, alone, complete_pairs(alone), values).sum()
        assert abs(float((both - 2 * one).detach())) < 1e-12


@pytest.mark.parametrize("name", ["electrostatics", "dispersion"])
def test_the_virial_of_a_crystal_is_that_of_a_supercell(name: str) -> None:
    term, atoms = term_of(name, ARGUMENTS[name]), crystal()
    batch, large = batch_of(atoms), batch_of(atoms.repeat((2, 1, 1)))
    values = given(batch)
    twice = Prediction(
        charges=torch.cat((values.charges,) * 2),
        hirshfeld_ratios=torch.cat((values.hirshfeld_ratios,) * 2),
    )
    one = energies_of(term, batch, neighbor_list(batch, CUT), values)
    two = energies_of(term, large, neighbor_list(large, CUT), twice)
    np.testing.assert_allclose(two, torch.cat((one, one)), rtol=0, atol=1e-12)


def test_the_switch_goes_from_one_to_zero_smoothly() -> None:
    d = torch.linspace(0.0, 4.0, 4001, dtype=torch.float64, requires_grad=True)
    values = smooth_switch(d, 1.0, 3.0)
    assert bool((values[d <= 1.0] == 1.0).all())
    assert bool((values[d >= 3.0] == 0.0).all())
    assert float(values[2000].detach()) == pytest.approx(0.5)
    (slope,) = torch.autograd.grad(values.sum(), d)
    assert bool(torch.isfinite(slope).all())
    assert float(slope.diff().abs().max()) < 5e-3  # no jump between points
    numeric = (values[2:] - values[:-2]) / 2e-3
    torch.testing.assert_close(slope[1:-1], numeric.detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("electrostatics", {"cutoff": 0.0}, "cutoff of electrostatics is 0.0 Å, but"),
        ("electrostatics", {"cutoff": inf}, "leave it out to take all pairs"),
        ("electrostatics", {"damping": -1.0}, "damping is -1.0, but must be positive"),
        ("dispersion", {"cutoff": float("nan")}, "cutoff of dispersion is nan Å"),
        ("dispersion", {"cutoff": 1.5}, "switched off over 2.0 Å, but its cutoff is 1"),
        ("dispersion", {"switching_width": 0.0}, "switching_width is 0.0, but must"),
        ("zbl", {"cutoff": -4.5}, "cutoff is -4.5, but must be positive"),
        ("zbl", {"cutoff": 4.5, "reach": 0.0}, "reach is 0.0, but must be positive"),
    ],
)
def test_wrong_arguments_are_refused(name: str, arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TERMS[name](**arguments)


@pytest.mark.parametrize(
    ("name", "message"),
    [("electrostatics", "needs charges"), ("dispersion", "needs Hirshfeld ratios")],
)
def test_what_a_term_needs_must_be_predicted(name: str, message: str) -> None:
    term, batch = TERMS[name](), batch_of(water())
    with pytest.raises(ValueError, match=f"the term {name} {message}, which no head"):
        energies_of(term.double(), batch, complete_pairs(batch), Prediction())


def test_constants_stay_exact_through_float32() -> None:
    term = TERMS["dispersion"]().float().double()
    assert pair_energy(term, 3.0) == pair_energy(TERMS["dispersion"]().double(), 3.0)
