"""A potential for i-PI (``<pes>custom</pes>``): all beads in one forward pass.

i-PI loads this file by its path (``molpool ipi`` prints it) and makes one
`MolPoolDriver` with the arguments that the input or the option ``-o`` states::

    <ffdirect name="molpool" pbc="False">
      <pes>custom</pes> <pes_path>…/driver.py</pes_path> <batch_size>16</batch_size>
      <parameters>{potential: painn-ethanol, structure: start.xyz}</parameters>
    </ffdirect>

or, with ``<ffsocket>`` in the input, in a process or on a machine of its own::

    i-pi-py_driver -u -a ADDRESS -m custom -P …/driver.py
    -o potential=painn-ethanol,structure=start.xyz

``batch_size`` must divide the number of beads. The extras hold the dipole in e·Å, and
with ``polarizability: True`` the nine elements of the polarizability in e²Å²/eV;
``<trajectory extra_type="dipole" flush="500"> extras </trajectory>`` records them.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.io import read

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.compilation.engine import Compile
from molpool_calc.md.state import ForceField, Response
from molpool_calc.replicas import POLARIZABILITY, make_replicas
from molpool_calc.units import BOHR, HARTREE

__DRIVER_NAME__ = "molpool"
__DRIVER_CLASS__ = "MolPoolDriver"

Answer = tuple[float, np.ndarray, np.ndarray, str]
"""Energy, forces [atoms, 3] and virial [3, 3] in atomic units, and the extras."""

# Exactly inverse to each other, so that forces stay the slope of the energy. i-PI's own
# factors have eight digits: those of energy and force differ from these by 1e-7.
_FORCE = BOHR / HARTREE


class BeadDriver:
    """Answers i-PI with a force field that takes all beads at once.

    Args:
        force_field: called with the number of beads, gives what maps their positions
            (Å, bead after bead) to energies, forces and dipoles.
    """

    def __init__(self, force_field: Callable[[int], ForceField]) -> None:
        self._make = force_field
        self._fields: dict[int, ForceField] = {}

    def __call__(self, cell: Any, pos: Any) -> Answer | list[Answer]:
        """Return what i-PI asks for one bead, or a list of them for many.

        Args:
            cell: its lattice vectors as columns, or those of every bead, in Bohr.
            pos: positions [atoms, 3], or those of every bead, in Bohr.
        """
        if not isinstance(pos, list):
            return self.answers([cell], [pos])[0]
        return self.answers(cell, pos)

    def answers(
        self,
        cells: Sequence[np.ndarray],  # noqa: ARG002 - a molecule has none
        positions: Sequence[np.ndarray],
    ) -> list[Answer]:
        """Return energy, forces, virial and extras of each bead."""
        n_beads = len(positions)
        beads = BOHR * np.stack([np.asarray(x, dtype=float) for x in positions])
        if n_beads not in self._fields:
            self._fields[n_beads] = self._make(n_beads)
        response = self._fields[n_beads](torch.from_numpy(beads.reshape(-1, 3)))
        energies, forces = _finite(response)
        forces = forces.reshape(beads.shape)
        extras = extras_of(response, n_beads)
        return [
            (energies[k] / HARTREE, forces[k] * _FORCE, np.zeros((3, 3)), extras[k])
            for k in range(n_beads)
        ]


class MolPoolDriver(BeadDriver):
    """A bundled potential, or one in a folder, for i-PI.

    Args:
        potential: bundled name or folder.
        structure: file that ASE reads, with the atoms in the order of i-PI's; its
            ``info`` may state charge and unpaired electrons, its cell that the
            system is periodic.
        dtype: ``"float32"`` or ``"float64"``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        compile: as of the calculator.
        polarizability: give it among the extras.
        allow_unsuitable_pooling: run whatever the pooling and the structure.
        verbosity: of i-PI, which states it always; not used.

    Raises:
        ValueError: a structure that the potential does not cover, or a pooling that
            is unsuitable for it.
    """

    def __init__(  # noqa: PLR0913 - keyword-only
        self,
        potential: str,
        structure: str,
        *,
        dtype: str = "float32",
        device: str = "auto",
        compile: Compile = "auto",  # noqa: A002 - the public name of the option
        polarizability: bool | str = False,
        allow_unsuitable_pooling: bool | str = False,
        verbosity: Any = None,  # noqa: ARG002
        verbose: Any = None,  # noqa: ARG002 - of i-pi-py_driver
    ) -> None:
        atoms = read(structure)
        self.atoms: Atoms = atoms[-1] if isinstance(atoms, list) else atoms
        self.calculator = MolPoolCalculator(
            potential,
            device=device,
            dtype=dtype,
            compile=compile,
            allow_unsuitable_pooling=_is_true(allow_unsuitable_pooling),
        )
        state = self.calculator.charge_and_spin(self.atoms)
        self.calculator.evaluator.check(self.atoms, state)
        self.calculator.gate.require(self.atoms, *state)
        record = (POLARIZABILITY,) if _is_true(polarizability) else ()

        def force_field(n_beads: int) -> ForceField:
            return make_replicas(
                self.calculator.evaluator.engines[0],
                self.atoms,
                state=state,
                n_replicas=n_beads,
                record=record,
            ).force_field

        super().__init__(force_field)

    def answers(
        self, cells: Sequence[np.ndarray], positions: Sequence[np.ndarray]
    ) -> list[Answer]:
        """Return energy, forces, virial and extras of each bead."""
        if not self.atoms.pbc.any():
            return super().answers(cells, positions)
        beads = [self._periodic(c, x) for c, x in zip(cells, positions, strict=True)]
        states = [self.calculator.charge_and_spin(atoms) for atoms in beads]
        found = self.calculator.evaluator.evaluate_many(
            beads, states, frozenset({"energy", "forces", "stress"})
        )
        return [
            (
                result["energy"] / HARTREE,
                result["forces"] * _FORCE,
                -_square(result["stress"]) * float(atoms.cell.volume) / HARTREE,
                "",
            )
            for atoms, (result, _) in zip(beads, found, strict=True)
        ]

    def _periodic(self, cell: np.ndarray, positions: np.ndarray) -> Atoms:
        atoms: Atoms = self.atoms.copy()  # type: ignore[no-untyped-call]
        atoms.set_cell(BOHR * np.asarray(cell).T)  # type: ignore[no-untyped-call]
        atoms.positions = BOHR * np.asarray(positions)
        return atoms


def extras_of(response: Response, n_beads: int) -> list[str]:
    """Return the dipole and all that was recorded beside it of each bead, as JSON."""
    values = dict(response.others)
    if response.dipole is not None:
        values["dipole"] = response.dipole
    table = {
        name: value.cpu().reshape(n_beads, -1).tolist()
        for name, value in values.items()
    }
    return [
        json.dumps({name: value[k] for name, value in table.items()})
        for k in range(n_beads)
    ]


def _finite(response: Response) -> tuple[np.ndarray, np.ndarray]:
    energies = response.energy.cpu().numpy()
    forces = response.forces.cpu().numpy()
    if not (np.isfinite(energies).all() and np.isfinite(forces).all()):
        raise CalculationFailed(
            "the forces on the beads came out as NaN or infinite; look for atoms on "
            "top of each other, a time step that is too long, or a temperature outside "
            "the training data"
        )
    return energies, forces


def _square(voigt: np.ndarray) -> np.ndarray:
    return np.asarray(voigt)[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]


def _is_true(value: bool | str) -> bool:
    """Return what an option says; from the command line it comes as text."""
    return str(value).strip().lower() in {"true", "yes", "1"}
