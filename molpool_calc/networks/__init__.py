"""Networks turn pairs of atoms into atom features; they know no pooling and no head.

A network has ``cutoff``, ``n_features`` and ``has_vectors``, is called with atomic
numbers and ``Edges``, returns ``AtomFeatures``, and lets a pair at or beyond the
cutoff contribute exactly nothing.
"""

from molpool_calc.networks.painn import PaiNN
from molpool_calc.networks.schnet import SchNet

NETWORKS: dict[str, type[PaiNN] | type[SchNet]] = {"painn": PaiNN, "schnet": SchNet}
"""The closed table of networks: ``kind`` in a potential or a recipe → class."""

__all__ = ["NETWORKS", "PaiNN", "SchNet"]
