"""Compiles a training step: trace, export, compile, verify. In its own process.

``python -m molpool_calc.training.build_step FOLDER TARGET REQUEST`` writes TARGET, or
ends with an error whose last line is the reason. Loss, forces and the gradient of the
loss are one graph without automatic differentiation, which the compiler fuses as it
does any other; the parameters are inputs, so that one package serves a whole training.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Sequence
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
    LEAST,
    Example,
    StepRequest,
    example_of,
    inputs_of,
    is_of_atoms,
)
from molpool_calc.training.steps import gradient_at

MOST = 100_000
"""Molecules of a batch."""
VERIFIED = (2, 3, 5, 16)
"""Molecules of the batches on which the compiled step is compared."""
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
    example = random_example(potential, request, unlike(parameters, request.n_dense))
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
    inputs = inputs_of(example, request)
    arguments = (parameters, *inputs)
    traced = make_fx(step, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
        *arguments
    )
    n_molecules = torch.export.Dim("n_molecules", min=LEAST, max=MOST)
    open_axes: list[dict[int, object] | None] = [{0: n_molecules} for _ in inputs]
    open_axes[0] = None  # the shares
    exported = torch.export.export(
        traced,
        arguments,
        dynamic_shapes=([None] * len(parameters), *open_axes),
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


def unlike(parameters: Sequence[Tensor], n_dense: int) -> int:
    """Return a number of molecules that no axis of anything else has.

    Tracing takes axes of one size for the same. Numbers of atoms and pairs, which
    follow from it, have no axis in common with the parameters either.

    Args:
        parameters: of the potential.
        n_dense: atoms of a molecule.
    """
    taken = {size for parameter in parameters for size in parameter.shape}
    taken |= {n_dense, n_dense**2}
    return next(n for n in count(11, 2) if not taken & {n, n * n_dense, n * n_dense**2})


def random_example(
    potential: NeuralPotential, request: StepRequest, n_systems: int
) -> Example:
    """Return random structures with random labels, and random shares.

    Labels are as large as values are, so that the loss is none of small differences.
    """
    from molpool_calc.neighbors import dense_pairs  # noqa: PLC0415

    n_atoms = request.n_dense
    batch, _ = random_batch(potential, n_systems, n_atoms, periodic=False)
    pairs = dense_pairs(batch)
    assert pairs is not None  # all are of one size
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
    """Compare with the network as written: several batches, and other parameters.

    Raises:
        Refused: the loss or a gradient deviates by more than rounding.
    """
    names = ["loss", *(name for name, _ in potential.named_parameters())]
    for n_systems in VERIFIED:
        example = random_example(potential, request, n_systems)
        # other values than those traced, which must not have become constants
        parameters = [
            p.detach() * (1.0 + 0.02 * n_systems) for p in potential.parameters()
        ]
        found = run([*parameters, *inputs_of(example, request)])
        true = gradient_at(parameters, potential, request.objective, example)
        deviation = worst_deviation(found, true, TOLERANCES[potential.dtype], names)
        if deviation:
            raise Refused(f"{n_systems} molecules: {deviation}")


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
