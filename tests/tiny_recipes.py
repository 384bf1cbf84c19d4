"""Recipes of trainings that take a second, on the ethanol frames of ``data/``."""

import shutil
from pathlib import Path

import numpy as np
from ase.build import molecule

DATA = Path(__file__).parent / "data" / "ethanol_120.npz"
RECIPE = """\
[potential]
name = "tiny-ethanol"
level_of_theory = "B3LYP/def2-SVPD"
license = "MIT"
description = "Too small a network for anything but tests."

[data]
file = "{file}"
check_units = false
units = {{ energy = "eV", length = "Angstrom", {units} }}
split = {{ train = 16, valid = 6, test = 7, seed = 3 }}

[network]
kind = "painn"
n_features = 4
n_interactions = 1
n_rbf = 4
cutoff = 4.0
max_atomic_number = 8

{heads}

[loss]
{loss}

[training]
batch_size = 6
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
    **training: object,
) -> Path:
    """A recipe and a copy of its data in a folder; ``training`` as in the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / data.name).exists():
        shutil.copy(data, folder)
    options = {"epochs": 4, "warmup_steps": 3, "threads": 1, **training}
    lines = [
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
        for key, value in options.items()
    ]
    text = RECIPE.format(
        file=data.name, units=units, heads=heads, loss=loss, training="\n".join(lines)
    )
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def polarizable_waters(folder: Path, n_frames: int = 40) -> Path:
    """Waters with α = Σ_pairs (1 + u uᵀ) e^(−r), a harmonic energy and its forces."""
    rng = np.random.default_rng(0)
    start = molecule("H2O")
    pairs = [(0, 1, 0.97), (0, 2, 0.97), (1, 2, 1.53)]
    positions = start.positions + rng.normal(0, 0.05, (n_frames, 3, 3))
    energy, alpha = np.zeros(n_frames), np.zeros((n_frames, 3, 3))
    forces = np.zeros_like(positions)
    for i, j, length in pairs:
        vectors = positions[:, j] - positions[:, i]
        r = np.linalg.norm(vectors, axis=1)
        u = vectors / r[:, None]
        energy += 15.0 * (r - length) ** 2
        pull = 30.0 * (r - length)[:, None] * u
        forces[:, i] += pull
        forces[:, j] -= pull
        tensor = np.eye(3) + u[:, :, None] * u[:, None, :]
        alpha += tensor * np.exp(-r)[:, None, None]
    path = folder / "waters.npz"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = start.numbers
    np.savez(
        path,
        numbers=numbers,
        positions=positions,
        energy=energy,
        forces=forces,
        polarizability=alpha,
    )
    return path
