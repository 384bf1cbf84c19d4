"""Learning rates: warm-up, then a cosine or steps down a plateau."""

import math

from molpool_calc.training.recipe import TrainingSection


def learning_rate(
    options: TrainingSection, step: int, *, last_step: int, rate_factor: float
) -> float:
    """Return the learning rate of a step.

    It rises linearly over the warm-up. The cosine then falls to the minimum at
    ``last_step`` (Loshchilov & Hutter 2017, Eq. 5, without restarts); the plateau
    schedule multiplies the highest rate by ``rate_factor``.

    Args:
        options: of the recipe.
        step: optimiser steps done.
        last_step: number of steps of the whole training.
        rate_factor: by which the plateau schedule has lowered the rate.
    """
    low, high = options.minimum_learning_rate, options.learning_rate
    if step < options.warmup_steps:
        return high * (step + 1) / options.warmup_steps
    if options.schedule == "plateau":
        return max(low, high * rate_factor)
    length = max(1, last_step - options.warmup_steps)
    done = min(1.0, (step - options.warmup_steps) / length)
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * done))
