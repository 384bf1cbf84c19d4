"""SchNetPack's side of a comparison: runs in its environment, without MolPool.

A job is a dictionary: ``what`` (``langevin``, ``forces`` or ``batch``), ``numbers``,
``positions``, ``cell``, ``pbc``, ``dtype``, ``threads``, ``device``, ``unit``, and
``network``, the size of a model that is made with random weights. Of SchNetPack's four
neighbor lists the fastest is taken, unless ``neighbors`` names one; with ``call`` false
nothing is computed before the first step is asked for.
"""

import importlib.metadata
import importlib.util
import itertools
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

if importlib.util.find_spec("schnetpack") is None:
    raise ImportError("schnetpack is not installed")

import ase
import ase.units
import numpy as np
import torch
from ase.md.langevin import Langevin
from torch.utils.data import dataloader

if not hasattr(dataloader, "T_co"):
    # SchNetPack 2.1 imports a name that torch 2.13 no longer has
    dataloader.T_co = TypeVar("T_co", covariant=True)  # type: ignore[attr-defined]

import schnetpack
import schnetpack.atomistic
import schnetpack.nn
import schnetpack.transform as transforms
from schnetpack.interfaces.ase_interface import AtomsConverter, SpkCalculator
from schnetpack.model import NeuralNetworkPotential

Steps = Callable[[int], None]
Job = dict[str, Any]
SKIN = 0.3
"""Å of the list that is kept, as in SchNetPack's examples."""
ENERGY, FORCES = "energy", "forces"
WARM_UP, TRIAL = 3, 10
LARGE = 100
"""Atoms from which one call of each list is trial enough."""


def prepare(job: Job, path: Path | None = None) -> tuple[Steps, dict[str, Any]]:
    """Return the steps of a job, and versions, energy and the list taken.

    Args:
        job: as above.
        path: model file in place of ``network``. SchNetPack unpickles it.
    """
    warnings.filterwarnings("ignore")
    torch.set_num_threads(job["threads"])
    with tempfile.TemporaryDirectory() as place:
        file = random_model(job["network"], place) if path is None else path
        calculator = load(file, job, 1.0)
        cutoff = float(calculator.model.representation.cutoff.item())
        if job["what"] == "batch":
            steps = _batch_steps(calculator.model, job, cutoff)
            name, energy = "matscipy, once", None
        else:
            name = job.get("neighbors") or _fastest(file, job, cutoff)
            calculator = _calculator(file, job, _lists(cutoff)[name])
            atoms = _atoms(job, calculator)
            energy = _energy(atoms) if job.get("call", True) else None
            steps = _steps(atoms, job)
    return steps, {"versions": versions(), "energy": energy, "peer_neighbors": name}


def versions() -> dict[str, str]:
    """Return the versions of what runs here."""
    return {
        "schnetpack": importlib.metadata.version("schnetpack"),
        "torch": torch.__version__,
        "ase": ase.__version__,
    }


def load(path: Path, job: Job, cutoff: float) -> Any:
    """Return a calculator of a file with a simple list of some cutoff."""
    return _calculator(path, job, transforms.ASENeighborList(cutoff=cutoff))


def _lists(cutoff: float) -> dict[str, Any]:
    searched = transforms.MatScipyNeighborList(cutoff=cutoff)
    return {
        "skin": transforms.SkinNeighborList(neighbor_list=searched, cutoff_skin=SKIN),
        "matscipy": transforms.MatScipyNeighborList(cutoff=cutoff),
        "torch": transforms.TorchNeighborList(cutoff=cutoff),
        "ase": transforms.ASENeighborList(cutoff=cutoff),
    }


def _calculator(path: Path, job: Job, neighbors: Any) -> Any:
    """Return SchNetPack's own ASE calculator; it reads its file by ``torch.load``."""
    load = torch.load
    # it holds a whole model, which the default of torch 2.6 and later refuses
    torch.load = lambda *a, **k: load(*a, **{**k, "weights_only": False})
    try:
        return SpkCalculator(
            model_file=str(path),
            neighbor_list=neighbors,
            energy_unit=job["unit"],
            position_unit="Ang",
            device=job["device"],
            dtype=getattr(torch, job["dtype"]),
        )
    finally:
        torch.load = load


