"""Force fields that go wrong for one replica of water, and runs with them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from md_models import INTEGRATORS, Waters, waters
from torch import Tensor

from molpool_calc.md.guard import NO_LIMITS, Limits
from molpool_calc.md.outcome import RunOutcome
from molpool_calc.md.recorder import Recording
from molpool_calc.md.simulate import simulate
from molpool_calc.md.state import ForceField, Response

FAULTY = 1
N_REPLICAS = 3


@dataclass(frozen=True)
class FaultyWaters:
    """Waters, of which one goes wrong by what its positions are."""

    fault: Callable[[Tensor, Response], Response]

    def __call__(self, positions: Tensor) -> Response:
        return self.fault(positions.view(-1, 3, 3)[FAULTY], Waters()(positions))


def changed(response: Response, **of_replica: Callable[[Tensor], Tensor]) -> Response:
    """The response with values of the faulty replica changed."""
    changes = {}
    for name, change in of_replica.items():
        values = getattr(response, name).clone()
        rows = slice(3 * FAULTY, 3 * FAULTY + 3) if name == "forces" else FAULTY
        values[rows] = change(values[rows])
        changes[name] = values
    return replace(response, **changes)


STRETCHED = 0.975
"""Å, of a bond: replicas at 300 K get there within some ten steps."""


def is_stretched(x: Tensor) -> bool:
    return float((x[1] - x[0]).norm()) > STRETCHED


def no_energy(x: Tensor, response: Response) -> Response:
    bad = torch.nan if is_stretched(x) else 0.0
    return changed(response, energy=lambda energy: energy + bad)


def no_dipole(x: Tensor, response: Response) -> Response:
    bad = torch.inf if is_stretched(x) else 0.0
    return changed(response, dipole=lambda dipole: dipole - bad)


def huge_force(x: Tensor, response: Response) -> Response:
    scale = 1e3 if is_stretched(x) else 1.0
    return changed(response, forces=lambda forces: forces * scale)


def collapse(x: Tensor, response: Response) -> Response:
    """A constant pull of 4 eV/Å between the hydrogen atoms, with its energy."""
    arm = x[2] - x[1]
    pull = 4.0 * arm / arm.norm()
    push = torch.stack([torch.zeros_like(pull), pull, -pull])
    return changed(
        response,
        energy=lambda energy: energy + 4.0 * arm.norm(),
        forces=lambda forces: forces + push,
    )


def swirl(x: Tensor, response: Response) -> Response:
    """A torque about x, which no energy belongs to."""
    axis = torch.tensor([1.0, 0.0, 0.0], dtype=x.dtype)
    push = 1.0 * torch.linalg.cross(axis.expand(3, 3), x - x.mean(0))
    return changed(response, forces=lambda forces: forces + push)


def healthy(x: Tensor, response: Response) -> Response:
    return response


def run_faulty(  # noqa: PLR0913 - keyword-only
    folder: Path,
    name: str,
    fault: Callable[[Tensor, Response], Response],
    *,
    limits: Limits = NO_LIMITS,
    n_steps: int = 80,
    resume: bool = False,
    progress: Callable[[int], None] | None = None,
    together: int = 1,
    calls: Callable[[ForceField], ForceField] = lambda field: field,
) -> RunOutcome:
    """Run three replicas of water, with all frames recorded."""
    integrator, field = INTEGRATORS[name], FaultyWaters(fault)
    system, state = waters(N_REPLICAS, integrator, field)
    recording = Recording(
        folder=folder,
        every=1,
        checkpoint_every=40,
        header={"inputs": {"seed": 0}},
        resume=resume,
        together=together,
    )
    return simulate(
        calls(field),
        system,
        state,
        integrator,
        n_steps=n_steps,
        recording=recording,
        progress=progress,
        guard=limits,
    )
