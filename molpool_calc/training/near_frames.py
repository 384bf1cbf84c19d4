"""Pairs of frames of one molecule that lie close together, laid on each other."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from molpool_calc.training.dataset import Dataset

MAX_GROUPS = 8
MAX_FRAMES = 300
MAX_RMSD = 0.25  # Å; beyond it the trapezoid of the work misses anharmonic terms
MIN_PAIRS = 10


def work_and_energy(
    dataset: Dataset,
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]] | None:
    """Return the work −½ (F_a + F_b)·(r_b − r_a) and E_b − E_a of near frames, eV.

    Frames with the same atoms in the same order, charge and no periodicity are
    compared, each with its nearest in interatomic distances, rotated onto it
    (Kabsch 1976). The nearer half of all pairs is kept: the trapezoid is exact to
    second order in the displacement. ``None`` where there are too few.
    """
    if dataset.energy is None or dataset.forces is None:
        return None
    pairs = [pair for group in _groups(dataset) for pair in _pairs(dataset, group)]
    table = np.array(pairs).reshape(-1, 3)
    table = table[table[:, 0].argsort(kind="stable")][: (len(table) + 1) // 2]
    table = table[table[:, 0] <= MAX_RMSD]
    return None if len(table) < MIN_PAIRS else (table[:, 1], table[:, 2])


def _groups(dataset: Dataset) -> list[Int[np.ndarray, " frames"]]:
    """Return the frames of each of the molecules with most frames, evenly thinned."""
    groups: dict[tuple[bytes, float], list[int]] = {}
    for frame in np.flatnonzero(~dataset.pbc.any(axis=1)).tolist():
        numbers = dataset.numbers[dataset.atoms_of(frame)]
        key = (numbers.tobytes(), float(dataset.charges[frame]))
        if len(numbers) > 1:
            groups.setdefault(key, []).append(frame)
    largest = sorted(groups.values(), key=len, reverse=True)[:MAX_GROUPS]
    return [evenly(np.array(group), MAX_FRAMES) for group in largest if len(group) > 1]


def evenly(items: Int[np.ndarray, " items"], n: int) -> Int[np.ndarray, " chosen"]:
    """Return at most ``n`` of the items, evenly spaced."""
    if len(items) <= n:
        return items
    return np.asarray(items[np.linspace(0, len(items) - 1, n).astype(int)])


def _pairs(
    dataset: Dataset, group: Int[np.ndarray, " frames"]
) -> Iterator[tuple[float, float, float]]:
    """Yield root-mean-square displacement, work and energy difference."""
    assert dataset.energy is not None
    assert dataset.forces is not None
    atoms = [dataset.atoms_of(frame) for frame in group.tolist()]
    positions = np.stack([dataset.positions[a] for a in atoms])
    forces = np.stack([dataset.forces[a] for a in atoms])
    energy = dataset.energy[group]
    positions = positions - positions.mean(axis=1, keepdims=True)
    for a, b in enumerate(_nearest(positions)):
        rotation = _rotation_onto(positions[a], positions[b])
        displacement = positions[b] @ rotation - positions[a]
        rmsd = np.sqrt((displacement**2).sum(axis=1).mean())
        work = -0.5 * ((forces[a] + forces[b] @ rotation) * displacement).sum()
        yield float(rmsd), float(work), float(energy[b] - energy[a])


def _nearest(positions: Float[np.ndarray, "frames n 3"]) -> list[int]:
    """Return the frame most like each frame in its interatomic distances."""
    i, j = np.triu_indices(positions.shape[1], 1)
    distances = np.linalg.norm(positions[:, i] - positions[:, j], axis=2)
    square = (distances**2).sum(axis=1)
    gap = square[:, None] + square[None, :] - 2.0 * distances @ distances.T
    np.fill_diagonal(gap, np.inf)
    return [int(frame) for frame in gap.argmin(axis=1)]


def _rotation_onto(
    target: Float[np.ndarray, "n 3"], moved: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "3 3"]:
    """Return the proper rotation R with ``moved @ R`` closest to ``target``."""
    left, _, right = np.linalg.svd(moved.T @ target)
    sign = np.sign(np.linalg.det(left @ right))
    return np.asarray(left @ np.diag([1.0, 1.0, sign]) @ right)
