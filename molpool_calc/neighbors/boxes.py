"""Regular cells for systems that lack lattice vectors."""

import numpy as np
from jaxtyping import Bool, Float


def bounding_box(
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, " 3"],
    cutoff: float,
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """Return a regular cell and its origin: zero lattice vectors are filled in.

    The new vectors are orthogonal to the periodic ones and to each other, and long
    enough for all atoms, which planar molecules and zero vectors need. Their length is
    limited so that there are not many more bins of one cutoff than atoms; matscipy and
    ASE count atoms outside to the outermost bins and so stay exact.
    """
    free = np.flatnonzero(~pbc)
    normals = np.linalg.svd(cell)[2][3 - len(free) :]
    along = positions @ normals.T
    lowest = along.min(axis=0) - cutoff
    longest = cutoff * max(30.0, len(positions) ** (1 / 3))
    length = np.minimum(along.max(axis=0) + cutoff - lowest, longest)
    box = cell.copy()
    box[free] = normals * length[:, None]
    return box, lowest @ normals
