"""Why a replica was stopped, in words: the reason and what to do about it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from molpool_calc.elements import symbol
from molpool_calc.md.checks import Checks, Row
from molpool_calc.md.guard import Quantity, closest_pair
from molpool_calc.md.state import MDState, MDSystem
from molpool_calc.units import BOLTZMANN

# Sound dynamics at 800 K keep the conserved energy within 2 meV/atom.
_DRIFTED = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """The end of one replica, as it stands in ``run.json``.

    ``step`` is the first bad one: what was recorded before it is good. ``value`` is
    ``None`` where it is not finite, ``limit`` where there is none. ``file`` holds the
    last good frames and the bad one.
    """

    replica: int
    step: int
    quantity: Quantity
    value: float | None
    limit: float | None
    reason: str
    advice: str
    file: str

    def describe(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The reason and the advice in one sentence."""
        return f"{self.reason}; {self.advice}"


def summarise(stops: Sequence[Stop], n_replicas: int) -> str | None:
    """Return one sentence about all replicas that were stopped, or ``None``."""
    if not stops:
        return None
    first = min(stops, key=lambda stop: (stop.step, stop.replica))
    if n_replicas == 1:
        return first.sentence
    return f"{len(stops)} of {n_replicas} replicas stopped, first: {first.sentence}"


def explain(
    quantity: Quantity, checks: Checks, row: Row, state: MDState, replica: int
) -> tuple[str, float | None, float | None]:
    """Return what is wrong with a replica in words, the value, and its limit."""
    at = f"replica {replica} at step {state.step}"
    failure = state.response.failure_of(replica)
    if failure is not None:
        return f"{failure} in {at}", None, None
    if quantity == "not finite":
        columns = checks.columns_of(checks.broken(row), replica)
        name = {"kinetic": "kinetic energy"}.get(columns[0], columns[0])
        return f"the {name} of {at} is not finite", None, None
    place = checks.quantities.index(quantity)
    value = float(checks.values(row, state.step)[place, replica])
    low, high = float(checks.low[place, replica]), float(checks.high[place, replica])
    limit = low if value < low else high
    if quantity == "temperature":
        # a system that cannot move has no degrees of freedom and no kinetic energy
        freedom = max(1.0, float(checks.system.degrees_of_freedom[replica]))
        value, limit = (2.0 * x / (freedom * BOLTZMANN) for x in (value, limit))
    text = _TEXTS[quantity](checks.system, state, replica, value)
    return f"{text} in {at}, where {limit:.4g} is the limit", value, limit


def _closest(system: MDSystem, state: MDState, replica: int, value: float) -> str:
    first, second, distance = closest_pair(system, state, replica)
    pair = f"{_named(system, first)} and {_named(system, second)}"
    return (
        f"{pair} are {distance:.3g} Å apart, {value:.3g} of the sum of their covalent "
        "radii,"
    )


def _most_pulled(system: MDSystem, state: MDState, replica: int, value: float) -> str:
    n_atoms = system.systems.max_size
    own = state.response.forces[replica * n_atoms : (replica + 1) * n_atoms]
    atom = int(own.square().sum(1).argmax())
    return f"the force on {_named(system, atom)} is {value:.4g} eV/Å"


def _named(system: MDSystem, atom: int) -> str:
    return f"atom {atom} ({symbol(int(system.atomic_numbers[atom]))})"


_TEXTS: Mapping[Quantity, Callable[[MDSystem, MDState, int, float], str]] = {
    "shortest distance": _closest,
    "largest force": _most_pulled,
    "temperature": lambda *found: f"the temperature is {found[3]:.4g} K",
    "energy drift": lambda *found: (
        f"the conserved energy drifts by {found[3]:.4g} meV/atom/ps"
    ),
    "force spread": lambda *found: (
        f"the forces of the committee spread by {found[3]:.4g} eV/Å"
    ),
    "volume": lambda *found: f"the volume is {found[3]:.4g} of the first one",
}


def advise(
    quantity: Quantity,
    *,
    timestep_fs: float,
    drifted: float,
    is_cold: bool,
    file: str | None,
    has_failed: bool = False,
) -> str:
    """Return what to do about it: time step, potential, temperature or structure.

    Args:
        quantity: What was beyond its limit.
        timestep_fs: Of the run.
        drifted: Change of the conserved energy at the last good step, meV/atom.
        is_cold: The temperature was too low.
        file: Shows the last frames; ``None`` where none were written.
        has_failed: The calculator gave no answer.
    """
    if has_failed:
        seen = "the structure looks" if file is None else f"the frames of {file} look"
        return (
            f"if {seen} sound, change the settings of the calculator, otherwise try a "
            f"shorter time step than {timestep_fs:g} fs or a lower temperature"
        )
    frames = "such frames" if file is None else f"the frames of {file}"
    places = "such structures" if file is None else f"the structures in {file}"
    if quantity == "force spread":
        return (
            "the structure is outside what the potentials were trained on: lower the "
            f"temperature, or train on {frames}"
        )
    if quantity == "volume":
        return (
            "start from a cell of the right density, equilibrate at constant volume "
            "first, or correct the pressure"
        )
    if quantity == "energy drift":
        return (
            f"try a shorter time step than {timestep_fs:g} fs; if the drift stays, the "
            "forces of the potential are not the gradient of its energy, see molpool "
            "audit"
        )
    if abs(drifted) > _DRIFTED:
        return (
            f"the conserved energy had changed by {drifted:.0f} meV/atom before, so "
            f"try a shorter time step than {timestep_fs:g} fs"
        )
    remedy = (
        f"the potential fails at {places}: try another potential, a lower temperature, "
        f"a relaxed structure or a shorter time step than {timestep_fs:g} fs"
    )
    if quantity == "temperature":
        start = "at the right temperature" if is_cold else "from a relaxed structure"
        remedy = f"start {start}, or equilibrate first"
    return f"energy was conserved until then, so {remedy}"
