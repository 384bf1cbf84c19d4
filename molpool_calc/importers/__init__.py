"""Published weights of other programs as potentials; no file is ever executed."""

from molpool_calc.importers.mlff import import_mlff
from molpool_calc.importers.pyg import PyGSettings, import_pyg, potential_from_pyg
from molpool_calc.importers.schnetpack import import_schnetpack
from molpool_calc.importers.schnetpack_model import (
    SchNetPackModel,
    SchNetPackOffsets,
    SchNetPackOutput,
    SchNetPackUnits,
)
from molpool_calc.importers.schnetpack_tensors import potential_from_tensors
from molpool_calc.importers.so3lr import import_so3lr

__all__ = [
    "PyGSettings",
    "SchNetPackModel",
    "SchNetPackOffsets",
    "SchNetPackOutput",
    "SchNetPackUnits",
    "import_mlff",
    "import_pyg",
    "import_schnetpack",
    "import_so3lr",
    "potential_from_pyg",
    "potential_from_tensors",
]
