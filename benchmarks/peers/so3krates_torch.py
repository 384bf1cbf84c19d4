"""SO3LR by So3krates-torch, the authors' port, with the weights that it brings.

Its weights are unpickled by itself.
"""

import contextlib
import importlib.metadata
import io
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import ase
import torch
from so3krates_torch.calculator.so3 import SO3LRCalculator


def prepare(job: dict[str, Any]) -> tuple[Callable[[int], None], dict[str, Any]]:
    """Return calls of its ASE calculator on atoms that move a little before each."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(job["threads"])
    torch.set_default_dtype(getattr(torch, job["dtype"]))
    with contextlib.redirect_stdout(io.StringIO()):
        calculator = SO3LRCalculator(
            r_max_lr=job["cutoff"],
            dispersion_energy_cutoff_lr_damping=2.0,
            default_dtype=job["dtype"],
            device="cpu",
        )
    calculator.models[0].eval().requires_grad_(requires_grad=False)
    atoms = ase.Atoms(
        job["numbers"], job["positions"], cell=job["cell"], pbc=job["pbc"]
    )
    atoms.calc = calculator
    forces = atoms.get_forces()
    energy = atoms.get_potential_energy()
    places = itertools.cycle(job["places"])

    def steps(n_steps: int) -> None:
        for _ in range(n_steps):
            atoms.positions = next(places)
            atoms.get_forces()
            atoms.get_potential_energy()

    versions = {
        name: importlib.metadata.version(name) for name in ("so3krates-torch", "torch")
    }
    return steps, {
        "versions": versions,
        "energy": float(energy),
        "forces": forces.tolist(),
    }
