"""The program that steps i-PI through the stages of one replica.

Run as ``python -m molpool_calc.path_integrals.child HOLD THREADS STAGE:STEPS …`` in the
folder of the replica. After every block of steps it brings the outputs to the disk,
then writes the checkpoint from which a later call goes on, then prints how far it is:
no sample before a checkpoint is ever missing, and those after it come twice when the
program was killed, which readers of its files must expect. It ends when its standard
input closes, so that it never outlives the program that started it.
"""

import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.calculators.calculator import CalculatorError
from jaxtyping import Float

from molpool_calc.path_integrals.protocol import FAILED, PROGRESS, checkpoint_of
from molpool_calc.spectra.vibrational_dos import Rotations, rotations_of

BLOCK = 500
"""Steps between two checkpoints: seconds of work, and milliseconds to write."""

_FORCES = re.compile("<ffdirect.*?</ffdirect>", re.DOTALL)


def run_stage(stage: str, n_steps: int, *, hold: bool) -> None:
    """Run a stage from its checkpoint, or from its input where there is none.

    Args:
        stage: ``equilibration`` or ``production``.
        n_steps: in all, earlier calls included.
        hold: keep translation and rotation of the centroids at zero.
    """
    from ipi.engine.simulation import Simulation  # noqa: PLC0415 - an extra

    folder = Path.cwd()
    if not checkpoint_of(folder, stage).exists():
        _remove_outputs(folder, stage)

    def before_binding(simulation: Any) -> None:
        simulation.tsteps = n_steps
        for system in simulation.syslist:
            if hold:
                _hold_rigid_motion(system)

    text = _input_of(folder, stage)
    simulation = Simulation.load_from_xml(text, post_init_hook=before_binding)
    simulation.chk.filename = f"{stage}.restart.part"
    _run(simulation, n_steps, checkpoint_of(folder, stage))


def _input_of(folder: Path, stage: str) -> str:
    """Return the input of a stage, or its checkpoint with the forces of the input."""
    text = (folder / f"{stage}.xml").read_text(encoding="utf-8")
    begun = checkpoint_of(folder, stage)
    if not begun.exists():
        return text
    # the potential may lie elsewhere by now, or run on another device
    forces = _FORCES.search(text)
    state = begun.read_text(encoding="utf-8")
    return state if forces is None else _FORCES.sub(lambda _: forces.group(), state)


def _run(simulation: Any, n_steps: int, checkpoint: Path) -> None:
    while simulation.step < n_steps:
        simulation.tsteps = min(simulation.step + BLOCK, n_steps)
        simulation.run()
        simulation.step += 1
        for output in simulation.outputs:
            output.out.flush()
            os.fsync(output.out.fileno())
        # the checkpoint has the steps done, and all that are to be done
        simulation.tsteps = n_steps
        simulation.chk.store()
        partial = Path(simulation.chk.filename)
        partial.unlink(missing_ok=True)
        simulation.chk.write(store=False)
        partial.replace(checkpoint)
        sys.stdout.write(f"{PROGRESS} {checkpoint.stem} {simulation.step}\n")
        sys.stdout.flush()


def _hold_rigid_motion(system: Any) -> None:
    """Keep total linear and angular momentum of the centroids at zero.

    i-PI can do so with the linear momentum only. It asks the motion for the number of
    degrees of freedom that are held, and the integrator for the constraint after every
    change of momenta: both are answered here. The energy taken out is booked as i-PI
    books that of the centre of mass.
    """
    motion, integrator = system.motion, system.motion.integrator
    rotations: list[Rotations] = []

    def centroids() -> np.ndarray:
        # the modes are those of an orthonormal transformation of the beads
        ring = np.array(system.nm.qnm[0]) * system.beads.nbeads**-0.5
        return np.asarray(ring.reshape(-1, 3))

    def constrain() -> None:
        masses = np.array(system.beads.m)
        momenta = np.array(system.nm.pnm[0]).reshape(-1, 3)
        kept = without_rigid_motion(centroids(), momenta, masses, rotations[0])
        taken = (momenta**2 - kept**2) / (2.0 * masses[:, None])
        system.ensemble.eens += float(taken.sum())
        system.nm.pnm[0] = kept.reshape(-1)

    def held() -> int:
        rotations[:] = [rotations_of(centroids(), np.array(system.beads.m))]
        return 3 + int(rotations[0])

    motion.get_fixdof = held
    integrator.pconstraints = constrain


def without_rigid_motion(
    positions: Float[np.ndarray, "atoms 3"],
    momenta: Float[np.ndarray, "atoms 3"],
    masses: Float[np.ndarray, " atoms"],
    rotations: Rotations,
) -> Float[np.ndarray, "atoms 3"]:
    """Return momenta without total linear and angular momentum, in a few µs.

    ``p_i - m_i(V + ω × d_i)`` with ``ω = I⁻¹L``, as `spectra.internal_velocities`.
    """
    shares = masses / masses.sum()
    arms = positions - shares @ positions
    kept = momenta - np.outer(shares, momenta.sum(axis=0))
    spin = arms.T @ kept
    angular = np.array([spin[1, 2] - spin[2, 1], spin[2, 0] - spin[0, 2], 0.0])
    angular[2] = spin[0, 1] - spin[1, 0]
    second = (masses[:, None] * arms).T @ arms
    moments, axes = np.linalg.eigh(np.trace(second) * np.eye(3) - second)
    moments, axes = moments[3 - rotations :], axes[:, 3 - rotations :]
    x, y, z = axes @ ((angular @ axes) / moments)
    turn = np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]])
    return np.asarray(kept - masses[:, None] * (arms @ turn))


def _remove_outputs(folder: Path, stage: str) -> None:
    """Remove what a call left that ended before its first checkpoint."""
    for path in folder.glob(f"{stage}.*"):
        if path.suffix != ".xml":
            path.unlink()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)  # i-PI's own way out would wait for the step in progress


if __name__ == "__main__":
    HOLD, THREADS, *STAGES = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(int(THREADS))
    try:
        for text in STAGES:
            name, _, length = text.partition(":")
            run_stage(name, int(length), hold=HOLD == "hold")
    except (ValueError, CalculatorError) as error:
        sys.stdout.write(f"{FAILED} {' '.join(str(error).split())}\n")
        sys.stdout.flush()
    sys.stdout.flush()
    os._exit(0)  # past i-PI's threads, whose exit writes one more checkpoint
