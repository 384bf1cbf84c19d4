"""The least time of a step: its arithmetic and traffic over what the machine can do.

The arithmetic is that of the matrix products of energy and forces, forward and
backward, as the network is written: 2mnk operations each. The traffic is what no
program can avoid: every weight, input and result crosses the memory once. Time goes
into whichever takes longer, so that

    floor = max(FLOP / peak rate of matrix products, bytes / rate of a large copy)

(the roofline of Williams, Waterman, Patterson 2009). Both rates are measured, with the
threads and the floating-point type of the step. Element-wise work is not counted, so
that no program reaches the floor; weights that stay in a cache make the second term
too long, which matters only where it is the larger one.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from molpool_calc.atoms import batch_from_atoms
from molpool_calc.bench.systems import water_box
from molpool_calc.derivatives import evaluate
from molpool_calc.interfaces import AtomsBatch, NeighborList
from molpool_calc.neighbors import neighbor_list
from molpool_calc.potential import NeuralPotential

MATRIX_SIDE = {"cpu": 512, "cuda": 8192}
COPY_BYTES = {"cpu": 2**26, "cuda": 2**30}
REPEATS = 20
COUNTED_PAIRS = 20_000
"""More pairs than that are not run to be counted, but scaled up from fewer."""
SAMPLE_MOLECULES, SAMPLE_STRETCHES = 27, (1.0, 1.3)
"""Boxes of water from which the work of larger systems is scaled up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Floating-point operations and bytes of a step."""

    flop: float
    bytes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Operations and bytes (read and written) per second that the machine reaches."""

    flop_per_s: float
    bytes_per_s: float

    def floor_ms(self, work: Work) -> float:
        """Return the least time of a step in milliseconds."""
        return 1e3 * max(work.flop / self.flop_per_s, work.bytes / self.bytes_per_s)


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Return the rates of large matrix products and of large copies."""
    side = MATRIX_SIDE[device.type]
    generator = torch.Generator(device=device).manual_seed(0)
    a = torch.rand((side, side), generator=generator, dtype=dtype, device=device)
    product = torch.empty_like(a)
    n = COPY_BYTES[device.type] // a.element_size()
    source = torch.ones(n, dtype=dtype, device=device)
    target = torch.empty_like(source)
    return Rates(
        flop_per_s=2
        * side**3
        / _fastest(lambda: torch.mm(a, a, out=product), device=device),
        bytes_per_s=2
        * COPY_BYTES[device.type]
        / _fastest(lambda: target.copy_(source), device=device),
    )


def _fastest(function: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of several calls."""
    spent = []
    for _ in range(REPEATS):
        _synchronize(device)
        start = time.perf_counter()
        function()
        _synchronize(device)
        spent.append(time.perf_counter() - start)
    return min(spent)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def work_of(potential: NeuralPotential, batch: AtomsBatch) -> Work:
    """Return the work of energy and forces of a batch.

    Pairs beyond the cutoff of the network are left out: what long-range terms do with
    them is element-wise.

    Args:
        potential: left as it is; a copy is run, on the CPU.
        batch: any number of systems, on the CPU.
    """
    # with weights that may be trained the network runs as written: what saves memory
    # by computing things twice is for frozen ones
    copy = deepcopy(potential).to(device="cpu").requires_grad_()
    pairs = neighbor_list(batch, potential.network.cutoff)
    n_atoms, n_pairs = batch.positions.shape[0], pairs.center.shape[0]
    item = torch.finfo(potential.dtype).bits // 8
    # elements and both ends of pairs as 8-byte integers, positions and forces
    traffic = n_atoms * (8 + 6 * item) + n_pairs * 16
    if n_pairs <= COUNTED_PAIRS:
        flop = float(_flop(copy, batch, pairs))
    else:
        flop = _scaled_flop(copy, batch.atomic_numbers, n_pairs)
    return Work(flop=flop, bytes=float(weight_bytes(potential) + traffic))


def weight_bytes(potential: NeuralPotential) -> int:
    """Return the size of all weights."""
    return sum(p.numel() * p.element_size() for p in potential.parameters())


def _flop(potential: NeuralPotential, batch: AtomsBatch, pairs: NeighborList) -> int:
    with FlopCounterMode(display=False) as counter:
        evaluate(potential, batch, pairs, properties=frozenset({"energy", "forces"}))
    return int(counter.get_total_flops())


def _scaled_flop(
    potential: NeuralPotential, numbers: Int[Tensor, " atoms"], n_pairs: int
) -> float:
    """Return a·atoms + b·pairs, a and b from two densities of a box small enough.

    The work of networks that pass messages between pairs is exactly of that form.
    """
    sizes, counts = [], []
    for stretch in SAMPLE_STRETCHES:
        atoms = water_box(SAMPLE_MOLECULES)
        atoms.set_cell(atoms.cell * stretch, scale_atoms=True)  # type: ignore[no-untyped-call]
        box = batch_from_atoms(
            [atoms], dtype=potential.dtype, device=torch.device("cpu")
        )
        box = replace(box, atomic_numbers=numbers[: len(atoms)])
        pairs = neighbor_list(box, potential.network.cutoff)
        sizes.append([float(len(atoms)), float(pairs.center.shape[0])])
        counts.append(float(_flop(potential, box, pairs)))
    matrix = torch.tensor(sizes, dtype=torch.float64)
    factors = torch.linalg.solve(matrix, torch.tensor(counts, dtype=torch.float64))
    asked = torch.tensor([len(numbers), n_pairs], dtype=torch.float64)
    return float(factors @ asked)
