"""The ASE calculator."""

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.outputs import Properties, all_outputs
from jaxtyping import Float

from molpool_calc import response
from molpool_calc.atoms import ChargeAndSpin, charge_and_spin_of
from molpool_calc.compilation.engine import Compile
from molpool_calc.engine import resolve_device, resolve_dtype
from molpool_calc.evaluator import Evaluator
from molpool_calc.neighbors.backends import Backend
from molpool_calc.potential import NeuralPotential
from molpool_calc.snapshot import Snapshot, changes_since, restore, take_snapshot
from molpool_calc.storage import audit_of, load_potential, weights_sha256
from molpool_calc.suitability import Gate, why_no_stress

IMAGE_DEPENDENT = frozenset({"dipole", "polarizability"})

Source = str | os.PathLike[str] | NeuralPotential


class MolPoolCalculator(Calculator):
    """Energies (eV), forces (eV/Å), dipoles (e·Å) and more from a trained potential.

    Results: ``energy``, ``free_energy``, ``forces``, ``stress`` (of a cell with a
    volume; eV/Å³, Voigt order, tensile positive), ``energies`` where the pooling is
    a sum, ``charges``, ``dipole``, and by ``get_property`` also ``polarizability``
    (e²Å²/eV) and any other trained property such as ``gap``; dipole and polarizability
    not of periodic systems, where the centre of mass depends on the choice of images.
    Total charge (e) and number of unpaired electrons come from
    ``atoms.info["charge"]`` and ``atoms.info["num_unpaired"]``, else from here.

    Args:
        potential: bundled name, folder, potential, or a list of them: a committee,
            whose mean is the result and whose spread is in ``results_std``.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"`` or ``"cuda"``.
        dtype: ``"float32"`` (the default) or ``"float64"``; energies are summed in
            float64 in either case.
        compile: code compiled for this machine: ``"auto"`` builds it beside a long
            series of evaluations and then uses it; ``"now"`` waits for it, a minute;
            ``"cached"`` takes what was built before; ``"graph"`` none. On a GPU these
            also replay CUDA graphs; ``"never"`` does not. Results differ by rounding.
        skin: extra radius in Å within which neighbor lists are reused.
        neighbors: ``"auto"`` or the name of a neighbor-list back end.
        uncertainty: largest allowed spread of any force component of a committee,
            eV/Å; above it a calculation fails instead of returning. Forces are then
            always computed.
        charge: total charge in e where ``atoms.info`` states none.
        num_unpaired: unpaired electrons where ``atoms.info`` states none.
        allow_unsuitable_pooling: give forces whatever the pooling and the structure;
            see ``suitability.why_unsuitable`` for what is refused otherwise.

    Raises:
        ValueError: unknown potential, device, dtype, back end or option.

    Example:
        >>> from ase.build import molecule
        >>> atoms = molecule("CH3CH2OH")
        >>> atoms.calc = MolPoolCalculator("painn-ethanol", device="cpu")
        >>> bool(abs(atoms.get_forces().sum(axis=0)).max() < 1e-3)
        True
    """

    def __init__(  # noqa: PLR0913 - the public options, keyword-only
        self,
        potential: Source | Sequence[Source],
        *,
        device: str = "auto",
        dtype: str | None = None,
        compile: Compile = "auto",  # noqa: A002 - fixed public name
        skin: float = 1.0,
        neighbors: Literal["auto"] | Backend = "auto",
        uncertainty: float | None = None,
        charge: float = 0.0,
        num_unpaired: float = 0,
        allow_unsuitable_pooling: bool = False,
    ) -> None:
        if isinstance(potential, str | os.PathLike | NeuralPotential):
            potential = [potential]
        members = [_load(source) for source in potential]
        audits = map(_audit_of, potential)
        self.gate = Gate(members, audits, is_open=allow_unsuitable_pooling)
        # before the engine casts them, so that they are those of potential.json
        hashes = [weights_sha256(member) for member in members]
        self._seen: Snapshot | None = None
        super().__init__()  # type: ignore[no-untyped-call]
        self.evaluator = Evaluator(
            members,
            device=resolve_device(device),
            dtype=resolve_dtype(dtype),
            skin=skin,
            backend=None if neighbors == "auto" else neighbors,
            compile=compile,
        )
        self.implemented_properties = self.evaluator.properties
        if uncertainty is not None and (
            len(members) == 1 or "forces" not in self.implemented_properties
        ):
            raise ValueError(
                f"uncertainty={uncertainty!r} limits the spread of a committee's "
                "forces; give several potentials that have forces, or leave it out"
            )
        self.uncertainty, self.results_std = uncertainty, dict[str, Any]()
        self._state = ChargeAndSpin(float(charge), float(num_unpaired))
        self.parameters.update(
            potential=[member.spec.name for member in members],
            sha256=hashes,
            device=str(self.evaluator.device),
            dtype=str(self.evaluator.dtype).removeprefix("torch."),
            skin=skin,
            **self._state._asdict(),
        )

    @property
    def atoms(self) -> Atoms | None:
        """The structure of the last results, rebuilt when asked for."""
        return None if self._seen is None else restore(self._seen)

    @atoms.setter
    def atoms(self, atoms: Atoms | None) -> None:
        self._seen = None
        if atoms is not None:
            self._seen = take_snapshot(atoms, *self.charge_and_spin(atoms))

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Refuse every option: a potential is placed once, at construction."""
        if kwargs:
            raise ValueError(
                f"{', '.join(kwargs)} cannot be set later; make a new MolPoolCalculator"
            )
        return {}

    def charge_and_spin(self, atoms: Atoms) -> ChargeAndSpin:
        """Return total charge (e) and number of unpaired electrons of a structure."""
        return charge_and_spin_of(atoms, self._state)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last results, charge and spin included."""
        return changes_since(self._seen, atoms, *self.charge_and_spin(atoms), tol)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute what is asked for, and add it to ``results``.

        Raises:
            ValueError: a structure the potential must not be asked about.
            PropertyNotImplementedError: stress without a volume, or the dipole or
                polarizability of a periodic system.
            CalculationFailed: NaN, or a committee that disagrees too much.
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise ValueError("no structure was given; pass atoms")
        state = self.charge_and_spin(atoms)
        self.evaluator.check(atoms, state)
        wanted = self._wanted(atoms, frozenset(properties))
        if "forces" in wanted or "stress" in wanted:
            self.gate.require(atoms, *state)
        if system_changes:  # nothing old may survive a failure below
            self.results, self.results_std, self._seen = {}, {}, None
        found, spread = self.evaluator.evaluate(atoms, state, wanted)
        self._limit(spread)
        if system_changes:
            self._seen = take_snapshot(atoms, *state)
        self.results.update(found)
        self.results_std.update(spread)

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """Return a result, computed if need be; a missing stress says why."""
        if name == "stress" and not self.evaluator.has_stress:
            raise PropertyNotImplementedError(why_no_stress(self.evaluator.potential))
        return super().get_property(name, atoms, allow_calculation)  # type: ignore[no-untyped-call]

    def _wanted(self, atoms: Atoms, properties: frozenset[str]) -> frozenset[str]:
        """Return what to compute: every head is cheap, every derivative is not."""
        periodic = bool(atoms.pbc.any())
        if periodic:
            _refuse_images(properties)
        if "stress" in properties and not _has_volume(atoms):
            raise PropertyNotImplementedError(
                "stress needs a cell with three lattice vectors; set atoms.cell"
            )
        wanted = set(self.evaluator.potential.properties)
        wanted -= {"polarizability"} - properties
        wanted -= IMAGE_DEPENDENT if periodic else set()
        wanted |= {"forces", "stress"} & properties
        wanted |= set() if self.uncertainty is None else {"forces"}
        if periodic and "forces" in wanted and self.evaluator.has_stress:
            wanted |= {"stress"} if _has_volume(atoms) else set()
        return frozenset(wanted)

    def calculate_many(self, structures: Sequence[Atoms]) -> list[dict[str, Any]]:
        """Return energy, forces, dipole, … of many structures, computed in batches."""
        for atoms in structures:
            self.evaluator.check(atoms, self.charge_and_spin(atoms))
        asked = {"forces"} & set(self.implemented_properties)
        groups: dict[frozenset[str], list[int]] = {}
        for place, atoms in enumerate(structures):
            groups.setdefault(self._wanted(atoms, frozenset(asked)), []).append(place)
        results: list[dict[str, Any]] = [{} for _ in structures]
        for wanted, places in groups.items():
            chosen = [structures[place] for place in places]
            states = [self.charge_and_spin(atoms) for atoms in chosen]
            found = self.evaluator.evaluate_many(chosen, states, wanted)
            for place, (mean, spread) in zip(places, found, strict=True):
                self._limit(spread)
                results[place] = mean
        return results

    def _limit(self, spread: Mapping[str, Any]) -> None:
        """Fail if the committee disagrees too much."""
        if self.uncertainty is None:
            return
        disagreement = np.max(spread["forces"])
        if disagreement > self.uncertainty:
            raise CalculationFailed(
                f"the committee's forces spread by {disagreement:.3g} eV/Å, more than "
                f"the {self.uncertainty:g} allowed; the structure is outside the "
                "training data"
            )

    def get_hessian(self, atoms: Atoms) -> Float[np.ndarray, "dof dof"]:
        """Return ∂²E/∂r∂r in eV/Å², computed in float64, in the order x0 y0 z0 x1."""
        state = self.charge_and_spin(atoms)
        self.evaluator.check(atoms, state)
        return response.hessian(self.evaluator, atoms, state)

    def get_dipole_derivatives(self, atoms: Atoms) -> Float[np.ndarray, "atoms 3 3"]:
        """Return ∂μ_b/∂r_ia in e, axes (i, a, b), computed in float64."""
        state = self._check_molecule(atoms, "dipole")
        return response.dipole_derivatives(self.evaluator, atoms, state)

    def get_polarizability_derivatives(
        self, atoms: Atoms
    ) -> Float[np.ndarray, "atoms 3 3 3"]:
        """Return ∂α_bc/∂r_ia in e²Å/eV, axes (i, a, b, c), computed in float64."""
        state = self._check_molecule(atoms, "polarizability")
        return response.polarizability_derivatives(self.evaluator, atoms, state)

    def _check_molecule(self, atoms: Atoms, name: str) -> ChargeAndSpin:
        """Check a structure whose ``name`` is to be differentiated; its state."""
        state = self.charge_and_spin(atoms)
        self.evaluator.check(atoms, state)
        if atoms.pbc.any():
            _refuse_images(frozenset({name}))
        return state

    def polarizability_calculator(self) -> response.Polarizability:
        """Return the polarizability in the form ASE's ``PlaczekStatic`` calls it."""
        return response.Polarizability(self)

    def export_properties(self) -> Properties:
        """Return the results ASE has a name for; others would make it raise."""
        return Properties({k: v for k, v in self.results.items() if k in all_outputs})

    def _get_name(self) -> str:
        return "molpool"


def _has_volume(atoms: Atoms) -> bool:
    return int(atoms.cell.rank) == len(atoms.cell)


def _refuse_images(properties: frozenset[str]) -> None:
    """Refuse those properties of a periodic system that depend on its images."""
    for name in sorted(IMAGE_DEPENDENT & properties):
        raise PropertyNotImplementedError(
            f"the {name} of a periodic system depends on which images of the atoms "
            "are taken; make the molecule whole and set pbc to False"
        )


def _audit_of(source: Source) -> Mapping[str, Any] | None:
    return None if isinstance(source, NeuralPotential) else audit_of(source)


def _load(source: Source) -> NeuralPotential:
    # one handed over is copied: an engine casts and freezes its own
    if isinstance(source, NeuralPotential):
        return deepcopy(source)
    return load_potential(source)
