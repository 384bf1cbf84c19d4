"""Time of energy and forces of DimeNet++ with the same weights, side by side.

Both run in this process, in alternating blocks, on the same molecule in float32 on one
thread with frozen weights, and the ratio is that of the two medians of one run. The
peer is PyTorch Geometric's ``DimeNetPlusPlus``. It gets its pairs and triplets for
free: its searches for them are replaced by their results, and so neither torch-cluster
nor torch-sparse is needed. MolPool finds its triplets in every call.

    python benchmarks/dimenet_vs_pyg.py [ethanol] [aspirin.xyz] [--out X.json]

PyTorch Geometric must be installed; versions are stated in the result.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from molpool_calc import __version__
from molpool_calc.atoms import batch_from_atoms
from molpool_calc.engine import EagerEngine
from molpool_calc.importers import potential_from_pyg
from molpool_calc.molecules import read_system
from molpool_calc.neighbors import complete_pairs, dense_pairs

CUTOFF = 5.0
SIZES = {
    "hidden_channels": 128,
    "out_channels": 1,
    "num_blocks": 4,
    "int_emb_size": 64,
    "basis_emb_size": 8,
    "out_emb_channels": 256,
    "num_spherical": 7,
    "num_radial": 6,
}
Step = Callable[[], Tensor]


def peer_model() -> Any:
    """Return PyG's model with random weights, those of the last layers too."""
    from torch_geometric.nn import DimeNetPlusPlus  # noqa: PLC0415

    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        model = DimeNetPlusPlus(**SIZES)
        for block in model.output_blocks:
            torch.nn.init.normal_(block.lin.weight, std=0.05)
    return model.requires_grad_(False).eval()


def peer_step(model: Any, atoms: Atoms) -> Step:
    """Return PyG's energy and forces; pairs and triplets are found once, here."""
    from torch_geometric.nn.models import dimenet  # noqa: PLC0415

    distances = torch.from_numpy(atoms.get_all_distances())
    inside = (distances < CUTOFF).fill_diagonal_(False)
    i, j = inside.nonzero().unbind(1)
    after, before = (j[:, None] == i[None, :]).nonzero().unbind(1)
    onward = i[after] != j[before]
    ji, kj = after[onward], before[onward]
    found = (i, j, i[ji], j[ji], j[kj], kj, ji)
    dimenet.radius_graph = lambda *_, **__: torch.stack((j, i))
    dimenet.triplets = lambda *_, **__: found
    numbers = torch.from_numpy(atoms.numbers).long()
    positions = torch.from_numpy(atoms.positions).float()

    def step() -> Tensor:
        leaf = positions.clone().requires_grad_()
        energy = model(numbers, leaf)
        (gradient,) = torch.autograd.grad(energy.sum(), leaf)
        return torch.cat((energy.detach().reshape(1), gradient.reshape(-1)))

    return step


def own_step(model: Any, atoms: Atoms, *, dense: bool) -> Step:
    """Return MolPool's energy and forces with the same weights."""
    potential = potential_from_pyg(
        model.state_dict(), unit="eV", name="dimenet++", cutoff=CUTOFF
    )
    device = torch.device("cpu")
    engine = EagerEngine(potential, device, torch.float32)
    batch = batch_from_atoms([atoms], dtype=torch.float32, device=device)
    pairs = dense_pairs(batch) if dense else complete_pairs(batch)

    def step() -> Tensor:
        result = engine.evaluate(batch, pairs, frozenset({"energy", "forces"}))
        return torch.cat((result.energy.float(), -result.forces.reshape(-1)))

    return step


def time_block(step: Step, n: int = 20) -> float:
    """Return milliseconds per call."""
    start = time.perf_counter()
    for _ in range(n):
        step()
    return 1e3 * (time.perf_counter() - start) / n


def compare(atoms: Atoms, n_blocks: int) -> dict[str, Any]:
    """Return one row of the table."""
    model = peer_model()
    steps = {
        "dense": own_step(model, atoms, dense=True),
        "listed": own_step(model, atoms, dense=False),
        "peer": peer_step(model, atoms),
    }
    results = {name: step() for name, step in steps.items()}
    for step in steps.values():
        time_block(step)
    rounds = [{k: time_block(s) for k, s in steps.items()} for _ in range(n_blocks)]
    medians = {k: statistics.median(r[k] for r in rounds) for k in steps}
    return {
        "system": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "what": "energy and forces",
        "dtype": "float32",
        "threads": 1,
        **{f"ms_{name}": round(value, 2) for name, value in medians.items()},
        "ratio": round(medians["peer"] / medians["dense"], 2),
        "largest_difference": float((results["dense"] - results["peer"]).abs().max()),
        "largest_value": float(results["peer"].abs().max()),
    }


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structures", nargs="*", default=["ethanol"])
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    import torch_geometric  # noqa: PLC0415

    torch.set_num_threads(1)
    structures = [read_system(text) for text in arguments.structures]
    result = {
        "rows": [compare(atoms, arguments.blocks) for atoms in structures],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "molpool": __version__,
            "torch": torch.__version__,
            "torch_geometric": torch_geometric.__version__,
        },
    }
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
