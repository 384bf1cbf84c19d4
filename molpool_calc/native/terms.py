"""The pair terms of a potential under the names that the compiled code reads."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from molpool_calc.elements import MAX_ATOMIC_NUMBER
from molpool_calc.heads import DipoleHead
from molpool_calc.native.names import Archive, NotCovered, envelope_of
from molpool_calc.pair_terms import (
    DampedElectrostatics,
    QDODispersion,
    ZBLRepulsion,
)
from molpool_calc.pair_terms.dispersion import (
    DAMPING_LENGTH,
    FINE_STRUCTURE,
    WIDTH,
)
from molpool_calc.pair_terms.electrostatics import SWITCH_START
from molpool_calc.potential import NeuralPotential
from molpool_calc.units import BOHR, COULOMB

N_ROWS = MAX_ATOMIC_NUMBER + 1
"""Of every table of elements, so that no atom is beyond its end."""


def terms_of(potential: NeuralPotential) -> Archive:
    """Return settings and tables of the terms, float64.

    Raises:
        NotCovered: a term is not among those of the code, or a gradient would have to
            go through atomic dipoles.
    """
    archive: Archive = {}
    for name, term in potential.terms.items():
        if type(term) not in TERMS:
            raise NotCovered(f"the term {type(term).__name__}")
        archive |= {
            f"{name}.{key}": np.atleast_1d(np.asarray(value, dtype=np.float64))
            for key, value in TERMS[type(term)](term, potential).items()
        }
    return archive


def _zbl(term: ZBLRepulsion, potential: NeuralPotential) -> dict[str, Any]:
    weights, exponents = _positive(term.weights), _positive(term.exponents)
    del potential
    nuclear = np.arange(N_ROWS, dtype=np.float64)
    return {
        "reach": term.reach,
        "cutoff": term.cutoff,
        "envelope": envelope_of(term.envelope),
        "weights": weights * (COULOMB / weights.sum()),
        "exponents": exponents,
        "inverse_lengths": nuclear ** _positive(term.power)
        * _positive(term.inverse_length),
    }


def _electrostatics(
    term: DampedElectrostatics, potential: NeuralPotential
) -> dict[str, Any]:
    dipole = potential.heads["dipole"]
    if not isinstance(dipole, DipoleHead) or dipole.needs_vectors:
        raise NotCovered("electrostatics of charges from vector features")
    return {
        "cutoff": term.cutoff,
        "damping": term.damping,
        "start": SWITCH_START * term.cutoff,
        "coulomb": COULOMB,
    }


def _dispersion(term: QDODispersion, potential: NeuralPotential) -> dict[str, Any]:
    c6, half_polarizability = term.tables
    n_rows = len(half_polarizability)
    if max(potential.species) >= n_rows:
        raise NotCovered(f"dispersion of element {max(potential.species)}")
    missing = N_ROWS - n_rows
    radius = FINE_STRUCTURE ** (-4.0 / 21.0)
    return {
        "cutoff": term.cutoff,
        "switching_width": term.switching_width,
        "bohr": BOHR,
        "length": term.damping * DAMPING_LENGTH,
        "width": [w * radius**k for k, w in enumerate(WIDTH)],
        "half_polarizability": np.pad(half_polarizability.cpu().numpy(), (0, missing)),
        # the energy of a pair, of which each atom has half
        "c6": 2.0 * np.pad(c6.cpu().numpy(), (0, missing)).ravel(),
    }


def _positive(parameter: Tensor) -> Any:
    return nn.functional.softplus(parameter.detach().cpu().double()).numpy()


TERMS: dict[type[Any], Callable[[Any, NeuralPotential], dict[str, Any]]] = {
    ZBLRepulsion: _zbl,
    DampedElectrostatics: _electrostatics,
    QDODispersion: _dispersion,
}
