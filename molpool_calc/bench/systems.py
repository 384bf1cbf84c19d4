"""Structures to time: those that users name, and boxes of water of any size."""

import re

import numpy as np
from ase import Atoms

from molpool_calc.molecules import molecule_names, read_system

BOX = re.compile(r"water-([0-9]+)")
OXYGEN_HYDROGEN, ANGLE = 0.9572, 104.52
"""Å and degrees, the gas-phase molecule (Benedict, Gailar, Plyler 1956)."""
SPACING = 3.107
"""Å between molecules on a cubic lattice, which gives liquid water at 298 K."""
SEED = 2024


def bench_system(name: str) -> Atoms:
    """Return the structure of a name.

    Args:
        name: ``water-N`` for a periodic box of N molecules, N being a cube, else as in
            ``molecules.read_system``.

    Raises:
        ValueError: N is no cube, or there is no such structure.

    Example:
        >>> len(bench_system("water-64"))
        192
    """
    box = BOX.fullmatch(name)
    if box is not None:
        return water_box(int(box[1]))
    try:
        return read_system(name)
    except ValueError as error:
        if name in molecule_names():
            raise
        raise ValueError(f"{error}; a box of water is named water-64") from error


def water_box(n_molecules: int) -> Atoms:
    """Return a periodic cube of rigid molecules on a lattice, turned at random.

    It has the density of the liquid, and so its number of pairs, but not its structure.
    """
    side = round(n_molecules ** (1 / 3))
    if side < 1 or side**3 != n_molecules:
        raise ValueError(
            f"water-{n_molecules} is no box: the number of molecules must be a cube, "
            "such as 64, 512 or 4096"
        )
    rng = np.random.default_rng(SEED)
    half = np.radians(ANGLE) / 2
    arm = OXYGEN_HYDROGEN * np.array([np.sin(half), 0.0, np.cos(half)])
    molecule = np.array([np.zeros(3), arm, arm * [-1.0, 1.0, 1.0]])
    turned = np.einsum("mij,aj->mai", _rotations(rng, n_molecules), molecule)
    centers = SPACING * np.indices((side,) * 3).reshape(3, -1).T
    return Atoms(
        "OHH" * n_molecules,
        (centers[:, None, :] + turned).reshape(-1, 3),
        cell=np.eye(3) * SPACING * side,
        pbc=True,
    )


def _rotations(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return rotation matrices, uniform in the group: those of random quaternions."""
    q = rng.normal(size=(n, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)
