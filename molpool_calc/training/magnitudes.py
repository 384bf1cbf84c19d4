"""Do the magnitudes of the data agree with the units the recipe states?"""

import numpy as np
from ase.data import covalent_radii
from ase.geometry import get_distances
from jaxtyping import Bool, Float, Int

from molpool_calc.training.dataset import Dataset
from molpool_calc.training.near_frames import evenly, work_and_energy
from molpool_calc.units import BOHR, COULOMB, HARTREE, KCAL_PER_MOL, KJ_PER_MOL

N_FRAMES = 200

NOBLE_GASES = (2, 10, 18, 36, 54)
"""Elements without bonds, left out of the check of lengths."""

BOND_RATIO = (0.7, 1.4)
"""Nearest distance over the sum of covalent radii, median; 0.9 to 1.03 in data of
organic molecules, metals and salts 0.95 to 1.1. Bohr for Å is a factor of 1.89."""

FORCE_RMS = (0.1, 8.0)
"""eV/Å per component; molecules between 100 K and a few 1000 K have 0.3 to 5."""

STIFFNESS = (12.0, 75.0)
"""eV/Å²; Si-H 17, P-H 19, S-H 27, C-H 31, N-H 42, O-H 50, F-H 60 in molecules (2.8 to
9.7 mdyn/Å, from their stretching wavenumbers)."""

WORK_SLOPE = (0.75, 1.33)
"""Energy differences over work; 0.97 to 1.05 where frames are near each other."""

BOND_DIPOLE = (0.1, 0.75)
"""Dipole over the sum of bond dipoles of :func:`bond_charges`, e; 0.14 to 0.64 for
150 organic molecules, water and their clusters. Debye for e·Å is a factor of 4.8."""

VOLUME_RATIO = (0.4, 2.5)
"""Mean polarizability over the sum of atomic ones; atomic units for Å³ are a factor
of 6.7, Å³ for e²Å²/eV 14.4."""

ELECTRONEGATIVITY = dict(
    zip(
        (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 34, 35, 53),
        (2.20, 2.04, 2.55, 3.04, 3.44, 3.98, 1.90, 2.19, 2.58, 3.16, 2.55, 2.96, 2.66),
        strict=True,
    )
)
"""Pauling's scale."""

ATOMIC_POLARIZABILITY = dict(
    zip(
        (1, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53),
        (0.39, 1.15, 1.0, 0.6, 0.3, 3.0, 1.6, 2.9, 2.3, 3.3, 5.4),
        strict=True,
    )
)
"""Å³, rounded from the atomic hybrid components of Miller, J. Am. Chem. Soc. 112
(1990) 8533; silicon estimated."""

MISREADINGS = {
    "Bohr and Å": 1.0 / BOHR,
    "kcal/mol and kJ/mol": KCAL_PER_MOL / KJ_PER_MOL,
    "eV and kcal/mol": 1.0 / KCAL_PER_MOL,
    "Hartree and eV": HARTREE,
    "eV and kJ/mol": 1.0 / KJ_PER_MOL,
    "Hartree and kcal/mol": HARTREE / KCAL_PER_MOL,
    "Hartree and kJ/mol": HARTREE / KJ_PER_MOL,
}
"""What the work of the forces tells apart, and by which factor."""


def check_magnitudes(dataset: Dataset, where: str) -> None:
    """Raise ValueError where the data contradict their units.

    Lengths are judged by the bonds; forces by how stiff they make the bonds of
    hydrogen, failing that by their size; energies by the work of the forces between
    near frames, which also tells a gradient from a force; dipoles of neutral
    molecules by their bonds; polarizabilities by their atoms. What a check cannot
    judge, it lets pass: energies without forces or without near frames, or of several
    electronic states, dipoles of hydrocarbons, e·Å for atomic units.

    Args:
        dataset: in what its reader took for internal units.
        where: the name of the file.
    """
    sample = dataset.select(evenly(np.arange(len(dataset)), N_FRAMES))
    _check_lengths(sample, where)
    _check_work(dataset, where)
    _check_stiffness(sample, where)
    _check_dipoles(sample, where)
    _check_polarizabilities(sample, where)


def _check_lengths(sample: Dataset, where: str) -> None:
    ratios = np.concatenate(
        [_nearest_ratio(sample, frame) for frame in range(len(sample))]
    )
    if ratios.size and not _within(ratio := float(np.median(ratios)), BOND_RATIO):
        raise ValueError(
            f"{where}: the distances between neighbours are {ratio:.2f} times the sums "
            "of their covalent radii, where Bohr taken for Å makes 1.9 and the reverse "
            "0.5; check units.length"
        )


