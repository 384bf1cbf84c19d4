"""Frozen records of molecular dynamics, and what momenta say about them.

Inside ``md`` time is in Å·sqrt(amu/eV), so momenta are in amu·Å per that unit, and
every tensor is float64. Systems are independent of each other: replicas of one
molecule are systems of one batch, moved by one call of the force field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float64, Int, UInt8
from torch import Tensor

from molpool_calc.interfaces import Segments
from molpool_calc.units import BOLTZMANN

# Principal moments of inertia below this fraction of the largest are zero: the
# molecule is linear. Rounding of a rotated linear molecule gives about 1e-16, a
# molecule of 2 Å that is bent by 2e-5 Å gives 1e-10.
_LINEAR = 1e-10


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Response:
    """What the potential says at one set of positions; tensors carry no graph.

    ``others`` are further molecular properties that are to be recorded: numbers, or
    the ``polarizability`` in e²Å²/eV. ``stress`` (eV/Å³, tensile positive) is there
    where the cell moves. ``spread`` is that of the forces of a committee, eV/Å, see
    `committee.force_spread`. ``failures`` says of which systems nothing is known, and
    why: their energies are NaN.
    """

    energy: Float64[Tensor, " systems"]
    forces: Float64[Tensor, "atoms 3"]
    dipole: Float64[Tensor, "systems 3"] | None
    others: Mapping[str, Float64[Tensor, "systems ..."]] = field(default_factory=dict)
    stress: Float64[Tensor, "systems 3 3"] | None = None
    spread: Float64[Tensor, " systems"] | None = None
    failures: tuple[tuple[int, str], ...] = ()

    def failure_of(self, system: int) -> str | None:
        """Return why nothing is known of a system, or ``None``."""
        return dict(self.failures).get(system)


@runtime_checkable
class ForceField(Protocol):
    """Positions of all systems in, energies, forces and dipoles out.

    Runs restart bit for bit only if the answer depends on the positions alone, to
    the last bit, and not on earlier calls.
    """

    def __call__(self, positions: Float64[Tensor, "atoms 3"]) -> Response:
        """Return energies, forces and dipoles of all systems.

        Raises:
            ForceFailure: If there are none for any of them.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class MDSystem:
    """What does not change during a run; make it with `make_system`.

    ``free`` says which motion the momenta have: ``internal`` if rigid motion is kept
    at zero, else ``all``. ``degrees_of_freedom`` is the dimension of the space that
    they live in, for each system: it turns kinetic energies into temperatures.
    """

    atomic_numbers: Int[Tensor, " atoms"]
    masses: Float64[Tensor, " atoms"]
    systems: Segments
    free: Literal["internal", "all"]
    degrees_of_freedom: Float64[Tensor, " systems"]
    cell: Float64[Tensor, "systems 3 3"] | None = None
    pbc: Bool[Tensor, "systems 3"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class MDState:
    """All that changes, randomness included: a step is a function of this alone.

    ``heat`` is the energy that each system has received from its surroundings
    (thermostat and barostat) since step 0, so that ``energy + kinetic - heat`` is
    conserved in every ensemble up to the error of the integration. ``cell`` (rows, Å)
    is there where it moves, else that of the system holds; ``chain`` are coordinates
    and velocities of a Nosé-Hoover chain, ``None`` standing for one at rest.
    """

    positions: Float64[Tensor, "atoms 3"]
    momenta: Float64[Tensor, "atoms 3"]
    response: Response
    heat: Float64[Tensor, " systems"]
    step: int
    generator_state: UInt8[Tensor, " bytes"]
    cell: Float64[Tensor, "systems 3 3"] | None = None
    chain: Float64[Tensor, "systems 2 links"] | None = None


def make_system(
    *,
    atomic_numbers: Int[Tensor, " atoms"],
    masses: Float64[Tensor, " atoms"],
    positions: Float64[Tensor, "atoms 3"],
    systems: Segments,
    free: Literal["internal", "all"],
    cell: Float64[Tensor, "systems 3 3"] | None = None,
    pbc: Bool[Tensor, "systems 3"] | None = None,
) -> MDSystem:
    """Return the constant part of a run, its degrees of freedom counted.

    Args:
        atomic_numbers: Of all atoms of all systems.
        masses: In amu.
        positions: In Å, where the run starts: a linear molecule has one rotation less.
        systems: Which system each atom belongs to.
        free: ``internal`` for dynamics that keep the rigid motion at zero (NVE,
            Bussi; apply `remove_rigid_motion` to the first momenta), ``all`` for
            dynamics that excite it (Langevin). Integrators state theirs as ``free``.
        cell: Lattice vectors as rows, in Å.
        pbc: Which lattice vectors are periodic.

    Raises:
        ValueError: If a mass is not a positive number.
    """
    if not bool((masses > 0).all() & torch.isfinite(masses).all()):
        raise ValueError(
            f"a mass of {float(masses.min())} amu was given, but every mass must be "
            "positive and finite; check the masses of the structure"
        )
    system = MDSystem(
        atomic_numbers=atomic_numbers,
        masses=masses,
        systems=systems,
        free=free,
        degrees_of_freedom=3.0 * sum_over_atoms(torch.ones_like(masses), systems),
        cell=cell,
        pbc=pbc,
    )
    if free == "all":
        return system
    internal = degrees_of_freedom(system, positions)
    return replace(system, degrees_of_freedom=internal)


def initial_state(
    force_field: ForceField,
    *,
    positions: Float64[Tensor, "atoms 3"],
    momenta: Float64[Tensor, "atoms 3"],
    generator: torch.Generator,
) -> MDState:
    """Return the state at step 0; the generator goes on inside the state."""
    response = force_field(positions)
    return MDState(
        positions=positions,
        momenta=momenta,
        response=response,
        heat=torch.zeros_like(response.energy),
        step=0,
        generator_state=generator.get_state(),
    )


def sum_over_atoms(
    values: Float64[Tensor, " atoms *rest"], systems: Segments
) -> Float64[Tensor, " systems *rest"]:
    """Return the sum over the atoms of each system, the same bits on every call.

    ``index_add`` on a GPU adds in an order that changes from call to call, which
    would end bit-exact restarts; hence each atom is put in its own place first. Atoms
    of systems of one size are there already.
    """
    shape = (systems.n_segments, systems.max_size, *values.shape[1:])
    if systems.n_segments * systems.max_size == values.shape[0]:
        return values.reshape(shape).sum(1)
    dense = values.new_zeros(shape)
    return dense.index_put((systems.index, systems.slot), values).sum(1)


def kinetic_energy(
    system: MDSystem, momenta: Float64[Tensor, "atoms 3"]
) -> Float64[Tensor, " systems"]:
    """Return the kinetic energy of each system in eV."""
    twice = momenta.square().sum(1) / system.masses
    return 0.5 * sum_over_atoms(twice, system.systems)


def temperature(
    system: MDSystem, momenta: Float64[Tensor, "atoms 3"]
) -> Float64[Tensor, " systems"]:
    """Return 2·E_kin/(f·k_B) of each system in K; 0 for a system that cannot move."""
    freedom = system.degrees_of_freedom.clamp_min(1.0)  # E_kin = 0 where it is 0
    return 2.0 * kinetic_energy(system, momenta) / (freedom * BOLTZMANN)


def maxwell_boltzmann_momenta(
    system: MDSystem, temperature: float, generator: torch.Generator
) -> Float64[Tensor, "atoms 3"]:
    """Return momenta drawn from the canonical distribution, rigid motion included.

    Each component is Gaussian with variance ``mass * BOLTZMANN * temperature``.

    Args:
        system: Gives the masses.
        temperature: In K.
        generator: Of the device of the masses.

    Raises:
        ValueError: If the temperature is negative.
    """
    if not temperature >= 0.0:
        raise ValueError(
            f"the temperature is {temperature} K, but it must be zero or positive; "
            "give it in kelvin"
        )
    scale = (system.masses * (BOLTZMANN * temperature)).sqrt()
    shape = (scale.shape[0], 3)
    gaussians = torch.randn(
        shape, generator=generator, dtype=scale.dtype, device=scale.device
    )
    return scale[:, None] * gaussians


def degrees_of_freedom(
    system: MDSystem, positions: Float64[Tensor, "atoms 3"]
) -> Float64[Tensor, " systems"]:
    """Return 3N less the rigid motions that `remove_rigid_motion` takes away.

    For an isolated system 3 translations and 3 rotations, 2 if it is linear and none
    if it is one atom; for a periodic system 3 translations.
    """
    counts = sum_over_atoms(torch.ones_like(system.masses), system.systems)
    _, inertia = _centre_and_inertia(system, positions)
    moments: Float64[Tensor, "systems 3"] = torch.linalg.eigvalsh(inertia)
    rotations = (moments > _LINEAR * moments[:, -1:]).sum(1)
    return counts * 3.0 - 3.0 - rotations * _may_rotate(system, moments)


def remove_rigid_motion(
    system: MDSystem,
    positions: Float64[Tensor, "atoms 3"],
    momenta: Float64[Tensor, "atoms 3"],
) -> Float64[Tensor, "atoms 3"]:
    """Return momenta without total linear and angular momentum of each system.

    ``p_i - m_i (V + ω × d_i)`` with ``V = Σp/Σm``, ``ω = I⁺L``, ``d_i = r_i - R``.
    This is a projection, orthogonal in ``Σ p²/m``: canonical momenta stay canonical
    in the degrees of freedom that are left, hence nothing is rescaled. Angular
    momentum is left in periodic systems, where it is not conserved.

    Args:
        system: Gives masses and periodicity.
        positions: In Å; a periodic system may be wrapped.
        momenta: In amu·Å per internal time.
    """
    segments, masses = system.systems, system.masses[:, None]
    total = sum_over_atoms(momenta, segments) / sum_over_atoms(masses, segments)
    internal = momenta - masses * total[segments.index]
    centre, inertia = _centre_and_inertia(system, positions)
    arms = positions - centre[segments.index]
    angular = sum_over_atoms(torch.linalg.cross(arms, internal), segments)
    inverse = torch.linalg.pinv(inertia, rtol=_LINEAR, hermitian=True)
    spin = (inverse @ angular[:, :, None])[:, :, 0]
    spin = spin * _may_rotate(system, spin)[:, None]
    turning: Float64[Tensor, "atoms 3"] = torch.linalg.cross(spin[segments.index], arms)
    return internal - masses * turning


def _centre_and_inertia(
    system: MDSystem, positions: Float64[Tensor, "atoms 3"]
) -> tuple[Float64[Tensor, "systems 3"], Float64[Tensor, "systems 3 3"]]:
    """Return centres of mass and the tensors of inertia about them."""
    segments, masses = system.systems, system.masses[:, None]
    weighted = sum_over_atoms(masses * positions, segments)
    centre = weighted / sum_over_atoms(masses, segments)
    arms = positions - centre[segments.index]
    second = masses[:, :, None] * arms[:, :, None] * arms[:, None, :]
    moments = sum_over_atoms(second, segments)
    trace = moments.diagonal(dim1=1, dim2=2).sum(1)
    unit = torch.eye(3, dtype=positions.dtype, device=positions.device)
    return centre, trace[:, None, None] * unit - moments


def _may_rotate(system: MDSystem, like: Tensor) -> Float64[Tensor, " systems"]:
    """Return 1 for isolated systems and 0 for those periodic in any direction."""
    if system.pbc is None:
        return like.new_ones(system.systems.n_segments)
    return (~system.pbc.any(dim=1)).to(like.dtype)
