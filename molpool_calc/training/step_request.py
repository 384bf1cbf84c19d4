"""What a compiled training step takes: batches as plain tensors, in two layouts.

Dense: molecules of one size, every atom with every atom; only their number is open.
Listed: any systems and pairs; the numbers of systems, atoms and pairs are open.
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
OPEN_AT_LEAST = 2
"""A size of 0 or 1 is compiled as such by torch, so it cannot be left open."""


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """What is compiled.

    Attributes:
        objective: to minimise.
        n_dense: atoms of every molecule in the dense layout, ``None`` if listed.
        periodic: whether pairs cross cells.
        device: ``cpu`` or ``cuda``.
    """

    objective: Objective
    n_dense: int | None
    periodic: bool
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


def request_of(example: Example, objective: Objective) -> StepRequest:
    """Return the request that covers batches like an example."""
    batch, pairs, _, _ = example
    return StepRequest(
        objective=objective,
        n_dense=pairs.n_dense,
        periodic=pairs.shift is not None,
        device=batch.positions.device.type,
    )


def fits(example: Example, request: StepRequest) -> bool:
    """Return whether the compiled step can take a batch."""
    batch, pairs, labels, _ = example
    enough = min(batch.systems.n_segments, pairs.center.shape[0]) >= OPEN_AT_LEAST
    wide = request.n_dense is not None or batch.systems.max_size >= OPEN_AT_LEAST
    known = all(
        label_of(labels, name) is not None for name in request.objective.weights
    )
    return (
        enough and wide and known and request_of(example, request.objective) == request
    )


def inputs_of(example: Example, request: StepRequest) -> list[Tensor]:
    """Return the inputs of the compiled step besides the parameters."""
    batch, pairs, labels, shares = example
    systems, n = batch.systems, request.n_dense
    inputs = [shares, batch.total_charge, batch.num_unpaired]
    if n is None:
        # the shape of a tensor is the only number that can be left open
        width = torch.empty(systems.max_size, dtype=torch.int8, device=shares.device)
        inputs += [batch.atomic_numbers, batch.positions, systems.index, systems.slot]
        inputs += [width, pairs.center, pairs.neighbor]
    else:
        inputs += [
            batch.atomic_numbers.reshape(-1, n),
            batch.positions.reshape(-1, n, 3),
        ]
    if request.periodic:
        assert pairs.shift is not None  # ``fits``
        inputs += [pairs.shift, batch.cell]
    for name in request.objective.weights:
        label = label_of(labels, name)
        assert label is not None  # ``fits``
        if n is not None and is_of_atoms(name):
            label = label.reshape(-1, n, *label.shape[1:])
        inputs.append(label)
    return [tensor.contiguous() for tensor in inputs]


def example_of(inputs: Sequence[Tensor], request: StepRequest) -> Example:
    """Return the batch that ``inputs_of`` made the inputs of."""
    shares, charge, unpaired, numbers, positions, *rest = inputs
    if request.n_dense is None:
        index, slot, width, center, neighbor, *rest = rest
        systems = Segments(
            index=index,
            slot=slot,
            n_segments=charge.shape[0],
            max_size=width.shape[0],
        )
    else:
        systems, center, neighbor = _dense(numbers)
    shift, cell = None, positions.new_zeros((charge.shape[0], 3, 3))
    if request.periodic:
        shift, cell, *rest = rest
    batch = AtomsBatch(
        atomic_numbers=numbers.reshape(-1),
        positions=positions.reshape(-1, 3),
        cell=cell,
        pbc=torch.full((charge.shape[0], 3), request.periodic, device=charge.device),
        total_charge=charge,
        num_unpaired=unpaired,
        systems=systems,
    )
    pairs = NeighborList(
        center=center, neighbor=neighbor, shift=shift, n_dense=request.n_dense
    )
    return batch, pairs, _labels(rest, request), shares


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
    if request.n_dense is not None:
        for name in filter(is_of_atoms, named):
            named[name] = named[name].reshape(-1, *named[name].shape[2:])
    fields: dict[str, Any] = {name: named.pop(name, None) for name in LABELS}
    weights = {n.removesuffix(WEIGHTS): v for n, v in named.items() if is_of_atoms(n)}
    scalars = {n: v for n, v in named.items() if not is_of_atoms(n)}
    return Labels(**fields, scalars=scalars, weights=weights)


def is_of_atoms(name: str) -> bool:
    """Return whether a property has a row for each atom."""
    return name == "forces" or name.endswith(WEIGHTS)


def open_sizes(request: StepRequest) -> list[dict[int, str]]:
    """Return the open sizes of the inputs: axis → name of the size."""
    shares: dict[int, str] = {}
    sizes = [shares, {0: "s"}, {0: "s"}]
    if request.n_dense is None:
        sizes += [{0: "a"}] * 4 + [{0: "w"}, {0: "e"}, {0: "e"}]
    else:
        sizes += [{0: "s"}] * 2
    sizes += [{0: "e"}, {0: "s"}] if request.periodic else []
    per_atom = "a" if request.n_dense is None else "s"
    for name in request.objective.weights:
        sizes.append({0: per_atom if is_of_atoms(name) else "s"})
    return sizes


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
