"""Which atoms lie within the cutoff of which: exact lists, sorted canonically."""

from molpool_calc.neighbors.backends import Backend, usual_backend
from molpool_calc.neighbors.pairs import complete_pairs, dense_pairs, has_all_pairs
from molpool_calc.neighbors.search import neighbor_list
from molpool_calc.neighbors.verlet import VerletList
from molpool_calc.neighbors.verlet_lists import VerletLists

__all__ = [
    "Backend",
    "VerletList",
    "VerletLists",
    "complete_pairs",
    "dense_pairs",
    "has_all_pairs",
    "neighbor_list",
    "usual_backend",
]
