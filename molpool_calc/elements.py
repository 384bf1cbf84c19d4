"""Symbols, standard atomic masses (amu) and radii (Å), as ASE tabulates them."""

import torch
from ase.data import (
    atomic_masses,
    atomic_numbers,
    chemical_symbols,
    covalent_radii,
)
from jaxtyping import Float
from torch import Tensor

MAX_ATOMIC_NUMBER = len(atomic_masses) - 1


def symbol(atomic_number: int) -> str:
    """Return the chemical symbol, e.g. ``"C"`` for 6."""
    return str(chemical_symbols[atomic_number])


def number(chemical_symbol: str) -> int:
    """Return the atomic number of a chemical symbol.

    Raises:
        ValueError: the symbol names no element.
    """
    if chemical_symbol not in atomic_numbers or chemical_symbol == "X":
        raise ValueError(
            f"{chemical_symbol!r} is no chemical symbol; write it as in 'H' or 'Cl'"
        )
    return int(atomic_numbers[chemical_symbol])


def mass_table() -> Float[Tensor, " elements"]:
    """Return the standard mass of every atomic number, float64, index = number."""
    return torch.tensor(atomic_masses, dtype=torch.float64)


def covalent_radius(atomic_number: int) -> float:
    """Return the covalent radius in Å (Cordero et al. 2008, Dalton Trans. 2832)."""
    return float(covalent_radii[atomic_number])


def covalent_radius_table() -> Float[Tensor, " elements"]:
    """Return the covalent radius (Å) of every atomic number, as `covalent_radius`."""
    return torch.tensor(covalent_radii, dtype=torch.float64)
