"""DimeNet++ of PyTorch Geometric: energy and forces of one molecule.

It gets its pairs and triplets for free: its searches for them are replaced by their
results, so that neither torch-cluster nor torch-sparse is needed. Its random weights
are written to ``weights_file``, as a state dict, for MolPool to take.
"""

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch_geometric
from torch_geometric.nn import DimeNetPlusPlus
from torch_geometric.nn.models import dimenet

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


def prepare(job: dict[str, Any]) -> tuple[Callable[[int], None], dict[str, Any]]:
    """Return calls, and energy and forces at the first place."""
    torch.set_num_threads(job["threads"])
    model = _model()
    torch.save(model.state_dict(), job["weights_file"])
    positions = torch.tensor(job["positions"], dtype=torch.float32)
    _replace_searches(positions, job["cutoff"])
    numbers = torch.tensor(job["numbers"])
    places = itertools.cycle(torch.tensor(np.array(job["places"]), dtype=torch.float32))

    def call(place: Any) -> tuple[float, Any]:
        leaf = place.clone().requires_grad_()
        energy = model(numbers, leaf)
        (gradient,) = torch.autograd.grad(energy.sum(), leaf)
        return energy.item(), -gradient

    def steps(n_steps: int) -> None:
        for _ in range(n_steps):
            call(next(places))

    energy, forces = call(positions)
    versions = {
        "torch-geometric": torch_geometric.__version__,
        "torch": torch.__version__,
    }
    return steps, {"versions": versions, "energy": energy, "forces": forces.tolist()}


@cache
def _model() -> Any:
    """Return a model with random weights, those of the last layers too.

    Kept, since PyG takes half a minute to make its Bessel functions.
    """
    torch.random.manual_seed(0)
    model = DimeNetPlusPlus(**SIZES)
    for block in model.output_blocks:
        torch.nn.init.normal_(block.lin.weight, std=0.05)
    return model.requires_grad_(False).eval()


def _replace_searches(positions: Any, cutoff: float) -> None:
    inside = (torch.cdist(positions, positions) < cutoff).fill_diagonal_(False)
    i, j = inside.nonzero().unbind(1)
    after, before = (j[:, None] == i[None, :]).nonzero().unbind(1)
    onward = i[after] != j[before]
    ji, kj = after[onward], before[onward]
    found = (i, j, i[ji], j[ji], j[kj], kj, ji)
    dimenet.radius_graph = lambda *_, **__: torch.stack((j, i))
    dimenet.triplets = lambda *_, **__: found