def _fastest(path: Path, job: Job, cutoff: float) -> str:
    """Return the list with which a step takes least; those that fail are left out."""
    spent: dict[str, float] = {}
    is_large = len(job["numbers"]) > LARGE
    warm_up, trial = (1, 1) if is_large else (WARM_UP, TRIAL)
    lists = _lists(cutoff)
    for name in list(lists)[:2] if is_large else lists:
        try:
            calculator = _calculator(path, job, lists[name])
            steps = _steps(_atoms(job, calculator), job)
            steps(warm_up)
            start = time.perf_counter()
            steps(trial)
            spent[name] = time.perf_counter() - start
        except (RuntimeError, ValueError, TypeError) as error:
            sys.stderr.write(f"list {name}: {error}\n")
    return min(spent, key=spent.__getitem__)


def _atoms(job: Job, calculator: Any) -> ase.Atoms:
    return ase.Atoms(
        job["numbers"],
        job["positions"],
        cell=job["cell"],
        pbc=job["pbc"],
        calculator=calculator,
    )


def _energy(atoms: ase.Atoms) -> float:
    return float(atoms.get_potential_energy())  # type: ignore[no-untyped-call]


def _steps(atoms: ase.Atoms, job: Job) -> Steps:
    if job["what"] == "langevin":
        dynamics = Langevin(
            atoms,
            job["timestep_fs"] * ase.units.fs,
            temperature_K=job["temperature"],
            friction=job["friction_per_fs"] / ase.units.fs,
            fixcm=False,
            rng=np.random.default_rng(0),
        )
        return dynamics.run
    places = itertools.cycle(np.asarray(job["places"]))

    def calls(n_steps: int) -> None:
        for _ in range(n_steps):
            atoms.positions = next(places)
            atoms.get_forces()  # type: ignore[no-untyped-call]
            atoms.get_potential_energy()  # type: ignore[no-untyped-call]

    return calls


def _batch_steps(model: Any, job: Job, cutoff: float) -> Steps:
    """Return forward passes of many structures at once, their pairs found before."""
    model = model.to(device=job["device"], dtype=getattr(torch, job["dtype"])).eval()
    inputs = batch(job, cutoff)

    def calls(n_steps: int) -> None:
        for _ in range(0, n_steps, job["batch"]):
            results = model(dict(inputs))
            results[FORCES].cpu()

    return calls


def batch(job: Job, cutoff: float) -> dict[str, torch.Tensor]:
    """Return ``batch`` structures at the places of a job as SchNetPack's inputs."""
    converter = AtomsConverter(
        neighbor_list=transforms.MatScipyNeighborList(cutoff=cutoff),
        device=job["device"],
        dtype=getattr(torch, job["dtype"]),
    )
    places = itertools.cycle(np.asarray(job["places"]))
    structures = []
    for _ in range(job["batch"]):
        atoms = _atoms(job, None)
        atoms.positions = next(places)
        structures.append(atoms)
    found: dict[str, torch.Tensor] = converter(structures)
    return found


def random_model(network: dict[str, Any], place: str) -> Path:
    """Return the file of a model of a given size with random weights."""
    shape = {
        "n_atom_basis": network["n_features"],
        "n_interactions": network["n_interactions"],
        "radial_basis": schnetpack.nn.GaussianRBF(
            n_rbf=network["n_rbf"], cutoff=network["cutoff"]
        ),
        "cutoff_fn": schnetpack.nn.CosineCutoff(network["cutoff"]),
    }
    kinds = {"painn": "PaiNN", "schnet": "SchNet"}
    representation = getattr(schnetpack.representation, kinds[network["kind"]])
    model = NeuralNetworkPotential(
        representation=representation(**shape),
        input_modules=[schnetpack.atomistic.PairwiseDistances()],
        output_modules=[
            schnetpack.atomistic.Atomwise(
                n_in=network["n_features"], output_key=ENERGY
            ),
            schnetpack.atomistic.Forces(energy_key=ENERGY, force_key=FORCES),
        ],
        postprocessors=[transforms.CastTo64()],
    )
    path = Path(place) / "model"
    torch.save(model, path)
    return path
