"""MolPool: trained molecular networks with a chosen pooling as ASE calculators."""

from molpool_calc._version import __version__

__all__ = ["__version__"]
