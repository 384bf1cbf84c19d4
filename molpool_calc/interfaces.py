"""Every type that crosses a module border: records and protocols.

Axis names in the annotations: ``systems``, ``atoms``, ``pairs``, ``features``,
``items``. Units are eV, Å, e and amu; dipoles are in e·Å, polarizabilities in
e²Å²/eV. Cells hold lattice vectors as rows. Stress is tensile positive.

The dipole of a neutral system does not depend on the origin. The dipole of an
ion is taken with respect to its centre of mass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Segments:
    """Which system each item (atom) belongs to, and its place within it.

    ``n_segments`` and ``max_size`` are plain integers, so that no code needs to
    read them back from the device.
    """

    index: Int[Tensor, " items"]
    slot: Int[Tensor, " items"]
    n_segments: int
    max_size: int


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class AtomsBatch:
    """Atoms of one or more systems, one after another; a molecule has a zero cell."""

    atomic_numbers: Int[Tensor, " atoms"]
    positions: Float[Tensor, "atoms 3"]
    cell: Float[Tensor, "systems 3 3"]
    pbc: Bool[Tensor, "systems 3"]
    total_charge: Float[Tensor, " systems"]
    num_unpaired: Float[Tensor, " systems"]
    systems: Segments


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Composition:
    """What a network knows of the atoms besides the geometry.

    ``total_charge`` in e; ``num_unpaired`` counts unpaired electrons.
    """

    atomic_numbers: Int[Tensor, " atoms"]
    total_charge: Float[Tensor, " systems"]
    num_unpaired: Float[Tensor, " systems"]
    systems: Segments


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class NeighborList:
    """Directed pairs, both directions, each vector pointing from center to neighbor.

    ``shift`` counts the lattice vectors added to the neighbor, so that the vector is
    ``positions[neighbor] + shift @ cell - positions[center]``; ``None`` states that
    no pair crosses a periodic boundary. Pairs beyond the cutoff are allowed: they
    contribute exactly nothing.

    ``n_dense`` states the dense layout: all systems are molecules of that many atoms,
    and the pairs are every atom with every atom of its molecule, itself included, in
    order. An atom with itself counts as out of reach.
    """

    center: Int[Tensor, " pairs"]
    neighbor: Int[Tensor, " pairs"]
    shift: Float[Tensor, "pairs 3"] | None
    n_dense: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Edges:
    """The only geometry a network sees; ``n_dense`` as in ``NeighborList``."""

    center: Int[Tensor, " pairs"]
    neighbor: Int[Tensor, " pairs"]
    vectors: Float[Tensor, "pairs 3"]
    distances: Float[Tensor, " pairs"]
    n_atoms: int
    n_dense: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class AtomFeatures:
    """What a network gives for each atom: invariant and, if any, vector features."""

    scalars: Float[Tensor, "atoms features"]
    vectors: Float[Tensor, "atoms 3 features"] | None


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Prediction:
    """Properties under ASE's names; ``None`` where not asked for or not defined.

    Energies are float64 whatever the dtype of the network. ``hirshfeld_ratios`` are
    volumes of the atoms over those of free ones. Further trained molecular properties
    (``homo``, ``gap``, …) stand in ``others`` under their names, and the weights a
    pooling gave each atom in ``weights`` under the name of the head.
    """

    energy: Float[Tensor, " systems"] | None = None
    energies: Float[Tensor, " atoms"] | None = None
    forces: Float[Tensor, "atoms 3"] | None = None
    stress: Float[Tensor, "systems 3 3"] | None = None
    dipole: Float[Tensor, "systems 3"] | None = None
    charges: Float[Tensor, " atoms"] | None = None
    hirshfeld_ratios: Float[Tensor, " atoms"] | None = None
    polarizability: Float[Tensor, "systems 3 3"] | None = None
    weights: Mapping[str, Float[Tensor, " atoms"]] | None = None
    others: Mapping[str, Float[Tensor, " systems"]] | None = None


@runtime_checkable
class Network(Protocol):
    """Pairs of atoms in, atom features out; a pair at the cutoff counts for nothing."""

    cutoff: float
    n_features: int
    has_vectors: bool
    max_atomic_number: int

    def __call__(self, composition: Composition, edges: Edges) -> AtomFeatures:
        """Return the features of every atom."""
        ...


@runtime_checkable
class Pooling(Protocol):
    """Features of atoms in, features of systems out; sees nothing else.

    Constructed with the widths ``n_in`` of the features and ``n_out`` of the pooled
    rows, then its own options.

    ``extensive``: pooled values of two systems far apart add up.
    ``smooth``: the pooled value has continuous first derivatives.
    ``learned``: it has weights of its own, and so maps features of any width.
    """

    extensive: bool
    smooth: bool
    learned: bool

    def __call__(
        self, features: Float[Tensor, "atoms f_in"], segments: Segments
    ) -> Float[Tensor, "systems f_out"]:
        """Return one row per system."""
        ...


@runtime_checkable
class WeightedPooling(Pooling, Protocol):
    """A pooling that can say how much each atom counts."""

    def weights(
        self, features: Float[Tensor, "atoms f_in"], segments: Segments
    ) -> Float[Tensor, " atoms"]:
        """Return weights that sum to 1 over the atoms of each system."""
        ...


@runtime_checkable
class PairTerm(Protocol):
    """Energy of pairs beside the network: repulsion, electrostatics, dispersion.

    ``needs``: the per-atom fields of a ``Prediction`` that it reads.
    """

    cutoff: float
    needs: frozenset[str]

    def __call__(
        self, batch: AtomsBatch, edges: Edges, prediction: Prediction
    ) -> Float[Tensor, " atoms"]:
        """Return energies of the atoms in eV, float64; each pair counts half twice."""
        ...


@runtime_checkable
class Potential(Protocol):
    """A batch and its pairs in, a prediction out: what engines and MD accept.

    ``properties`` lists what the potential can give without differentiation. The
    argument ``properties`` of a call says what is wanted; the rest is not computed.
    """

    cutoff: float
    species: frozenset[int]

    @property
    def properties(self) -> frozenset[str]:
        """Names of the properties available."""
        ...

    def __call__(
        self,
        batch: AtomsBatch,
        neighbors: NeighborList,
        properties: frozenset[str],
        /,
    ) -> Prediction:
        """Return the wanted properties, differentiable in positions and cell."""
        ...
