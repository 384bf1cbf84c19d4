"""How ``evaluate`` runs: the seam behind which faster engines will stand.

An engine owns the placement of a potential (device, dtype, frozen weights) and turns
a batch and its pairs into detached results. ``EagerEngine`` runs the network as
written.
"""

from typing import Literal, Protocol, runtime_checkable

import torch
from torch import nn

from molpool_calc.derivatives import evaluate, unchecked
from molpool_calc.interfaces import AtomsBatch, NeighborList, Prediction
from molpool_calc.potential import NeuralPotential

DTypeName = Literal["float32", "float64"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}


@runtime_checkable
class Engine(Protocol):
    """Evaluates one potential at one dtype on one device."""

    potential: NeuralPotential
    device: torch.device
    dtype: torch.dtype

    def evaluate(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return detached results on the engine's device."""
        ...


@runtime_checkable
class Recordable(Engine, Protocol):
    """An engine whose evaluations can be recorded as a CUDA graph."""

    def compute(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return what ``evaluate`` does without a look at any value."""
        ...

    def variant(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> object:
        """Return what runs now, so that a recording of something else is noticed."""
        ...


def resolve_device(device: str) -> torch.device:
    """Return the device named, ``"auto"`` being CUDA where there is one.

    Raises:
        ValueError: the name is no device, or the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = torch.device("meta")  # as unusable as that one
    if resolved.type not in {"cpu", "cuda"}:
        raise ValueError(f"device {device!r} is unknown; give auto, cpu or cuda")
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} was asked for, but torch finds no GPU")
    return resolved


def resolve_dtype(dtype: str | None) -> torch.dtype:
    """Return the floating-point type named; ``None`` is float32.

    Raises:
        ValueError: neither float32 nor float64.
    """
    if dtype is None:
        return torch.float32
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is unknown; give float32 or float64")
    return DTYPES[dtype]


class EagerEngine:
    """Runs the network operation by operation, derivatives by automatic gradient.

    Args:
        potential: moved to ``device`` and ``dtype`` in place, its weights frozen.
        device: as resolved.
        dtype: of positions, features and forces; energies are float64 always.
    """

    def __init__(
        self, potential: NeuralPotential, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.potential = potential.to(device=device, dtype=dtype).eval()
        self.device, self.dtype = device, dtype
        _freeze(self.potential)
        if device.type == "cuda":
            _transpose_wide_layers(self.potential)

    def evaluate(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return detached results (see ``derivatives.evaluate``)."""
        return evaluate(self.potential, batch, neighbors, properties=properties)

    def compute(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> Prediction:
        """Return the same without a look at any value, so that it can be recorded."""
        return unchecked(self.potential, batch, neighbors, properties)

    def variant(
        self, batch: AtomsBatch, neighbors: NeighborList, properties: frozenset[str]
    ) -> None:
        """Return nothing: there is one way only."""


def _transpose_wide_layers(module: nn.Module) -> None:
    """Store the weights of layers that widen their input column by column.

    Their backward pass, a product with few rows and a long sum, is then the kind for
    which cuBLAS has a fast kernel: 4 µs on an H200 where the usual order takes 51.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.out_features > layer.in_features:
            layer.weight.data = layer.weight.data.t().contiguous().t()


def _freeze(module: nn.Module) -> None:
    # weights without gradients halve the work of the backward pass
    module.requires_grad_(requires_grad=False)
