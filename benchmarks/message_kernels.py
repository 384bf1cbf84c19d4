"""Networks with and without message kernels on a GPU: deviations, times, memory.

``python benchmarks/message_kernels.py FOLDER`` writes ``kernels.json`` and prints a
table. Atoms of the density of water stand on a shaken periodic lattice; the cutoff is
5 Å. The floor of a pass over the pairs is what has to be read, written and multiplied
over the rates measured in the same run.
"""

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molpool_calc.interfaces import Composition, Edges, Segments
from molpool_calc.kernels import attention, messages, pairs, triton_parts
from molpool_calc.networks import PaiNN, SchNet, So3krates, So3kratesEuclidean

CUTOFF, SPACING, SHAKE = 5.0, 2.154, 0.35
LATTICES = {
    192: (4, 6, 8),
    1536: (8, 12, 16),
    12_000: (20, 24, 25),
    50_000: (40, 25, 50),
}
DEVICE = torch.device("cuda")


def networks() -> dict[str, Callable[[], torch.nn.Module]]:
    """Return networks of published sizes, random weights."""
    return {
        "painn": lambda: PaiNN(n_features=128, n_interactions=3, n_rbf=20),
        "schnet": lambda: SchNet(n_features=128, n_interactions=6, n_rbf=20),
        "so3lr": lambda: So3kratesEuclidean(
            cutoff=CUTOFF, charge_embedding=False, spin_embedding=False
        ),
        "so3krates": lambda: So3krates(n_features=132, n_interactions=3),
    }


class Water:
    """Positions and pairs of a shaken lattice."""

    def __init__(self, n_atoms: int, dtype: torch.dtype) -> None:
        shape = torch.tensor(LATTICES[n_atoms])
        generator = torch.Generator().manual_seed(1)
        grid = torch.cartesian_prod(*(torch.arange(int(n)) for n in shape))
        shake = torch.rand(len(grid), 3, generator=generator, dtype=torch.float64)
        positions = grid * SPACING + SHAKE * 2 * (shake - 0.5)
        self.numbers = torch.tensor([8, 1, 1]).repeat(len(grid) // 3 + 1)[: len(grid)]
        self.numbers = self.numbers.to(DEVICE)
        self.positions = positions.to(DEVICE, dtype)
        reach = int((CUTOFF + 2 * SHAKE) / SPACING) + 1
        steps = torch.arange(-reach, reach + 1)
        found = []
        grid, shape = grid.to(DEVICE), shape.to(DEVICE)
        for step in torch.cartesian_prod(steps, steps, steps).to(DEVICE):
            if not bool(step.any()):
                continue
            target = grid + step
            inside = target.remainder(shape)
            neighbor = (inside[:, 0] * shape[1] + inside[:, 1]) * shape[2]
            neighbor = neighbor + inside[:, 2]
            shift = ((target - inside) * SPACING).to(dtype)
            vector = self.positions[neighbor] + shift - self.positions
            near = ((vector**2).sum(1) < CUTOFF**2).nonzero()[:, 0]
            found.append((near, neighbor[near], shift[near]))
        center, neighbor, shift = (torch.cat(part) for part in zip(*found, strict=True))
        order = torch.argsort(center, stable=True)
        self.center, self.neighbor = center[order], neighbor[order]
        self.shift = shift[order]

    def edges(self, positions: Tensor) -> Edges:
        """Return the pairs at other positions."""
        vectors = positions.index_select(0, self.neighbor) + self.shift
        vectors = vectors - positions.index_select(0, self.center)
        return Edges(
            center=self.center,
            neighbor=self.neighbor,
            vectors=vectors,
            distances=torch.linalg.vector_norm(vectors, dim=1),
            n_atoms=len(positions),
        )

    def composition(self) -> Composition:
        """Return the atoms."""
        n, zero = len(self.numbers), torch.zeros(1, device=DEVICE)
        systems = Segments(
            index=torch.zeros(n, dtype=torch.int64, device=DEVICE),
            slot=torch.arange(n, device=DEVICE),
            n_segments=1,
            max_size=n,
        )
        return Composition(
            atomic_numbers=self.numbers,
            total_charge=zero,
            num_unpaired=zero,
            systems=systems,
        )


def step(network: torch.nn.Module, water: Water) -> tuple[Tensor, Tensor]:
    """Return features and the gradient of a sum of them with fixed weights."""
    positions = water.positions.detach().requires_grad_()
    features = network(water.composition(), water.edges(positions))
    scalars = features.scalars
    weights = torch.linspace(-1.0, 1.0, scalars.shape[1], device=DEVICE)
    energy = (scalars @ weights.to(scalars.dtype)).sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    return features.scalars.detach(), gradient


def fused(*, on: bool) -> None:
    """Turn kernels on, whatever the number of pairs, or off."""
    pairs.FEWEST_PAIRS = 0 if on else 10**12


def timed(function: Callable[[], Any], repeats: int = 7) -> float:
    """Return the median time in ms, and warm up before."""
    function()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    function()
    torch.cuda.synchronize()
    inner = max(1, min(20, int(0.02 / (time.perf_counter() - begun))))
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for _ in range(inner):
            function()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) / inner)
    return 1e3 * statistics.median(times)


