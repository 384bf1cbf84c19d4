"""Registration with ASE: ``ase info --plugins`` lists MolPool.

ASE imports this module for every user of plugins, so nothing here may fail: its plugin
interface is experimental, and an ASE without it, or with another one, sees no plugin.
"""

from typing import Any


def _plugins() -> set[Any]:
    try:
        from ase._4.plugins.plugin import CalculatorPlugin  # noqa: PLC0415 - may lack
    except ImportError:
        return set()
    try:
        plugin = CalculatorPlugin(
            "molpool",
            citation="SchNet (2018), PaiNN (2021); see the card of each potential",
            implementation="molpool_calc.MolPoolCalculator",
        )
    except (AttributeError, TypeError, ValueError):
        return set()
    return {plugin}


__ase_plugins__ = _plugins()
