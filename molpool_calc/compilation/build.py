"""Builds a package: trace, export, compile, verify, time. Runs in its own process.

``python -m molpool_calc.compilation.build FOLDER TARGET PROPERTY …`` writes TARGET, or
ends with an error whose last line is the reason.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molpool_calc.compilation.graphs import TOLERANCES
from molpool_calc.compilation.package import Package
from molpool_calc.compilation.request import (
    Request,
    batch_of_inputs,
    inputs_of,
    outputs_of,
    pair_limit,
)
from molpool_calc.compilation.structures import random_batch
from molpool_calc.derivatives import differentiate
from molpool_calc.engine import EagerEngine
from molpool_calc.potential import NeuralPotential
from molpool_calc.storage import load_potential

TRACED = (11, 13)
"""Systems and atoms of the batch that is traced; unlike any width of a network.

A package for one number of atoms has that instead, here and below.
"""
VERIFIED = ((1, 2), (1, 3), (1, 9), (2, 5), (3, 12), (1, 23))
ALONE = ((1, 1),)
"""A single atom, which has no pairs; packages of all pairs do not take it."""
TIMED = (1, 9)
MOST = 1_000_000
NICENESS = 5
"""The run that waits behind goes first."""

Function = Callable[..., list[Tensor]]


class Refused(RuntimeError):
    """The package is wrong, or no faster; the message says which."""


def build(potential: NeuralPotential, request: Request, target: Path) -> None:
    """Write a verified package.

    Raises:
        Refused: it deviates from the network as written, or is not faster.
    """
    function = function_of(potential, request)
    inputs = inputs_for(potential, request, *TRACED)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        path = Path(scratch) / "package.pt2"
        compile_function(function, inputs, path, request, pair_limit(potential))
        package = Package(path, request, potential.dtype, potential.device)
        verify(package, function, potential)
        _demand_faster(package, function, potential)
        path.replace(target)


def function_of(potential: NeuralPotential, request: Request) -> Function:
    """Return the map from inputs to outputs, the network as written."""

    def function(*inputs: Tensor) -> list[Tensor]:
        batch, neighbors = batch_of_inputs(inputs)
        prediction = differentiate(potential, batch, neighbors, request.properties)
        return outputs_of(prediction, request)

    return function


def inputs_for(
    potential: NeuralPotential, request: Request, n_systems: int, n_atoms: int
) -> list[Tensor]:
    """Return inputs made of random structures."""
    n_atoms = request.n_atoms or n_atoms
    batch, pairs = random_batch(
        potential, n_systems, n_atoms, periodic=request.periodic
    )
    inputs = inputs_of(batch, pairs, request)
    return [tensor.to(potential.device) for tensor in inputs]


def compile_function(
    function: Function, inputs: list[Tensor], path: Path, request: Request, limit: int
) -> None:
    """Trace the function with open sizes and compile it ahead of time."""
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415 - 2 s

    traced = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
        *inputs
    )
    s = torch.export.Dim("s", min=2, max=MOST)
    m: Any = torch.export.Dim("m", min=2, max=MOST)
    if request.dense:  # of outer products it is not seen that all sizes are alike
        m = torch.export.Dim.AUTO
    e = torch.export.Dim("e", min=2, max=limit)
    own = {0: s, 1: m} if request.n_atoms is None else {0: s}
    sizes = [own, own, {0: s}, {0: s}]
    sizes += [] if request.dense else [{0: e}, {0: e}]
    sizes += [{0: e}, {0: s}] if request.periodic else []
    exported = torch.export.export(
        traced, tuple(inputs), dynamic_shapes=tuple(sizes), strict=False
    )
    # with reordering, torch 2.13 was seen to read sums before they are complete
    options: dict[str, Any] = {"reorder_for_locality": False, "cpp.threads": 1}
    effort = "compile_wrapper_opt_level"
    if inputs[0].is_cuda and hasattr(torch._inductor.config.aot_inductor, effort):
        # what runs on the host is recorded once, then left out
        options[f"aot_inductor.{effort}"] = "O0"
    torch._inductor.aoti_compile_and_package(
        exported, package_path=str(path), inductor_configs=options
    )


def verify(package: Package, function: Function, potential: NeuralPotential) -> None:
    """Compare with the network as written on random structures of several sizes.

    Raises:
        Refused: a value deviates by more than rounding.
    """
    tolerance = TOLERANCES[potential.dtype]
    alone = () if package.request.dense else ALONE
    for n_systems, n_atoms in (*VERIFIED, *alone):
        inputs = inputs_for(potential, package.request, n_systems, n_atoms)
        expected = function(*inputs)
        for name, found, true in zip(
            package.names, package.run(inputs), expected, strict=True
        ):
            largest = float(true.abs().max()) if true.numel() else 0.0
            off = float((found - true).abs().max()) if true.numel() else 0.0
            if found.shape != true.shape or not off <= tolerance * (1.0 + largest):
                raise Refused(
                    f"{name} of {n_systems} systems of {n_atoms} atoms deviates by "
                    f"{off:.2g} of {largest:.2g}"
                )


def _demand_faster(
    package: Package, function: Function, potential: NeuralPotential
) -> None:
    inputs = inputs_for(potential, package.request, *TIMED)
    compiled, eager = (
        _median(lambda: package.run(inputs)),
        _median(lambda: function(*inputs)),
    )
    if compiled > eager:
        raise Refused(f"it takes {compiled:.2g} s where the network takes {eager:.2g}")


def _median(call: Callable[[], list[Tensor]], repeats: int = 15) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        results = call()
        if results[0].is_cuda:
            torch.cuda.synchronize(results[0].device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Build one package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("properties", nargs="+")
    parser.add_argument("--periodic", action="store_true")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--n-atoms", type=int)
    parser.add_argument("--device", type=torch.device, default="cpu")
    arguments = parser.parse_args()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    loaded = load_potential(arguments.folder)
    # placed as it will be where the package is used
    potential = EagerEngine(loaded, arguments.device, loaded.dtype).potential
    request = Request(
        properties=frozenset(arguments.properties),
        periodic=arguments.periodic,
        dense=arguments.dense,
        n_atoms=arguments.n_atoms,
    )
    build(potential, request, arguments.target)


if __name__ == "__main__":
    main()
