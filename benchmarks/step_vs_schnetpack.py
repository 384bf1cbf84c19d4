"""Time of one ASE Langevin step with the same published weights, side by side.

Both calculators run in this process, in alternating blocks, on the same molecule with
the same thermostat, and the ratio is that of the two medians of one run. The peer gets
the fastest of its neighbor lists, which is found first.

    python benchmarks/step_vs_schnetpack.py best_model [--unit kcal/mol] [--out X.json]

``best_model`` is a SchNetPack >= 2 model file. SchNetPack must be installed; versions
are stated in the result. It unpickles the file, so give one that you trust.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import ase
import ase.build
import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin
from torch.utils.data import dataloader

from molpool_calc import MolPoolCalculator, __version__
from molpool_calc.importers import import_schnetpack


def peer_calculator(path: Path, unit: str, neighbors: str, dtype: torch.dtype) -> Any:
    """Return SchNetPack's own ASE calculator with one of its neighbor lists."""
    import schnetpack.transform as transforms  # noqa: PLC0415
    from schnetpack.interfaces.ase_interface import SpkCalculator  # noqa: PLC0415

    cutoff = 5.0
    lists: dict[str, Callable[[], Any]] = {
        "ase": lambda: transforms.ASENeighborList(cutoff=cutoff),
        "matscipy": lambda: transforms.MatScipyNeighborList(cutoff=cutoff),
        "torch": lambda: transforms.TorchNeighborList(cutoff=cutoff),
        "skin": lambda: transforms.SkinNeighborList(
            neighbor_list=transforms.MatScipyNeighborList(cutoff=cutoff),
            cutoff_skin=0.3,
        ),
    }
    load = torch.load
    torch.load = lambda *a, **k: load(*a, **{**k, "weights_only": False})
    try:
        return SpkCalculator(
            model_file=str(path),
            neighbor_list=lists[neighbors](),
            energy_unit=unit,
            position_unit="Ang",
            device="cpu",
            dtype=dtype,
        )
    finally:
        torch.load = load


def dynamics(atoms: Atoms, calculator: Any) -> Langevin:
    """Return Langevin dynamics of a copy of the structure."""
    copy = atoms.copy()
    copy.calc = calculator
    generator = np.random.default_rng(0)
    return Langevin(
        copy, 0.5 * units.fs, temperature_K=300, friction=0.01 / units.fs, rng=generator
    )


def time_block(run: Langevin, steps: int) -> float:
    """Return milliseconds per step."""
    start = time.perf_counter()
    run.run(steps)
    return 1e3 * (time.perf_counter() - start) / steps


def fastest_neighbors(atoms: Atoms, path: Path, unit: str, dtype: torch.dtype) -> str:
    """Return the name of the peer's fastest neighbor list for this molecule."""
    timings = {}
    for name in ("ase", "matscipy", "torch", "skin"):
        try:
            run = dynamics(atoms, peer_calculator(path, unit, name, dtype))
            time_block(run, 5)
            timings[name] = min(time_block(run, 10) for _ in range(3))
        except Exception as error:
            print(f"peer's neighbor list {name} fails: {type(error).__name__}: {error}")
    print({name: round(value, 2) for name, value in timings.items()})
    return min(timings, key=timings.__getitem__)


def compare(
    atoms: Atoms, path: Path, unit: str, threads: int, dtype: torch.dtype
) -> dict[str, Any]:
    """Return one row of the table."""
    torch.set_num_threads(threads)
    neighbors = fastest_neighbors(atoms, path, unit, dtype)
    peer = dynamics(atoms, peer_calculator(path, unit, neighbors, dtype))
    potential = import_schnetpack(path, unit=unit, elements=("H", "C", "O"))
    name = str(dtype).removeprefix("torch.")
    ours = dynamics(atoms, MolPoolCalculator(potential, device="cpu", dtype=name))
    energies = [run.atoms.get_potential_energy() for run in (ours, peer)]
    for run in (ours, peer):
        time_block(run, 20)
    blocks = [(time_block(ours, 50), time_block(peer, 25)) for _ in range(15)]
    own, other = (statistics.median(column) for column in zip(*blocks, strict=True))
    return {
        "system": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "n_pairs": len(atoms) * (len(atoms) - 1),
        "network": potential.spec.network["kind"],
        "what": "ASE Langevin step",
        "dtype": name,
        "threads": threads,
        "ms_per_step": round(own, 3),
        "peer_ms_per_step": round(other, 3),
        "ratio": round(other / own, 2),
        "peer_neighbors": neighbors,
        "energy_difference_ev": energies[0] - energies[1],
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--unit", default="kcal/mol")
    parser.add_argument("--molecule", default="CH3CH2OH")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    if not hasattr(dataloader, "T_co"):
        # SchNetPack 2.1 imports a name that torch 2.13 no longer has
        dataloader.T_co = TypeVar("T_co", covariant=True)
    import schnetpack  # noqa: PLC0415

    atoms = ase.build.molecule(arguments.molecule)
    rows = [
        compare(atoms, path, arguments.unit, threads, dtype)
        for path in arguments.models
        for threads in sorted({1, os.cpu_count() or 1})
        for dtype in (torch.float32, torch.float64)
    ]
    result = {
        "rows": rows,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "molpool": __version__,
            "torch": torch.__version__,
            "ase": ase.__version__,
            "schnetpack": getattr(schnetpack, "__version__", "2.1.1"),
        },
    }
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