def peak(function: Callable[[], Any]) -> float:
    """Return the peak memory in MiB beside what was there."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def made(name: str, dtype: torch.dtype) -> torch.nn.Module:
    """Return a network, always with the same weights, frozen."""
    torch.manual_seed(0)
    return networks()[name]().to(DEVICE, dtype).requires_grad_(requires_grad=False)


def deviations(name: str, dtype: torch.dtype, n_atoms: int) -> dict[str, Any]:
    """Compare with the network as written in float64, relative to the largest."""
    water, exact = Water(n_atoms, dtype), Water(n_atoms, torch.float64)
    exact.positions = water.positions.double()
    exact.shift = water.shift.double()
    network = made(name, dtype)
    fused(on=True)
    found, again = step(network, water), step(network, water)
    fused(on=False)
    written, true = step(network, water), step(made(name, torch.float64), exact)

    def off(values: tuple[Tensor, Tensor]) -> list[float]:
        return [
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(values, true, strict=True)
        ]

    return {
        "network": name,
        "dtype": str(dtype),
        "n_atoms": n_atoms,
        "kernels": off(found),
        "as_written": off(written),
        "same_bits": bool(torch.equal(found[0], again[0])),
    }


def rates() -> dict[str, float]:
    """Return measured bytes per s of memory, and FLOP per s of float32."""
    big = torch.empty(2**28, device=DEVICE)
    to_big = torch.empty_like(big)
    matrix = torch.randn(8192, 8192, device=DEVICE)
    return {
        "memory": 8 * len(big) / timed(lambda: to_big.copy_(big)) * 1e3,
        "flop": 2 * 8192**3 / timed(lambda: matrix @ matrix, 3) * 1e3,
    }


def compare(name: str, n_atoms: int) -> dict[str, Any]:
    """Return times and memory of a step with and without kernels."""
    water, network = Water(n_atoms, torch.float32), made(name, torch.float32)
    row: dict[str, Any] = {"network": name, "n_atoms": n_atoms}
    row["n_pairs"] = len(water.center)
    for label, on in (("kernels", True), ("as_written", False)):
        fused(on=on)
        try:
            step(network, water)
            row[f"{label}_mib"] = peak(lambda: step(network, water))
            row[f"{label}_ms"] = timed(lambda: step(network, water), 3)
        except torch.OutOfMemoryError:
            row[f"{label}_ms"] = None
    return row


def passes(name: str, n_atoms: int, rate: dict[str, float]) -> list[dict[str, Any]]:
    """Return times and floors of the passes of one layer, float32.

    ``gathered_tb_s``: bytes of the filters' pieces and of the features gathered, most
    of which the caches hold, over the time.
    """
    water, network = Water(n_atoms, torch.float32), made(name, torch.float32)
    edges = water.edges(water.positions)
    edges = replace(edges, vectors=edges.vectors / edges.distances[:, None])
    order, n_pairs, n = pairs.sort_pairs(edges, CUTOFF), len(water.center), 128
    filters: Any = network._of_distance
    kernels: Any
    inputs: list[Tensor]
    if name == "so3lr":
        layer: Any = network.layers[-1]  # type: ignore[index,operator]
        both = filters[-1][0], layer.spherical.alone(0)
        kernels = attention._Attention(order, *both, 4)
        inputs = [edges.distances, *random((n_pairs, 4), (n_atoms, n), (n_atoms, n))]
        flop, gathered = n_pairs * (2 * 4 * 32 + 2 * 32 * n + 9 * n), 1
    elif name == "painn":
        kernels = messages._PaiNN(order, filters[-1])
        rows = random((n_atoms, 3 * n), (n_atoms, 3, n))
        inputs = [edges.distances, edges.vectors, *rows]
        flop, gathered = n_pairs * n * (3 * 7 + 2 + 3 * 4), 6
    else:
        kernels = messages._SchNet(order, filters[-1])
        inputs = [edges.distances, *random((n_atoms, n))]
        flop, gathered = n_pairs * n * 8, 1
    gradients = [torch.randn_like(out) for out in kernels.forward(inputs)]
    moved = 4 * sum(x.numel() for x in (*inputs, *gradients)) + 8 * n_pairs
    cached = 4 * n_pairs * (kernels.table[0].numel() + gathered * n)
    found = []
    for label, function in (
        ("forward", lambda: kernels.forward(inputs)),
        ("backward", lambda: kernels.backward(inputs, gradients)),
        ("sort", lambda: pairs.sort_pairs(edges, CUTOFF)),
    ):
        time_ms = timed(function)
        found.append(
            {
                "pass": label,
                "ms": time_ms,
                "memory_floor_ms": 1e3 * moved / rate["memory"],
                "flop_floor_ms": 1e3 * flop / rate["flop"],
                "gathered_tb_s": 1e-9 * cached / time_ms,
            }
        )
    return found


def random(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Return normally distributed rows."""
    return [torch.randn(shape, device=DEVICE) for shape in shapes]


