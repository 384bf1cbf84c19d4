"""Which engine gives the gradients of a training: compiled code or the network."""

from collections.abc import Callable
from typing import Literal

from molpool_calc.training.compiled_step import find_step
from molpool_calc.training.processes import Processes
from molpool_calc.training.step_request import Example
from molpool_calc.training.steps import EagerStep, Step

Compile = Literal["auto", "now", "cached", "never"]
PAYS_AFTER = 20_000
"""Steps: half of those of PaiNN (128 features, ten ethanols) are twice the build."""


def choose_step(
    eager: EagerStep,
    example: Example,
    mode: Compile,
    *,
    kept: str | None,
    n_steps: int,
    processes: Processes,
    waiting: Callable[[], None],
) -> Step:
    """Return the step of a training, the same engine on all processes.

    Args:
        eager: the step as written.
        example: the first batch, on which compiled code is checked.
        mode: of the recipe.
        kept: engine of a training that is resumed; ``None`` for a new one.
        n_steps: of the whole training.
        processes: that train together; one of each machine compiles.
        waiting: called before the step is compiled.

    Raises:
        ValueError: a resumed training needs compiled code that cannot be had.
    """
    if mode == "never" or kept == "eager":
        return eager
    build = (
        kept == "compiled"
        or mode == "now"
        or (mode == "auto" and n_steps >= PAYS_AFTER)
    )
    step = None
    for turn in (True, False):  # one compiles, then the others find it
        if turn == (processes.rank_on_machine == 0):
            step = find_step(eager, example, build=build and turn, waiting=waiting)
        found = processes.gather(step is not None)
    if step is not None and all(found):
        return step
    if kept == "compiled":
        raise ValueError(
            "this training was begun with a compiled step, which is not to be had "
            'here; set training.compile = "never" to go on with the network as '
            "written, which is equal within rounding"
        )
    return eager
