"""Molecules with diagonal valence force fields: their modes are known by kind."""

import numpy as np
from ase import Atoms

from molpool_calc.assignment import internal_coordinates, skeleton_of
from molpool_calc.assignment.motions import b_matrix
from molpool_calc.elements import covalent_radius, number
from molpool_calc.spectra import harmonic_analysis

MDYN_PER_ANGSTROM = 6.2415091  # eV/Å²


def radii_of(symbols):
    return np.array([covalent_radius(number(symbol)) for symbol in symbols])


def skeleton(atoms: Atoms):
    symbols = tuple(atoms.get_chemical_symbols())
    return skeleton_of(symbols, atoms.positions, radii_of(symbols))


def force_constant(motion: str) -> float:
    """Textbook sizes, in eV/Å² and eV/rad²."""
    if "stretch" in motion:
        size = 12.0 if "=" in motion else 8.0 if "O–H" in motion else 5.0
    else:
        size = 0.03 if "torsion" in motion else 0.6
    return size * MDYN_PER_ANGSTROM


def vibrations(atoms: Atoms, dipole_derivatives=None):
    """Coordinates and harmonic analysis of a molecule taken as relaxed."""
    coordinates = internal_coordinates(skeleton(atoms))
    b = b_matrix(coordinates, atoms.positions)
    # of normalised combinations
    constants = np.array(
        [
            force_constant(c.motion) / sum(weight**2 for weight, _ in c.terms)
            for c in coordinates
        ]
    )
    slopes = np.zeros((3 * len(atoms), 3))
    if dipole_derivatives is not None:
        slopes = dipole_derivatives
    hessian = (b.T * constants) @ b
    spectrum = harmonic_analysis(atoms.positions, atoms.get_masses(), hessian, slopes)
    return coordinates, spectrum
