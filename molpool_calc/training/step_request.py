"""What a compiled training step takes: molecules of one size, as plain tensors.

Every atom is with every atom; only the number of molecules is open. Batches of several
sizes and periodic systems are left to the network as written.
"""

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from molpool_calc.compilation.cache import sources_sha256
from molpool_calc.interfaces import AtomsBatch, NeighborList, Segments
from molpool_calc.potential import NeuralPotential
from molpool_calc.training.frames import LABELS, Labels
from molpool_calc.training.losses import Objective, label_of
from molpool_calc.training.named_arrays import WEIGHTS

Example = tuple[AtomsBatch, NeighborList, Labels, Tensor]
"""What a step is called with: batch, pairs, labels and shares."""

SOURCES = ("training/losses.py", "training/steps.py", "training/step_request.py")
LEAST = 2
"""Molecules: a size of 0 or 1 is compiled as such by torch, and cannot be left open."""


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """What is compiled.

    Attributes:
        objective: to minimise.
        n_dense: atoms of every molecule.
        device: ``cpu`` or ``cuda``.
    """

    objective: Objective
    n_dense: int
    device: str

    def to_json(self) -> str:
        """Return the request as text, the same for the same request."""
        table = asdict(self)
        # order counts: the shares follow it
        table["objective"]["weights"] = list(self.objective.weights.items())
        table["objective"]["partly_labelled"] = sorted(self.objective.partly_labelled)
        return json.dumps(table, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "StepRequest":
        """Return the request that a text states."""
        table = json.loads(text)
        stated = table.pop("objective")
        stated["weights"] = dict(stated["weights"])
        stated["partly_labelled"] = frozenset(stated["partly_labelled"])
        return cls(objective=Objective(**stated), **table)


def request_of(example: Example, objective: Objective) -> StepRequest | None:
    """Return the request that covers batches like an example.

    Returns:
        ``None`` for a batch of molecules of several sizes, or of periodic systems.
    """
    batch, pairs, _, _ = example
    if pairs.n_dense is None or pairs.shift is not None:
        return None
    device = batch.positions.device.type
    return StepRequest(objective=objective, n_dense=pairs.n_dense, device=device)


def fits(example: Example, request: StepRequest) -> bool:
    """Return whether the compiled step can take a batch."""
    batch, _, labels, _ = example
    known = all(
        label_of(labels, name) is not None for name in request.objective.weights
    )
    enough = batch.systems.n_segments >= LEAST
    return enough and known and request_of(example, request.objective) == request


def inputs_of(example: Example, request: StepRequest) -> list[Tensor]:
    """Return the inputs of the compiled step besides the parameters.

    The first axis of all but the shares is that of the molecules.
    """
    batch, _, labels, shares = example
    n = request.n_dense
    inputs = [
        shares,
        batch.total_charge,
        batch.num_unpaired,
        batch.atomic_numbers.reshape(-1, n),
        batch.positions.reshape(-1, n, 3),
    ]
    for name in request.objective.weights:
        label = label_of(labels, name)
        assert label is not None  # ``fits``
        if is_of_atoms(name):
            label = label.reshape(-1, n, *label.shape[1:])
        inputs.append(label)
    return [tensor.contiguous() for tensor in inputs]


def example_of(inputs: Sequence[Tensor], request: StepRequest) -> Example:
    """Return the batch that ``inputs_of`` made the inputs of."""
    shares, charge, unpaired, numbers, positions, *labels = inputs
    systems, center, neighbor = _dense(numbers)
    batch = AtomsBatch(
        atomic_numbers=numbers.reshape(-1),
        positions=positions.reshape(-1, 3),
        cell=positions.new_zeros((charge.shape[0], 3, 3)),
        pbc=torch.full((charge.shape[0], 3), False, device=charge.device),
        total_charge=charge,
        num_unpaired=unpaired,
        systems=systems,
    )
    pairs = NeighborList(
        center=center, neighbor=neighbor, shift=None, n_dense=request.n_dense
    )
    return batch, pairs, _labels(labels, request), shares


def _dense(numbers: Tensor) -> tuple[Segments, Tensor, Tensor]:
    s, n = numbers.shape
    system = torch.arange(s, device=numbers.device)[:, None]
    slot = torch.arange(n, device=numbers.device)[None, :]
    atoms = system * n + slot
    systems = Segments(
        index=system.expand(s, n).reshape(-1),
        slot=slot.expand(s, n).reshape(-1),
        n_segments=s,
        max_size=n,
    )
    center = atoms[:, :, None].expand(s, n, n).reshape(-1)
    return systems, center, atoms[:, None, :].expand(s, n, n).reshape(-1)


def _labels(values: Sequence[Tensor], request: StepRequest) -> Labels:
    named = dict(zip(request.objective.weights, values, strict=True))
    for name in filter(is_of_atoms, named):
        named[name] = named[name].reshape(-1, *named[name].shape[2:])
    fields: dict[str, Any] = {name: named.pop(name, None) for name in LABELS}
    weights = {n.removesuffix(WEIGHTS): v for n, v in named.items() if is_of_atoms(n)}
    scalars = {n: v for n, v in named.items() if not is_of_atoms(n)}
    return Labels(**fields, scalars=scalars, weights=weights)


def is_of_atoms(name: str) -> bool:
    """Return whether a property has a row for each atom."""
    return name == "forces" or name.endswith(WEIGHTS)


def key_of(potential: NeuralPotential, request: StepRequest) -> str:
    """Return the key of a compiled step; the parameters do not count.

    It holds for every potential of this architecture, since parameters are inputs.
    """
    spec = potential.spec
    digest = hashlib.sha256()
    for buffer in potential.buffers():
        digest.update(buffer.detach().cpu().numpy().tobytes())
    facts = [
        json.dumps([spec.network, spec.heads, spec.terms], sort_keys=True, default=str),
        digest.hexdigest(),
        request.to_json(),
        str(potential.dtype),
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        platform.machine(),
        sources_sha256(SOURCES),
    ]
    if request.device == "cuda":
        facts.append(torch.cuda.get_device_name())
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
