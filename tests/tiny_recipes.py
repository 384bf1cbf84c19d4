"""Recipes of trainings that take seconds: ethanol frames, and an exact toy water."""

import shutil
from pathlib import Path

import numpy as np
from ase import Atoms

from molpool_calc.spectra import HarmonicSpectrum, harmonic_analysis

DATA = Path(__file__).parent / "data" / "ethanol_120.npz"
RECIPE = """\
[potential]
name = "tiny"
level_of_theory = "test data"
license = "MIT"
description = "Too small a network for anything but tests."

[data]
file = "{file}"
check_units = false
units = {{ energy = "eV", length = "Angstrom", {units} }}
split = {{ train = 16, valid = 6, test = 7, seed = 3 }}

[network]
kind = "painn"
n_features = {n_features}
n_interactions = 1
n_rbf = 6
cutoff = 4.0
max_atomic_number = 8

{heads}

[loss]
{loss}

[training]
{training}
"""
HEADS = "[heads.energy]\n[heads.dipole]"


def write_recipe(
    folder: Path,
    *,
    name: str = "tiny.toml",
    units: str = 'dipole = "e*Angstrom"',
    heads: str = HEADS,
    loss: str = "dipole = 50.0",
    data: Path = DATA,
    n_features: int = 4,
    **training: object,
) -> Path:
    """A recipe and a copy of its data in a folder; ``training`` as in the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / data.name).exists():
        shutil.copy(data, folder)
    options = {
        "epochs": 4,
        "batch_size": 6,
        "warmup_steps": 3,
        "threads": 1,
        **training,
    }
    lines = [
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
        for key, value in options.items()
    ]
    text = RECIPE.format(
        file=data.name,
        units=units,
        n_features=n_features,
        heads=heads,
        loss=loss,
        training="\n".join(lines),
    )
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def write_waters(folder: Path, n_frames: int = 40) -> Path:
    """Labelled frames of ``SpringWater``, moved at random from its minimum."""
    rng, water = np.random.default_rng(0), SpringWater()
    start = water.minimum().positions
    positions = start + rng.normal(0, 0.05, (n_frames, 3, 3))
    labels = [water.labels(frame) for frame in positions]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "waters.npz"
    np.savez(
        path,
        numbers=water.minimum().numbers,
        positions=positions,
        **{name: np.array([label[name] for label in labels]) for name in labels[0]},
    )
    return path


def write_water_recipe(folder: Path, **training: object) -> Path:
    """A recipe that learns ``SpringWater`` in seconds, minimum and all."""
    options = {"epochs": 40, "batch_size": 8, "learning_rate": 0.02, "seed": 1}
    options |= {"ema_decay": 0.9, **training}
    return write_recipe(
        folder,
        data=write_waters(folder),
        heads="[heads.energy]\n[heads.dipole]\n[heads.polarizability]",
        units="dipole = 'e*Angstrom', polarizability = 'e^2*Angstrom^2/eV'",
        loss="polarizability = 10.0\ndipole = 20.0",
        n_features=16,
        **options,
    )


class SpringWater:
    """Three springs, point charges, and α = Σ_pairs (1 + u uᵀ) e^(−r): all exact."""

    def __init__(self) -> None:
        self.lengths = {(0, 1): 0.97, (0, 2): 0.97, (1, 2): 1.53}
        self.stiffness = 30.0  # eV/Å²
        self.charges = np.array([-0.8, 0.4, 0.4])

    def minimum(self) -> Atoms:
        half = self.lengths[1, 2] / 2
        height = np.sqrt(self.lengths[0, 1] ** 2 - half**2)
        return Atoms("OHH", [[0, 0, 0], [0, half, height], [0, -half, height]])

    def labels(self, positions: np.ndarray) -> dict[str, np.ndarray | float]:
        energy, alpha, forces = 0.0, np.zeros((3, 3)), np.zeros((3, 3))
        for (i, j), length in self.lengths.items():
            vector = positions[j] - positions[i]
            r = np.linalg.norm(vector)
            u = vector / r
            energy += 0.5 * self.stiffness * (r - length) ** 2
            forces[i] += self.stiffness * (r - length) * u
            forces[j] -= self.stiffness * (r - length) * u
            alpha += (np.eye(3) + np.outer(u, u)) * np.exp(-r)
        dipole = self.charges @ positions
        return {
            "energy": energy,
            "forces": forces,
            "dipole": dipole,
            "polarizability": alpha,
        }

    def harmonic(self) -> HarmonicSpectrum:
        """Exact at the minimum: there the Hessian is Σ k u uᵀ of each spring."""
        atoms = self.minimum()
        hessian = np.zeros((3, 3, 3, 3))
        for i, j in self.lengths:
            u = atoms.positions[j] - atoms.positions[i]
            block = self.stiffness * np.outer(u, u) / (u @ u)
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                hessian[a, :, b, :] += sign * block
        slopes = self.charges[:, None, None] * np.eye(3)
        return harmonic_analysis(
            atoms.positions,
            atoms.get_masses(),
            hessian.reshape(9, 9),
            slopes.reshape(9, 3),
        )
