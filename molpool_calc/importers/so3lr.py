"""The published weights of SO3LR (``params.pkl``) as a potential of MolPool.

SO3LR is a So3krates network with learned repulsion at short range, damped
electrostatics of learned charges, and van der Waals–QDO dispersion from learned
Hirshfeld ratios. Its tensors are taken over bit for bit. What the file does not hold
(cutoff, norm of the messages, damping) is that of the one published model.
"""

from os import PathLike
from pathlib import Path
from typing import Any

from molpool_calc.importers.numpy_pickle import read_numpy_pickle
from molpool_calc.importers.so3lr_tensors import (
    N_FEATURES,
    N_HEADS,
    N_LAYERS,
    N_RATIO,
    N_RBF,
    N_ROWS,
    so3lr_state,
)
from molpool_calc.potential import NeuralPotential, PotentialSpec

CUTOFF = 4.5
NETWORK: dict[str, Any] = {
    "kind": "so3krates-euclidean",
    "n_features": N_FEATURES,
    "n_interactions": N_LAYERS,
    "n_heads": N_HEADS,
    "degrees": [1, 2, 3, 4],
    "cutoff": CUTOFF,
    "n_rbf": N_RBF,
    "radial_basis": "bernstein",
    "cutoff_function": "polynomial",
    "n_neighbors": 13.168995780096482,
    "max_atomic_number": N_ROWS - 1,
}
HEADS: dict[str, dict[str, Any]] = {
    "energy": {"n_hidden": N_FEATURES, "pooling": "sum", "element_scales": True},
    "dipole": {"use_vectors": False, "n_hidden": N_FEATURES, "element_charges": True},
    "hirshfeld": {"n_hidden": N_RATIO},
}
DESCRIPTION = (
    "SO3LR: molecules and condensed phases of H, C, N, O, F, P, S, Cl. It was trained "
    "on forces, dipoles and Hirshfeld ratios, not on energies: only differences of "
    "energies at fixed composition, charge, spin and long-range cutoff (here {cutoff}) "
    "mean anything."
)


def import_so3lr(
    path: str | PathLike[str],
    *,
    name: str = "so3lr",
    long_range_cutoff: float | None = None,
    damping: float = 2.0,
) -> NeuralPotential:
    """Return the potential in the ``params.pkl`` of SO3LR; nothing in it is executed.

    Args:
        path: the file.
        name: what to call the potential.
        long_range_cutoff: of electrostatics and dispersion, Å. Without one all pairs
            count, which only molecules allow; periodic systems need one.
        damping: over so many Å below that cutoff the dispersion is switched off.

    Raises:
        ValueError: a file that is no such pickle or names anything else than arrays, a
            missing, misshapen or left-over tensor, a wrong length; the message names
            it.
    """
    path = Path(path)
    tree = read_numpy_pickle(path)
    cutoff = long_range_cutoff
    said = "none: all pairs count" if cutoff is None else f"{cutoff:g} Å"
    spec = PotentialSpec(
        name=name,
        elements=(1, 6, 7, 8, 9, 15, 16, 17),
        network=NETWORK,
        heads=HEADS,
        terms={
            "zbl": {"cutoff": CUTOFF, "cutoff_function": "polynomial"},
            "electrostatics": {"cutoff": cutoff},
            "dispersion": {"cutoff": cutoff, "switching_width": damping},
        },
        level_of_theory="PBE0+MBD",
        description=DESCRIPTION.format(cutoff=said),
        license="MIT",
        total_charges=(-1, 0, 1),
        num_unpaired=(0, 1),
        source=f"SO3LR, params.pkl of SHA-256 {tree.sha256}",
    )
    potential = NeuralPotential(spec)
    try:
        potential.load_state_dict(so3lr_state(tree.tensors))
    except ValueError as error:
        raise ValueError(f"{path} was refused: {error}") from error
    return potential
