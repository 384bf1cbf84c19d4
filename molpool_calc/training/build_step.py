"""Compiles a training step: trace, export, compile, verify. In its own process.

``python -m molpool_calc.training.build_step FOLDER TARGET REQUEST`` writes TARGET, or
ends with an error whose last line is the reason. Loss, forces and the gradient of the
loss are one graph without automatic differentiation, which the compiler fuses as it
does any other; the parameters are inputs, so that one package serves a whole training.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from molpool_calc.compilation.structures import random_batch
from molpool_calc.potential import NeuralPotential
from molpool_calc.storage import load_potential
from molpool_calc.training.frames import LABELS, Labels
from molpool_calc.training.named_arrays import WEIGHTS
from molpool_calc.training.step_request import (
    Example,
    StepRequest,
    example_of,
    inputs_of,
    is_of_atoms,
    open_sizes,
)
from molpool_calc.training.steps import gradient_at

MOST = {"s": 100_000, "a": 1_000_000, "e": 10_000_000, "w": 100_000}
VERIFIED = ((2, 4), (5, 9), (3, 14), (16, 7))
"""Systems and atoms of the batches on which the compiled step is compared."""
TOLERANCES = {torch.float32: 2e-4, torch.float64: 1e-9}
"""Largest deviation of a gradient, relative to its largest component."""
WHOLE = 0.01
"""Of this tolerance, the part that is relative to the largest gradient of all."""

Run = Callable[[list[Tensor]], list[Tensor]]


class Refused(RuntimeError):
    """The compiled step is wrong; the message says where."""


def build(potential: NeuralPotential, request: StepRequest, target: Path) -> None:
    """Write a verified package.

    Raises:
        Refused: it deviates from the network as written.
    """
    parameters = [p.detach() for p in potential.parameters()]
    n_systems = unlike(parameters)
    example = random_example(potential, request, n_systems, n_systems + 2)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        path = Path(scratch) / "package.pt2"
        compile_step(potential, request, example, path)
        verify(load_step(path), potential, request)
        path.replace(target)


def compile_step(
    potential: NeuralPotential, request: StepRequest, example: Example, path: Path
) -> None:
    """Trace the step with open sizes and compile it ahead of time."""
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415 - 2 s

    def step(parameters: Sequence[Tensor], *inputs: Tensor) -> list[Tensor]:
        batch = example_of(inputs, request)
        return gradient_at(parameters, potential, request.objective, batch)

    parameters = [p.detach() for p in potential.parameters()]
    arguments = (parameters, *inputs_of(example, request))
    traced = make_fx(step, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
        *arguments
    )
    names = {name for sizes in open_sizes(request) for name in sizes.values()}
    dims = {name: torch.export.Dim(name, min=2, max=MOST[name]) for name in names}
    sizes = [{k: dims[n] for k, n in axes.items()} for axes in open_sizes(request)]
    exported = torch.export.export(
        traced,
        arguments,
        dynamic_shapes=([None] * len(parameters), *sizes),
        strict=False,
    )
    # without reordering, as for packages of evaluation; one thread outside of matrix
    # products, since several would add up in an order that changes from run to run
    options = {"reorder_for_locality": False, "cpp.threads": 1}
    torch._inductor.aoti_compile_and_package(
        exported, package_path=str(path), inductor_configs=options
    )


def load_step(path: Path, gpu: int | None = None) -> Run:
    """Return the compiled function of a package, of parameters and then inputs.

    Args:
        path: of the package.
        gpu: number of the one to run on; by default the current.
    """
    loader = torch._C._aoti.AOTIModelPackageLoader(
        str(path), "model", False, 1, -1 if gpu is None else gpu
    )
    run: Run = loader.run
    return run


def unlike(parameters: Sequence[Tensor]) -> int:
    """Return a number of systems that no axis of a parameter has, nor two more.

    Tracing takes axes of one size for the same, so a batch must have none in common
    with the parameters.
    """
    taken = {size for parameter in parameters for size in parameter.shape}

    def candidates() -> Iterator[int]:
        for n in count(11, 2):
            if not taken & {n, n + 2, n * (n + 2), n * (n + 2) * (n + 1)}:
                yield n

    return next(candidates())


def random_example(
    potential: NeuralPotential, request: StepRequest, n_systems: int, n_atoms: int
) -> Example:
    """Return random structures with random labels, and random shares.

    Labels are as large as values are, so that the loss is none of small differences.
    """
    n_atoms = request.n_dense or n_atoms
    batch, pairs = random_batch(
        potential, n_systems, n_atoms, periodic=request.periodic
    )
    if request.n_dense is not None:
        from molpool_calc.neighbors import dense_pairs  # noqa: PLC0415

        dense = dense_pairs(batch)
        assert dense is not None  # all are of one size
        pairs = dense
    generator = torch.Generator().manual_seed(n_systems)
    sizes = {"dipole": (3,), "polarizability": (3, 3), "forces": (3,)}
    named: dict[str, Tensor] = {}
    for name in request.objective.weights:
        rows = n_systems * n_atoms if is_of_atoms(name) else n_systems
        values = torch.randn((rows, *sizes.get(name, ())), generator=generator)
        if name in request.objective.partly_labelled:
            values[::3] = torch.nan
        scalar = name == "energy" or not (is_of_atoms(name) or name in LABELS)
        named[name] = values.to(torch.float64 if scalar else potential.dtype)
    labels = Labels(
        energy=named.pop("energy", None),
        forces=named.pop("forces", None),
        dipole=named.pop("dipole", None),
        polarizability=named.pop("polarizability", None),
        weights={
            n.removesuffix(WEIGHTS): v for n, v in named.items() if is_of_atoms(n)
        },
        scalars={n: v for n, v in named.items() if not is_of_atoms(n)},
    )
    shares = torch.rand(len(request.objective.weights), generator=generator)
    example = batch, pairs, labels, shares.to(potential.dtype)
    return on_device(example, request)


def on_device(example: Example, request: StepRequest) -> Example:
    """Return an example on the device of the request."""
    inputs = [t.to(request.device) for t in inputs_of(example, request)]
    return example_of(inputs, request)


def verify(run: Run, potential: NeuralPotential, request: StepRequest) -> None:
    """Compare with the network as written: several sizes, and other parameters.

    Raises:
        Refused: the loss or a gradient deviates by more than rounding.
    """
    names = ["loss", *(name for name, _ in potential.named_parameters())]
    for n_systems, n_atoms in VERIFIED:
        example = random_example(potential, request, n_systems, n_atoms)
        # other values than those traced, which must not have become constants
        parameters = [
            p.detach() * (1.0 + 0.02 * n_systems) for p in potential.parameters()
        ]
        found = run([*parameters, *inputs_of(example, request)])
        true = gradient_at(parameters, potential, request.objective, example)
        deviation = worst_deviation(found, true, TOLERANCES[potential.dtype], names)
        if deviation:
            raise Refused(f"{n_systems} systems of {n_atoms} atoms: {deviation}")


def worst_deviation(
    found: Sequence[Tensor],
    true: Sequence[Tensor],
    tolerance: float,
    names: Sequence[str],
) -> str:
    """Return what deviates by more than the tolerance, empty if nothing does."""
    largest = [float(tensor.abs().max()) if tensor.numel() else 0.0 for tensor in true]
    whole = max(largest[1:], default=0.0)
    for name, one, other, size in zip(names, found, true, largest, strict=True):
        off = float((one - other).abs().max()) if one.numel() else 0.0
        allowed = tolerance * (size + WHOLE * whole)
        if one.shape != other.shape or not off <= allowed:
            return f"{name} deviates by {off:.2g} of {size:.2g}"
    return ""


def main() -> None:
    """Build one package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("request", type=StepRequest.from_json)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    request: StepRequest = arguments.request
    potential = load_potential(arguments.folder).to(request.device)
    build(potential, request, arguments.target)


if __name__ == "__main__":
    main()
