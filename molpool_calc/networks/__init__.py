"""Networks turn pairs of atoms into atom features; they know no pooling and no head.

A network has ``cutoff``, ``n_features`` and ``has_vectors``, is called with atomic
numbers and ``Edges``, returns ``AtomFeatures``, and lets a pair at or beyond the
cutoff contribute exactly nothing.
"""

from typing import Any

from molpool_calc.networks.dimenet import DimeNetPlusPlus
from molpool_calc.networks.painn import PaiNN
from molpool_calc.networks.schnet import SchNet
from molpool_calc.networks.so3krates import So3krates
from molpool_calc.networks.so3krates_euclidean import So3kratesEuclidean
from molpool_calc.networks.so3krates_nonlocal import So3kratesNonlocal

NETWORKS: dict[str, Any] = {
    "painn": PaiNN,
    "dimenet++": DimeNetPlusPlus,
    "schnet": SchNet,
    "so3krates": So3krates,
    "so3krates-euclidean": So3kratesEuclidean,
    "so3krates-nonlocal": So3kratesNonlocal,
}
"""The closed table of networks: ``kind`` in a potential or a recipe → class."""

__all__ = [
    "NETWORKS",
    "DimeNetPlusPlus",
    "PaiNN",
    "SchNet",
    "So3krates",
    "So3kratesEuclidean",
    "So3kratesNonlocal",
]