def _nearest_ratio(sample: Dataset, frame: int) -> Float[np.ndarray, " atoms"]:
    """Return the nearest distance of each atom over the sum of covalent radii."""
    numbers = sample.numbers[sample.atoms_of(frame)]
    bonding = ~np.isin(numbers, NOBLE_GASES)
    numbers, distances = numbers[bonding], _distances(sample, frame, bonding)
    if len(numbers) < 2:  # noqa: PLR2004 (a pair)
        return np.zeros(0)
    ratios = distances / _radius_sums(numbers)
    np.fill_diagonal(ratios, np.inf)
    return np.asarray(ratios.min(axis=1))


def _distances(
    sample: Dataset, frame: int, chosen: Bool[np.ndarray, " atoms"]
) -> Float[np.ndarray, "chosen chosen"]:
    positions = sample.positions[sample.atoms_of(frame)][chosen]
    cell, pbc = sample.cells[frame], sample.pbc[frame]
    _, distances = get_distances(  # type: ignore[no-untyped-call]
        positions, cell=cell if pbc.any() else None, pbc=pbc if pbc.any() else None
    )
    return np.asarray(distances)


def _radius_sums(numbers: Int[np.ndarray, " atoms"]) -> Float[np.ndarray, "a a"]:
    radii = covalent_radii[numbers]
    return np.asarray(radii[:, None] + radii[None, :])


def _check_work(dataset: Dataset, where: str) -> None:
    found = work_and_energy(dataset)
    if found is None:
        return
    correlation, slope = _line(*found)
    if abs(correlation) < 0.9:  # noqa: PLR2004 (several electronic states)
        return
    if correlation < 0.0:
        raise ValueError(
            f"{where}: the forces point uphill, as gradients do; name them with a "
            "minus sign under keys, forces = '-…'"
        )
    if not _within(slope, WORK_SLOPE):
        distance = {
            name: abs(abs(np.log(slope)) - np.log(factor))
            for name, factor in MISREADINGS.items()
        }
        name = min(distance, key=lambda name: distance[name])
        hint = f", as if {name} were mixed up" if distance[name] < 0.2 else ""  # noqa: PLR2004
        raise ValueError(
            f"{where}: between near frames the energy changes by {slope:.3g} times the "
            f"work of the forces{hint}; check units.energy and units.forces"
        )


def _line(
    x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"]
) -> tuple[float, float]:
    """Return correlation and slope of y against x; the slope is that of both errors."""
    if not len(x):
        return 0.0, 0.0
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    if norm == 0.0:
        return 0.0, 0.0
    correlation = float((x * y).sum()) / norm
    slope = float(np.sqrt((y**2).sum() / (x**2).sum()))
    return correlation, slope if correlation > 0.0 else -slope


def _check_stiffness(sample: Dataset, where: str) -> None:
    if sample.forces is None:
        return
    correlation, slope = _line(*_hydrogen_bond_forces(sample))
    stiffness, rms = -slope, float(np.sqrt((sample.forces**2).mean()))
    if correlation > -0.8:  # noqa: PLR2004 (no hydrogen, or nothing moves)
        fine, found = _within(rms, FORCE_RMS), f"forces of {rms:.3g} eV/Å (rms)"
        usual = f"moving molecules have {FORCE_RMS[0]} to {FORCE_RMS[1]}"
    else:
        fine = _within(stiffness, STIFFNESS)
        found = f"bonds of hydrogen with {stiffness:.3g} eV/Å² of stiffness"
        usual = "they have 17 (Si-H) to 50 (O-H)"
    if not fine:
        raise ValueError(
            f"{where} holds {found}, where {usual}; check units.energy and "
            "units.forces, or say check_units = false if that is right"
        )


