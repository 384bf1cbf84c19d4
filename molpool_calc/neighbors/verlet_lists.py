"""Several Verlet lists, for systems that take turns."""

from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.neighbors.backends import Backend
from molpool_calc.neighbors.verlet import VerletList


class VerletLists:
    """Several Verlet lists for systems that take turns, as the images of a NEB do.

    The images of a path have the same atoms, so a list is found by trying which of the
    kept ones covers the structure, the last used first. If none does, a new one is
    made, and the one unused for longest goes.

    Args:
        cutoff: In Å.
        skin: In Å.
        backend: As in ``neighbor_list``.
        exact: As in ``VerletList``.
        n_complete: As in ``VerletList``.
        n_lists: How many lists are kept; give at least the number of images.
        n_pairs: How many pairs all kept lists may hold (some 100 bytes each).
    """

    def __init__(
        self,
        cutoff: float,
        skin: float,
        backend: Backend = "vesin",
        *,
        exact: bool = True,
        n_complete: int | None = None,
        n_lists: int = 32,
        n_pairs: int = 2_000_000,
    ) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self.backend: Backend = backend
        self.exact, self.n_complete = exact, n_complete
        self.n_lists = n_lists
        self.n_pairs = n_pairs
        self.n_updates = 0
        self.n_builds = 0
        self._kept: list[VerletList] = []  # the last used at the end

    def update(self, batch: AtomsBatch) -> NeighborList:
        """Return the neighbor list of a batch; see ``VerletList.update``."""
        self.n_updates += 1
        for kept in reversed(self._kept):
            found = kept.reuse(batch)
            if found is not None:
                self._kept.remove(kept)
                self._kept.append(kept)
                return found
        self.n_builds += 1
        fresh = VerletList(
            self.cutoff,
            self.skin,
            self.backend,
            exact=self.exact,
            n_complete=self.n_complete,
        )
        found = fresh.update(batch)
        self._kept.append(fresh)
        while len(self._kept) > 1 and (
            len(self._kept) > self.n_lists
            or sum(kept.n_pairs_kept for kept in self._kept) > self.n_pairs
        ):
            self._kept.pop(0)
        return found
