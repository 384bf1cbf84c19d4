"""Time of energy and forces of SO3LR with the same weights, side by side.

All run in this process, in alternating blocks, on the same molecule on one thread, and
each ratio is that of two medians of one run. The peer is So3krates-torch, the authors'
port to PyTorch, which brings the weights; that they are the same shows in the forces.

Two things are timed. "calculator": the ASE calculators on a molecule whose atoms move a
little before each call, as in dynamics, search for neighbors included. "model": the
bare models on tensors made beforehand, pairs included; both have their weights frozen.
The long-range cutoff is the same in both. Times are those of the clock; processor times
are less disturbed by other programs, so their ratios are given as well.

    python benchmarks/so3lr_vs_peers.py params.pkl [ethanol] [x.xyz] [--out X.json]

``params.pkl`` is the file of the SO3LR repository. So3krates-torch must be installed;
versions are stated in the result. It unpickles the model that it brings.
"""

import contextlib
import importlib.metadata
import io
import json
import os
import platform
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase import Atoms

from molpool_calc import MolPoolCalculator, __version__
from molpool_calc.atoms import batch_from_atoms
from molpool_calc.compilation.engine import Compile
from molpool_calc.engine import DTYPES, Engine
from molpool_calc.importers import import_so3lr
from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.molecules import read_system
from molpool_calc.neighbors import complete_pairs, dense_pairs

DAMPING = 2.0
NETWORK_CUTOFF = 4.5
MODES: dict[Compile, str] = {"never": "eager", "now": "compiled"}
SAME_FORCES = 1e-3
Result = tuple[float, np.ndarray]
Step = Callable[[], Result]


def moving(atoms: Atoms, calculator: Any) -> Step:
    """Return energy and forces of a copy whose atoms go to and fro by 1e-3 Å."""
    copy = atoms.copy()
    copy.calc = calculator
    moves = np.random.default_rng(0).normal(scale=1e-3, size=(8, len(atoms), 3))
    moves[0] = 0.0
    places = iter_forever([atoms.positions + move for move in moves])

    def step() -> Result:
        copy.positions = next(places)
        forces = copy.get_forces()  # first, as in dynamics: the energy comes with them
        return copy.get_potential_energy(), forces

    return step


def iter_forever(items: list[Any]) -> Iterator[Any]:
    """Yield the items again and again."""
    while True:
        yield from items


def peer_calculator(dtype: str, cutoff: float) -> Any:
    """Return the peer's own ASE calculator with the weights that it brings."""
    from so3krates_torch.calculator.so3 import SO3LRCalculator  # noqa: PLC0415

    with contextlib.redirect_stdout(io.StringIO()):
        calculator = SO3LRCalculator(
            r_max_lr=cutoff,
            dispersion_energy_cutoff_lr_damping=DAMPING,
            default_dtype=dtype,
            device="cpu",
        )
    calculator.models[0].eval().requires_grad_(requires_grad=False)
    return calculator


def peer_steps(atoms: Atoms, dtype: str, cutoff: float) -> dict[str, Step]:
    """Return what is timed of the peer."""
    calculator = peer_calculator(dtype, cutoff)
    model = calculator.models[0]
    data = calculator._atoms_to_batch(atoms).to_dict()

    def bare() -> Result:
        result = model(data, compute_stress=False)
        return float(result["energy"]), result["forces"].detach().numpy()

    def in_its_dtype(step: Step) -> Step:
        # its calculator makes tensors of the default type, which is global
        def run() -> Result:
            torch.set_default_dtype(DTYPES[dtype])
            try:
                return step()
            finally:
                torch.set_default_dtype(torch.float32)

        return run

    steps = {"calculator": moving(atoms, calculator), "model": bare}
    torch.set_default_dtype(torch.float32)
    return {name: in_its_dtype(step) for name, step in steps.items()}


def own_steps(
    atoms: Atoms, path: Path, dtype: str, cutoff: float, modes: tuple[Compile, ...]
) -> dict[str, dict[str, Step]]:
    """Return what is timed of MolPool; bare, with both layouts of the pairs."""
    device = torch.device("cpu")
    batch = batch_from_atoms([atoms], dtype=DTYPES[dtype], device=device)
    steps: dict[str, dict[str, Step]] = {"calculator": {}, "model": {}}
    for mode in modes:
        potential = import_so3lr(path, long_range_cutoff=cutoff, damping=DAMPING)
        calculator = MolPoolCalculator(
            potential, device="cpu", dtype=dtype, compile=mode
        )
        steps["calculator"][MODES[mode]] = moving(atoms, calculator)
        (engine,) = calculator.evaluator.engines
        layouts = {"dense": dense_pairs(batch), "listed": complete_pairs(batch)}
        for name, pairs in layouts.items():
            steps["model"][f"{MODES[mode]}, {name}"] = bare_step(engine, batch, pairs)
    return steps