def _hydrogen_bond_forces(
    sample: Dataset,
) -> tuple[Float[np.ndarray, " bonds"], Float[np.ndarray, " bonds"]]:
    """Return lengths of X-H bonds and the forces on H along them, less their means.

    The means are those of each element X, so that only the stretching remains.
    """
    assert sample.forces is not None
    rows: dict[int, list[tuple[float, float]]] = {}
    for frame in np.flatnonzero(~sample.pbc.any(axis=1)).tolist():
        atoms = sample.atoms_of(frame)
        numbers, positions = sample.numbers[atoms], sample.positions[atoms]
        distances = np.linalg.norm(positions[:, None] - positions, axis=2)
        distances[:, numbers == 1] = np.inf
        for h in np.flatnonzero(numbers == 1):
            x = int(distances[h].argmin())
            length = float(distances[h, x])
            if length < 1.3 * (covalent_radii[1] + covalent_radii[numbers[x]]):
                along = sample.forces[atoms][h] @ (positions[h] - positions[x])
                rows.setdefault(int(numbers[x]), []).append((length, along / length))
    centered = [np.array(table) - np.mean(table, axis=0) for table in rows.values()]
    table = np.concatenate([np.zeros((0, 2)), *centered])
    return table[:, 0], table[:, 1]


def bond_charges(
    numbers: Int[np.ndarray, " atoms"], distances: Float[np.ndarray, "atoms atoms"]
) -> Float[np.ndarray, " atoms"]:
    """Return charges, up to a scale, that the electronegativities χ give the atoms.

    Each bond moves ``(χ_j − χ_i) (r_cov / r)⁴`` from atom i to j: the power lets
    multiple bonds, which are short, count for more.
    """
    chi = np.zeros(len(covalent_radii))
    chi[list(ELECTRONEGATIVITY)] = list(ELECTRONEGATIVITY.values())
    sums = _radius_sums(numbers)
    bonded = (distances < 1.3 * sums) & (distances > 0.0)
    strength = np.where(bonded, sums / np.where(bonded, distances, 1.0), 0.0) ** 4
    difference = chi[numbers][None, :] - chi[numbers][:, None]
    return np.asarray((difference * strength).sum(axis=1))


def _check_dipoles(sample: Dataset, where: str) -> None:
    if sample.dipole is None:
        return
    pairs = []
    labelled = np.isfinite(sample.dipole).all(axis=1)
    isolated = (sample.charges == 0.0) & ~sample.pbc.any(axis=1)
    for frame in np.flatnonzero(labelled & isolated):
        atoms = sample.atoms_of(int(frame))
        numbers = sample.numbers[atoms]
        if np.isin(numbers, list(ELECTRONEGATIVITY)).all():
            every = np.ones(len(numbers), dtype=bool)
            charges = bond_charges(numbers, _distances(sample, int(frame), every))
            pairs.append((charges @ sample.positions[atoms], sample.dipole[frame]))
    if not pairs:
        return
    expected, given = (np.array(column) for column in zip(*pairs, strict=True))
    size = float((expected**2).sum())
    norm = np.sqrt(size * float((given**2).sum()))
    cosine = float((expected * given).sum()) / norm if norm else 0.0
    if np.sqrt(size / len(pairs)) < 0.3 or abs(cosine) < 0.8:  # noqa: PLR2004
        return  # hardly polar, or bonds do not explain it
    _judge_dipoles(cosine, float((expected * given).sum()) / size, where)


def _judge_dipoles(cosine: float, slope: float, where: str) -> None:
    if cosine < 0.0:
        raise ValueError(
            f"{where}: the dipoles point from plus to minus; turn their sign, since "
            "they point from the negative to the positive end"
        )
    if not _within(slope, BOND_DIPOLE):
        raise ValueError(
            f"{where}: the dipoles are {slope / 0.27:.2g} times what the bonds let "
            "expect, where Debye taken for e·Å makes 4.8 and the reverse 0.2; check "
            "units.dipole"
        )


def _check_polarizabilities(sample: Dataset, where: str) -> None:
    if sample.polarizability is None:
        return
    volumes = np.trace(sample.polarizability, axis1=1, axis2=2) / 3.0 * COULOMB
    table = np.full(len(covalent_radii), np.nan)
    table[list(ATOMIC_POLARIZABILITY)] = list(ATOMIC_POLARIZABILITY.values())
    expected = np.add.reduceat(table[sample.numbers], sample.offsets[:-1])
    known = np.isfinite(expected) & np.isfinite(volumes)  # partly labelled
    if not known.any():
        return
    ratio = float(volumes[known].sum() / expected[known].sum())
    if not _within(ratio, VOLUME_RATIO):
        raise ValueError(
            f"{where}: the polarizabilities are {ratio:.2g} times what the atoms let "
            "expect; check units.polarizability"
        )


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
