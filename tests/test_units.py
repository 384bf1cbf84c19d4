"""Units agree with ASE's to the last digits, and with CODATA to the digits ASE has."""

import ase.units
import numpy as np
import pytest
import scipy.constants
import torch
from ase.data import atomic_masses, atomic_numbers

from molpool_calc import elements, units


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BOLTZMANN", ase.units.kB),
        ("FEMTOSECOND", ase.units.fs),
        ("DEBYE", ase.units.Debye),
        ("KCAL_PER_MOL", ase.units.kcal / ase.units.mol),
        ("KJ_PER_MOL", ase.units.kJ / ase.units.mol),
        ("HARTREE", ase.units.Hartree),
        ("BOHR", ase.units.Bohr),
        ("INVERSE_CM", ase.units.invcm),
        ("COULOMB", ase.units.Hartree * ase.units.Bohr),
        ("ATOMIC_MASS", ase.units._amu),
        ("ELEMENTARY_CHARGE", ase.units._e),
        ("PLANCK", ase.units._hplanck),
        ("AVOGADRO", ase.units._Nav),
        ("SPEED_OF_LIGHT", ase.units._c),
        ("BOLTZMANN_J_PER_K", ase.units._k),
        ("VACUUM_PERMITTIVITY", ase.units._eps0),
    ],
)
def test_units_are_those_of_ase(name, expected):
    assert getattr(units, name) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("name", "constant", "factor"),
    [
        ("BOLTZMANN", "Boltzmann constant in eV/K", 1.0),
        ("HARTREE", "Hartree energy in eV", 1.0),
        ("BOHR", "Bohr radius", 1e10),
        ("INVERSE_CM", "inverse meter-electron volt relationship", 100.0),
        ("ATOMIC_MASS", "atomic mass constant", 1.0),
        ("ELEMENTARY_CHARGE", "elementary charge", 1.0),
        ("AVOGADRO", "Avogadro constant", 1.0),
        ("PLANCK", "Planck constant", 1.0),
        ("VACUUM_PERMITTIVITY", "vacuum electric permittivity", 1.0),
    ],
)
def test_units_are_those_of_nature_to_a_millionth(name, constant, factor):
    expected = factor * scipy.constants.value(constant)
    assert getattr(units, name) == pytest.approx(expected, rel=1e-6)


def test_derived_units_have_their_textbook_values():
    assert pytest.approx(14.39964548, rel=1e-7) == units.COULOMB
    assert pytest.approx(0.2081943, rel=1e-6) == units.DEBYE
    assert pytest.approx(0.0433641, rel=1e-6) == units.KCAL_PER_MOL
    assert pytest.approx(0.0982269, rel=1e-6) == units.FEMTOSECOND
    assert pytest.approx(1 / 8065.544, rel=1e-6) == units.INVERSE_CM
    e_bohr = units.BOHR / units.DEBYE
    assert e_bohr == pytest.approx(2.541746, rel=1e-6)


def test_an_oscillator_of_one_internal_unit_has_its_wavenumber():
    """sqrt(1 eV/Å²/amu) is 521.47 cm⁻¹."""
    angular_per_fs = units.FEMTOSECOND
    wavenumber = angular_per_fs * 1e15 / (2 * np.pi * units.SPEED_OF_LIGHT * 100)
    assert wavenumber == pytest.approx(521.4709, rel=1e-6)


def test_elements_have_their_symbols_and_masses():
    assert elements.symbol(6) == "C"
    assert elements.number("Cl") == 17
    masses = elements.mass_table()
    assert masses.dtype == torch.float64
    np.testing.assert_array_equal(masses.numpy(), atomic_masses)
    assert masses[8] == pytest.approx(15.999)
    assert elements.MAX_ATOMIC_NUMBER == 118
    for name, z in atomic_numbers.items():
        if z:
            assert elements.number(elements.symbol(z)) == z, name


@pytest.mark.parametrize("text", ["X", "Xx", "c", "", "6"])
def test_what_is_no_element_is_refused(text):
    with pytest.raises(
        ValueError, match=f"'{text}' is no chemical symbol; write it as"
    ):
        elements.number(text)


def test_the_table_of_masses_shares_no_memory_with_that_of_ase():
    assert not np.shares_memory(elements.mass_table().numpy(), atomic_masses)
