"""MolPool: trained molecular networks with a chosen pooling as ASE calculators."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from molpool_calc._version import __version__

if TYPE_CHECKING:
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

_HOMES = {
    "MolPoolCalculator": "calculator",
    "NeuralPotential": "potential",
    "PotentialSpec": "potential",
    "bundled_names": "storage",
    "load_potential": "storage",
    "save_potential": "storage",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and ``molpool --help`` does not need it
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