def bare_step(engine: Engine, batch: AtomsBatch, pairs: NeighborList) -> Step:
    """Return energy and forces of an engine."""
    properties = frozenset({"energy", "forces"})

    def step() -> Result:
        result = engine.evaluate(batch, pairs, properties)
        return float(result.energy), result.forces.numpy()

    return step


def time_block(step: Step, n: int = 10) -> np.ndarray:
    """Return milliseconds per call, by the clock and of the processor."""
    start = np.array([time.perf_counter(), time.process_time()])
    for _ in range(n):
        step()
    end = np.array([time.perf_counter(), time.process_time()])
    return 1e3 * (end - start) / n


def compare(what: str, steps: dict[str, Step], n_blocks: int) -> dict[str, Any]:
    """Return times of one thing, and how far the results are apart.

    Args:
        what: is timed.
        steps: MolPool's, by engine and layout of pairs, and ``"peer"``.
        n_blocks: of each, in turn.

    Raises:
        RuntimeError: the forces differ, so the weights are not the same.
    """
    results = {name: step() for name, step in steps.items()}
    for step in steps.values():
        time_block(step)
    rounds = [{k: time_block(s) for k, s in steps.items()} for _ in range(n_blocks)]
    medians = {k: np.median([r[k] for r in rounds], axis=0) for k in steps}
    energy, forces = results.pop("peer")
    peer, peer_cpu = medians.pop("peer")
    own_energy, _ = next(iter(results.values()))
    difference = max(np.abs(own[1] - forces).max() for own in results.values())
    if difference > SAME_FORCES:
        raise RuntimeError(f"the forces differ by {difference:.1g} eV/Å")
    return {
        "what": what,
        "peer_ms": round(peer, 2),
        "ms": {k: round(wall, 2) for k, (wall, _) in medians.items()},
        "ratio": {k: round(peer / wall, 2) for k, (wall, _) in medians.items()},
        "ratio_of_processor_times": {
            k: round(peer_cpu / cpu, 2) for k, (_, cpu) in medians.items()
        },
        "largest_force_difference": float(difference),
        # the peer adds a constant per atom, which is in no weight of the original
        "energy_difference_per_atom": (energy - own_energy) / len(forces),
    }


def rows(atoms: Atoms, dtype: str, arguments: Namespace) -> list[dict[str, Any]]:
    """Return the rows of one molecule in one floating-point type."""
    cutoff = arguments.long_range_cutoff
    modes: tuple[Compile, ...] = ("never", "now") if arguments.compile else ("never",)
    peer = peer_steps(atoms, dtype, cutoff)
    own = own_steps(atoms, arguments.params, dtype, cutoff, modes)
    n, distances = len(atoms), atoms.get_all_distances()
    described = {
        "system": atoms.get_chemical_formula(),
        "n_atoms": n,
        "n_pairs": n * (n - 1),
        "n_pairs_of_network": int((distances < NETWORK_CUTOFF).sum()) - n,
        "dtype": dtype,
        "threads": 1,
        "long_range_cutoff": cutoff,
    }
    return [
        described | compare(what, own[what] | {"peer": peer[what]}, arguments.blocks)
        for what in ("calculator", "model")
    ]


def main() -> None:
    """Print the table, and write it where asked."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("params", type=Path)
    parser.add_argument("structures", nargs="*", default=["ethanol"])
    parser.add_argument("--long-range-cutoff", type=float, default=12.0)
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--compile", action="store_true", help="and compiled code")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    start = os.getloadavg()[0]
    result = {
        "rows": [
            row
            for text in arguments.structures
            for dtype in DTYPES
            for row in rows(read_system(text), dtype, arguments)
        ],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": [round(load, 1) for load in (start, os.getloadavg()[0])],
        "versions": {
            "molpool": __version__,
            "torch": torch.__version__,
            "ase": ase.__version__,
            "so3krates-torch": importlib.metadata.version("so3krates-torch"),
        },
    }
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