def graphed(name: str, n_atoms: int) -> dict[str, Any]:
    """Return times of a step replayed as a CUDA graph, and whether it is the same."""
    water, network = Water(n_atoms, torch.float32), made(name, torch.float32)
    row: dict[str, Any] = {"network": name, "n_atoms": n_atoms}
    for label, on in (("kernels", True), ("as_written", False)):
        fused(on=on)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                expected = step(network, water)[1]
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = step(network, water)[1]
        row[f"{label}_ms"] = timed(graph.replay)
        row[f"{label}_off"] = float((found - expected).abs().max())
    return row


def tuned(n_atoms: int) -> list[dict[str, Any]]:
    """Return times of the attention with other numbers of warps."""
    rows, rate = [], {"memory": 1.0, "flop": 1.0}
    before = triton_parts.ATTENTION_WARPS
    for warps in (1, 2, 4):
        triton_parts.ATTENTION_WARPS = warps
        rows += [
            {"pass": row["pass"], "ms": row["ms"], "warps": warps}
            for row in passes("so3lr", n_atoms, rate)
        ]
    triton_parts.ATTENTION_WARPS = before
    return rows


class Run:
    """Results of parts, written after each; parts past the time are left out."""

    def __init__(self, folder: Path, seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.seconds = folder / "kernels.json", seconds
        self.begun = time.perf_counter()
        self.results: dict[str, Any] = {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
        }

    def part(self, name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a part; what it raises is its result."""
        if time.perf_counter() - self.begun > self.seconds:
            self.results.setdefault("left_out", []).append(name)
            return
        try:
            found = function(*arguments)
        except Exception:
            found = {"error": traceback.format_exc()}
        self.results[name] = found
        spent = round(time.perf_counter() - self.begun, 1)
        print(f"[{spent} s] {name}: {json.dumps(found)[:2000]}", flush=True)
        self.path.write_text(json.dumps(self.results, indent=1))


def main() -> None:
    """Run all parts, the most wanted first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=80.0)
    parser.add_argument("--tune", action="store_true")
    arguments = parser.parse_args()
    run = Run(arguments.folder, arguments.seconds)
    run.part("rates", rates)
    rate = run.results["rates"]
    names = list(networks())
    for name in names:
        run.part(f"deviations {name} 192 f32", deviations, name, torch.float32, 192)
    for n_atoms in (12_000, 1_536, 192, 50_000):
        for name in names:
            run.part(f"step {name} {n_atoms}", compare, name, n_atoms)
    for name in names[:3]:  # the kernels of both So3krates are the same
        run.part(f"passes {name}", passes, name, 12_000, rate)
    for n_atoms in (192, 1_536, 12_000):
        for name in names:
            run.part(f"graph {name} {n_atoms}", graphed, name, n_atoms)
    for name in names:
        run.part(f"deviations {name} 1536 f32", deviations, name, torch.float32, 1_536)
    for name in names:
        run.part(f"deviations {name} 192 f64", deviations, name, torch.float64, 192)
    if arguments.tune:
        run.part("tuned so3lr", tuned, 12_000)


if __name__ == "__main__":
    main()
