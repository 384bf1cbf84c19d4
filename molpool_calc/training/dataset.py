"""Labelled frames in internal units, and what can be said of them before training."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from molpool_calc.elements import symbol


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Dataset:
    """Frames one after another: frame i holds atoms ``offsets[i]:offsets[i + 1]``.

    eV, Å, e, e·Å and e²Å²/eV. ``charges`` are total charges. ``split`` holds the
    file's own words (``train``, ``valid``, ``test``, …). ``sha256`` is that of the
    file. ``scalars`` are further molecular properties by name, ``weights`` fractions
    of the atoms in them. A property is ``None`` where the file has none or no unit was
    stated.
    """

    offsets: Int[np.ndarray, " frames_plus_one"]
    numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    cells: Float[np.ndarray, "frames 3 3"]
    pbc: Bool[np.ndarray, "frames 3"]
    charges: Float[np.ndarray, " frames"]
    energy: Float[np.ndarray, " frames"] | None
    forces: Float[np.ndarray, "atoms 3"] | None
    dipole: Float[np.ndarray, "frames 3"] | None
    polarizability: Float[np.ndarray, "frames 3 3"] | None
    scalars: Mapping[str, Float[np.ndarray, " frames"]]
    weights: Mapping[str, Float[np.ndarray, " atoms"]]
    split: Shaped[np.ndarray, " frames"] | None
    sha256: str

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Int[np.ndarray, " frames"]:
        """Number of atoms of each frame."""
        return np.diff(self.offsets)

    def atoms_of(self, frame: int) -> slice:
        """Return where the atoms of a frame stand."""
        return slice(int(self.offsets[frame]), int(self.offsets[frame + 1]))

    def select(self, indices: Int[np.ndarray, " chosen"]) -> "Dataset":
        """Return the chosen frames, in the order given.

        Raises:
            IndexError: an index is outside the data.
        """
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"frame indices must lie in 0 … {len(self) - 1}")
        sizes = self.sizes[indices]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        shift = self.offsets[indices] - offsets[:-1]
        atoms = np.arange(offsets[-1]) + np.repeat(shift, sizes)
        return Dataset(
            offsets=offsets,
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            cells=self.cells[indices],
            pbc=self.pbc[indices],
            charges=self.charges[indices],
            energy=None if self.energy is None else self.energy[indices],
            forces=None if self.forces is None else self.forces[atoms],
            dipole=None if self.dipole is None else self.dipole[indices],
            polarizability=(
                None if self.polarizability is None else self.polarizability[indices]
            ),
            scalars={name: x[indices] for name, x in self.scalars.items()},
            weights={name: x[atoms] for name, x in self.weights.items()},
            split=None if self.split is None else self.split[indices],
            sha256=self.sha256,
        )


def count_elements(
    dataset: Dataset,
) -> tuple[Int[np.ndarray, " elements"], Float[np.ndarray, "frames elements"]]:
    """Return the elements present and how many atoms of each every frame has."""
    elements, column = np.unique(dataset.numbers, return_inverse=True)
    counts = np.zeros((len(dataset), len(elements)))
    frame = np.repeat(np.arange(len(dataset)), dataset.sizes)
    np.add.at(counts, (frame, column), 1.0)
    return elements, counts


def fit_reference_energies(dataset: Dataset) -> dict[int, float]:
    """Return one energy per element (eV) that explains the energies best.

    Least squares of the total energies on the element counts. The compositions of
    one molecule, or of molecules with dependent formulas, leave some combinations
    of elements undetermined; of all solutions the one of least norm is taken. It
    fits the frames at hand as well as any other, but its values are then no atomic
    energies, and say nothing about a composition outside the data.

    Raises:
        ValueError: the data hold no energies.
    """
    if dataset.energy is None:
        raise ValueError("reference energies need energies, and the data hold none")
    return fit_elements(dataset, dataset.energy)


def fit_elements(
    dataset: Dataset, values: Float[np.ndarray, " frames"]
) -> dict[int, float]:
    """Return one number per element whose sums explain the values best."""
    elements, counts = count_elements(dataset)
    solution, *_ = np.linalg.lstsq(counts, values, rcond=None)
    return {int(z): float(value) for z, value in zip(elements, solution, strict=True)}


def sum_reference_energies(
    dataset: Dataset, reference_energies: Mapping[int, float]
) -> Float[np.ndarray, " frames"]:
    """Return the sum of the reference energies (eV) of the atoms of each frame.

    Raises:
        ValueError: an element of the data has no reference energy.
    """
    elements, counts = count_elements(dataset)
    missing = [int(z) for z in elements if int(z) not in reference_energies]
    if missing:
        raise ValueError(
            f"no reference energy is given for {', '.join(map(symbol, missing))}; "
            "give one for every element of the data, or none to have them fitted"
        )
    energies = np.array([reference_energies[int(z)] for z in elements])
    return np.asarray(counts @ energies)
