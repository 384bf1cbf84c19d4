"""Registration with ASE: ``ase.io`` reads trajectories of MolPool.

A module of its own, since ASE imports it whenever ``ase.io`` is imported, in the middle
of its own imports: the plugin interface is not there yet, and would be missed for good.
"""

from typing import Any


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


h5md_format = _h5md_format()
