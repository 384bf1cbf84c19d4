"""Energies of pairs of atoms beside the network, at short and at long range.

A pair term has ``cutoff`` and ``needs``, is called with a batch, all pairs and the
prediction of the heads, and returns the energies of the atoms.
"""

from molpool_calc.pair_terms.dispersion import QDODispersion
from molpool_calc.pair_terms.electrostatics import DampedElectrostatics
from molpool_calc.pair_terms.zbl import ZBLRepulsion

TERMS: dict[
    str, type[ZBLRepulsion] | type[DampedElectrostatics] | type[QDODispersion]
] = {
    "zbl": ZBLRepulsion,
    "electrostatics": DampedElectrostatics,
    "dispersion": QDODispersion,
}
"""The closed table of pair terms: name in a potential → class."""

__all__ = ["TERMS", "DampedElectrostatics", "QDODispersion", "ZBLRepulsion"]
