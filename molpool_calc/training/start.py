"""Training that starts from the weights of another potential."""

from pathlib import Path

import torch

from molpool_calc.potential import NeuralPotential
from molpool_calc.storage import bundled_names, load_potential


def start_from(potential: NeuralPotential, source: str, folder: Path) -> None:
    """Copy all weights of the network, and those of the heads that both have.

    Args:
        potential: about to be trained; changed in place.
        source: bundled name, or a folder of a potential relative to ``folder``.
        folder: of the recipe.

    Raises:
        ValueError: no such potential, or another network.
    """
    path = source if source in bundled_names() else folder / source
    given = load_potential(path).state_dict()
    own = potential.state_dict()
    for name, value in own.items():
        fits = name in given and given[name].shape == value.shape
        if name.startswith("network.") and not fits:
            raise ValueError(
                f"training.start_from = {source!r}, but its network has no {name} of "
                f"shape {list(value.shape)}; state the same [network]"
            )
        if fits:
            with torch.no_grad():
                value.copy_(given[name])
