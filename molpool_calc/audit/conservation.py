"""Whether dynamics as users run it, in float32, conserves the energy."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from molpool_calc.atoms import charge_and_spin_of
from molpool_calc.audit.check import Check, unmeasured
from molpool_calc.engine import EagerEngine
from molpool_calc.md.integrators import NVE
from molpool_calc.md.outcome import energy_drift
from molpool_calc.md.state import kinetic_energy
from molpool_calc.potential import NeuralPotential
from molpool_calc.replicas import Progress, make_replicas, thermal_state

MAX_DRIFT = 1.0
"""meV/atom/ps: some ten times what the slow part of the oscillation of a conserved
energy looks like in 2 ps."""
MIN_PICOSECONDS = 1.0
"""A shorter run measures that oscillation and no drift, and is not judged."""
TIMESTEP_FS = 0.5


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """How long and how hot; ``seed`` is of the first momenta."""

    picoseconds: float = 2.0
    temperature: float = 300.0
    seed: int = 0

    @property
    def n_steps(self) -> int:
        """Steps of the run."""
        return max(2, round(1e3 * self.picoseconds / TIMESTEP_FS))


def nve_drift(
    potential: NeuralPotential,
    atoms: Atoms,
    device: torch.device,
    dynamics: Dynamics,
    progress: Progress,
) -> Check:
    """Run at constant energy from thermal momenta, and fit a line to the energy."""
    unit = "meV/atom/ps"
    if "energy" not in potential.properties or len(atoms) == 1:
        return unmeasured(unit)
    engine = EagerEngine(deepcopy(potential), device, torch.float32)
    replicas = make_replicas(
        engine, atoms, state=charge_and_spin_of(atoms), n_replicas=1
    )
    step = NVE(timestep_fs=TIMESTEP_FS)
    system = replicas.system(step.free)
    state = thermal_state(replicas, system, dynamics.temperature, dynamics.seed)
    energies = []
    for done in range(dynamics.n_steps):
        state = step(system, state, replicas.force_field)
        energies.append(state.response.energy + kinetic_energy(system, state.momenta))
        progress(done + 1)
    total = torch.stack(energies).cpu().numpy()
    steps = np.arange(len(total))
    (drift,) = energy_drift(
        steps, total, timestep_fs=TIMESTEP_FS, n_atoms=len(atoms)
    ).tolist()
    details = {
        "drift": drift,
        "fluctuation_mev_per_atom": 1e3 * float(total.std()) / len(atoms),
        "picoseconds": dynamics.n_steps * TIMESTEP_FS * 1e-3,
        "timestep_fs": TIMESTEP_FS,
        "temperature": dynamics.temperature,
    }
    is_long = dynamics.picoseconds >= MIN_PICOSECONDS
    limit = MAX_DRIFT if is_long else None
    return Check(value=abs(drift), limit=limit, unit=unit, details=details)
