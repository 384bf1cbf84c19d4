"""Registration with ASE: ``ase info --plugins`` lists MolPool, ``ase.io`` its files.

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


def _h5md_format() -> Any:
    try:
        from ase.utils.plugins import ExternalIOFormat  # noqa: PLC0415 - may lack
    except ImportError:
        return None
    return ExternalIOFormat(
        desc="trajectory of a MolPool run (H5MD)",
        code="+B",
        module="molpool_calc.ase_trajectory",
        glob="trajectory.h5",
        # the signature of HDF5, and the group of H5MD
        magic_regex=rb"\x89HDF\r\n\x1a\n.*h5md.*molpool",
    )


__ase_plugins__ = _plugins()
h5md_format = _h5md_format()
