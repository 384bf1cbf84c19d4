"""What a SchNetPack 2 model is, its tensors aside, as plain data."""

from dataclasses import dataclass
from typing import Literal

from molpool_calc.networks.layers import Activation, CutoffFunction, RadialBasis
from molpool_calc.units import (
    DIPOLE_UNITS,
    ENERGY_UNITS,
    POLARIZABILITY_UNITS,
)


@dataclass(frozen=True, kw_only=True)
class SchNetPackOutput:
    """One output module.

    Attributes:
        kind: the head of MolPool that it becomes.
        prefix: of its tensors, e.g. ``output_modules.0``.
        key: SchNetPack's name of the property.
        activation: of the hidden layer of an energy or of charges.
        pooling: of an energy.
        use_vectors: whether a dipole has atomic dipoles.
    """

    kind: Literal["energy", "dipole", "polarizability"]
    prefix: str
    key: str = ""
    activation: Activation = "silu"
    pooling: Literal["sum", "mean"] = "sum"
    use_vectors: bool = True


@dataclass(frozen=True, kw_only=True)
class SchNetPackOffsets:
    """Energies added for each atom: of all elements the same, and of each element."""

    prefix: str
    add_mean: bool
    add_atomrefs: bool


@dataclass(frozen=True, kw_only=True)
class SchNetPackModel:
    """What a SchNetPack model is, its tensors aside; names as in SchNetPack.

    Attributes:
        representation: which network.
        n_atom_basis: width of the features.
        n_interactions: number of interaction blocks.
        n_rbf: number of radial basis functions.
        radial_basis: their kind.
        cutoff_function: its kind; the cutoff itself is a tensor.
        n_filters: width of SchNet's filters.
        shared_filters: whether all rounds of PaiNN have the same filter.
        epsilon: of PaiNN's mixing.
        outputs: output modules that become heads.
        offsets: what is added to the energy.
    """

    representation: Literal["PaiNN", "SchNet"]
    n_atom_basis: int
    n_interactions: int
    n_rbf: int
    radial_basis: RadialBasis = "gaussian"
    cutoff_function: CutoffFunction = "cosine"
    n_filters: int | None = None
    shared_filters: bool = False
    epsilon: float | None = 1e-8
    outputs: tuple[SchNetPackOutput, ...]
    offsets: tuple[SchNetPackOffsets, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SchNetPackUnits:
    """Units of the outputs; no SchNetPack file states them."""

    energy: str | None = None
    dipole: str | None = None
    polarizability: str | None = None

    def factor(self, output: str) -> float:
        """Return MolPool's units per unit of an output.

        Raises:
            ValueError: the unit is missing or unknown.
        """
        table = {
            "energy": ENERGY_UNITS,
            "dipole": DIPOLE_UNITS,
            "polarizability": POLARIZABILITY_UNITS,
        }[output]
        given = getattr(self, output)
        if given not in table:
            said = "none was given" if given is None else f"{given!r} is not known"
            raise ValueError(
                f"the file does not say the unit of its {output}, and {said}; give one "
                f"of {', '.join(table)}"
            )
        return table[given]
