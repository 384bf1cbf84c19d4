"""MolPool: trained molecular networks with a chosen pooling as ASE calculators."""

from molpool_calc._version import __version__
from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.potential import NeuralPotential, PotentialSpec
from molpool_calc.storage import bundled_names, load_potential, save_potential

__all__ = [
    "MolPoolCalculator",
    "NeuralPotential",
    "PotentialSpec",
    "__version__",
    "bundled_names",
    "load_potential",
    "save_potential",
]
