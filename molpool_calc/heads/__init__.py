"""Heads turn atom features into a property: before (per atom) → pooling → after.

A head names the properties it gives, says whether it needs vector features, and fills
the matching fields of a ``Prediction``. It never looks into the network or pooling.
"""

from typing import Any

from molpool_calc.heads.energy import EnergyHead
from molpool_calc.heads.hirshfeld import HirshfeldHead
from molpool_calc.heads.protocol import Head
from molpool_calc.heads.readout import Readout, make_pooling
from molpool_calc.heads.scalar import ScalarHead
from molpool_calc.heads.tensors import DipoleHead, PolarizabilityHead

HEADS: dict[str, Any] = {
    "energy": EnergyHead,
    "dipole": DipoleHead,
    "hirshfeld": HirshfeldHead,
    "polarizability": PolarizabilityHead,
    "scalar": ScalarHead,
}
"""The closed table of heads: ``kind`` in a potential or a recipe → class.

The kind of a head is its name unless stated; a ``scalar`` head has any other name.
"""

__all__ = [
    "HEADS",
    "DipoleHead",
    "EnergyHead",
    "Head",
    "HirshfeldHead",
    "PolarizabilityHead",
    "Readout",
    "ScalarHead",
    "make_pooling",
]
