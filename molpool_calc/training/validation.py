"""Errors of a potential on frames, computed by all processes together."""

import numpy as np
from jaxtyping import Int

from molpool_calc.derivatives import evaluate
from molpool_calc.potential import NeuralPotential
from molpool_calc.training.frames import Frames
from molpool_calc.training.losses import Errors, ErrorSum, Objective, loss
from molpool_calc.training.processes import Processes

BATCH = 64


def errors_of(
    potential: NeuralPotential,
    frames: Frames,
    indices: Int[np.ndarray, " n"],
    properties: frozenset[str],
    objective: Objective,
    processes: Processes,
) -> tuple[dict[str, Errors], float]:
    """Return the errors of the properties, and the loss.

    Each process takes every so many-th batch; all get the same result.
    """
    errors, total = ErrorSum(), 0.0
    batches = range(0, len(indices), BATCH)
    for first in batches[processes.rank :: processes.size]:
        part = indices[first : first + BATCH]
        batch, pairs, labels = frames.batch(part)
        prediction = evaluate(potential, batch, pairs, properties=properties)
        errors.add(prediction, labels)
        total += len(part) * float(loss(prediction, labels, batch, objective))
    gathered = processes.gather((errors, total))
    errors.join([part for part, _ in gathered])
    total = sum(part for _, part in gathered)
    return errors.result(), total / max(1, len(indices))
