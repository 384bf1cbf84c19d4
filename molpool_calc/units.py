"""Units: eV, Å, e, amu everywhere; the few named conversions, and no others.

The base constants are those of CODATA 2014 that ASE uses, so that energies and
times agree with ASE to the last digit. Time inside MolPool is ASE's unit,
Å·sqrt(amu/eV); femtoseconds occur only in arguments whose name says so.
"""

from math import pi, sqrt

SPEED_OF_LIGHT = 299792458.0  # m/s, exact
PLANCK = 6.626070040e-34  # J s
AVOGADRO = 6.022140857e23  # 1/mol
BOLTZMANN_J_PER_K = 1.38064852e-23
ELEMENTARY_CHARGE = 1.6021766208e-19  # C
ATOMIC_MASS = 1.660539040e-27  # kg
VACUUM_PERMITTIVITY = 1.0 / (4e-7 * pi * SPEED_OF_LIGHT**2)  # F/m

BOLTZMANN = BOLTZMANN_J_PER_K / ELEMENTARY_CHARGE
"""Boltzmann constant in eV/K."""

FEMTOSECOND = 1e-15 * 1e10 / sqrt(ATOMIC_MASS / ELEMENTARY_CHARGE)
"""One femtosecond in the internal unit of time, Å·sqrt(amu/eV)."""

DEBYE = 1e-21 / SPEED_OF_LIGHT / (ELEMENTARY_CHARGE * 1e-10)
"""One Debye in e·Å."""

KCAL_PER_MOL = 4184.0 / AVOGADRO / ELEMENTARY_CHARGE
"""One kcal/mol in eV."""

KJ_PER_MOL = 1000.0 / AVOGADRO / ELEMENTARY_CHARGE
"""One kJ/mol in eV."""

HARTREE = 27.211386024367243
"""One Hartree in eV."""

BOHR = 0.5291772105638411
"""One Bohr radius in Å."""

BAR = 1e5 * 1e-30 / ELEMENTARY_CHARGE
"""One bar in eV/Å³."""

INVERSE_CM = PLANCK * SPEED_OF_LIGHT * 100.0 / ELEMENTARY_CHARGE
"""Energy of a photon of 1 cm⁻¹, in eV."""

COULOMB = HARTREE * BOHR
"""e²/(4πε₀) in eV·Å: multiply a polarizability in e²Å²/eV by it to get Å³."""

# Names under which files and options state units, with their value in ours.
ENERGY_UNITS = {
    "eV": 1.0,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
    "Hartree": HARTREE,
}
DIPOLE_UNITS = {"e*Angstrom": 1.0, "Debye": DEBYE, "a.u.": BOHR}
POLARIZABILITY_UNITS = {
    "e^2*Angstrom^2/eV": 1.0,
    "Angstrom^3": 1.0 / COULOMB,
    "a.u.": BOHR**2 / HARTREE,
}
SCALAR_UNITS = {
    **{unit: (factor, "eV") for unit, factor in ENERGY_UNITS.items()},
    "e*Angstrom": (1.0, "e*Angstrom"),
    "Debye": (DEBYE, "e*Angstrom"),
    "e^2*Angstrom^2/eV": (1.0, "e^2*Angstrom^2/eV"),
    "Angstrom^3": (1.0 / COULOMB, "e^2*Angstrom^2/eV"),
    "1": (1.0, "1"),
}
"""Units of any molecular number, with their value and the name of ours."""
