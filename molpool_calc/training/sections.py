"""The sections of a recipe: their keys, defaults and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from molpool_calc.elements import number
from molpool_calc.training.file_units import ALLOWED, Units
from molpool_calc.training.tables import (
    demand_nonnegative,
    demand_positive,
    record_from_table,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PotentialSection:
    """``[potential]``: what the card of the potential will say.

    Attributes:
        name: of the potential and its folder.
        level_of_theory: of the labels, as in ``B3LYP/def2-SVPD``.
        license: of the weights.
        description: one or two sentences on what it is for.
    """

    name: str
    level_of_theory: str
    license: str
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """``data.split`` as a table: a random split.

    Attributes:
        train: frames to train on.
        valid: frames that decide when to stop.
        test: frames never seen in training; by default all that are left.
        seed: of the shuffle.
    """

    train: int
    valid: int
    test: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        demand_positive(self, "train", "valid")
        demand_nonnegative(self, "test", "seed")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSection:
    """``[data]``: the labelled frames.

    Attributes:
        file: path, relative to the folder of the recipe.
        units: see :class:`~molpool_calc.training.file_units.Units`.
        split: ``"file"`` for the split the file states, or counts.
        format: ``npz``, ``hdf5``, ``db`` or one of ASE's; by default from the name.
        keys: names in the file of the quantities, where they are not recognised.
        check_units: ``false`` for data unlike molecules in motion (relaxed
            structures, liquid argon), whose magnitudes betray no wrong unit.
        reference_energies: energy per element, ``{ H = -13.6, … }``, in the energy
            unit of the file; by default fitted to the training frames.
        partly_labelled: properties that only some frames have; in the others the
            whole row is NaN. They train and are tested on the frames that have them.
    """

    file: str
    units: Units
    split: Literal["file"] | Split
    format: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    check_units: bool = True
    reference_energies: Mapping[str, float] | None = None
    partly_labelled: list[Literal["dipole", "polarizability"]] = field(
        default_factory=list
    )

    def __post_init__(self) -> None:
        if self.reference_energies is not None:
            if self.units.energy is None:
                raise ValueError("reference_energies need units.energy; give it")
            for symbol in self.reference_energies:
                number(symbol)

    @property
    def reference_energies_ev(self) -> dict[int, float] | None:
        """The reference energies in eV by atomic number; ``None``: fit them."""
        if self.reference_energies is None or self.units.energy is None:
            return None
        unit = ALLOWED["energy"][self.units.energy]
        return {number(s): value * unit for s, value in self.reference_energies.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSection:
    """``[network]``: its kind, and the arguments of its constructor.

    Attributes:
        kind: one of the networks.
        arguments: every other key: ``cutoff`` (Å), ``n_features``,
            ``n_interactions``, ``n_rbf``, ``radial_basis``, ``cutoff_function``, …;
            the constructor checks them.
    """

    kind: Literal[
        "painn",
        "schnet",
        "so3krates",
        "so3krates-nonlocal",
        "so3krates-euclidean",
        "dimenet++",
    ]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSection:
    """``[heads.energy]``, ``[heads.dipole]``, or a head of the user's naming.

    Attributes:
        pooling: from atoms to the system: a name such as ``sum``, or a table of
            ``kind`` and options.
        arguments: every other key; the constructor checks them.
    """

    pooling: str | Mapping[str, Any] = "sum"
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadsSection:
    """``[heads]``: what the potential predicts; forces come with the energy.

    Attributes:
        arguments: heads of other names: scalar properties, whose units stand in
            ``data.units.scalars``.
    """

    energy: HeadSection | None = None
    dipole: HeadSection | None = None
    polarizability: HeadSection | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("it names no head; add [heads.energy] or another")
        for name in self.scalars:
            self.section(name)  # refuses what is wrong

    @property
    def scalars(self) -> tuple[str, ...]:
        """The heads of scalar properties."""
        return tuple(self.arguments)

    @property
    def names(self) -> tuple[str, ...]:
        """The heads asked for."""
        every = ("energy", "dipole", "polarizability")
        stated = tuple(name for name in every if getattr(self, name) is not None)
        return stated + self.scalars

    def section(self, name: str) -> HeadSection:
        """Return the section of a head.

        Raises:
            ValueError: it is no table, or a key is wrong.
        """
        if name not in self.arguments:
            found: HeadSection = getattr(self, name)
            return found
        table = self.arguments[name]
        if not isinstance(table, dict):
            raise ValueError(f"{name} = {table!r} is no table; write [heads.{name}]")
        return record_from_table(HeadSection, table, f"heads.{name}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSection:
    """``[loss]``: weight of each term, whose form ``losses.py`` states; 0 drops it.

    Attributes:
        energy: of the energy.
        forces: of the forces.
        dipole: of the dipole.
        polarizability: of the polarizability.
        scalars: of each scalar property by name; 1 where left out.
        scalar_error: whether the error of scalar properties is squared.
        atom_weights: of the fractions that supervise a pooling, relative to the
            property itself; 10 is that of orbital-weighted averages.
    """

    energy: float = 1.0
    forces: float = 10.0
    dipole: float = 1.0
    polarizability: float = 1.0
    scalars: Mapping[str, float] = field(default_factory=dict)
    scalar_error: Literal["squared", "absolute"] = "squared"
    atom_weights: float = 10.0

    def __post_init__(self) -> None:
        names = ("energy", "forces", "dipole", "polarizability", "atom_weights")
        demand_nonnegative(self, *names)
        for name, weight in self.scalars.items():
            if weight < 0:
                raise ValueError(f"scalars.{name} = {weight} must not be below 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSection:
    """``[training]``: the optimisation.

    Attributes:
        batch_size: frames per step.
        learning_rate: the highest, reached after the warm-up.
        schedule: ``cosine`` falls to the minimum over all epochs; ``plateau`` falls
            whenever the validation loss stops falling.
        warmup_steps: steps over which the rate rises from zero.
        minimum_learning_rate: where the schedule ends.
        plateau_factor: by which ``plateau`` multiplies the rate.
        plateau_patience: validations without progress before it does.
        epochs: passes over the training frames.
        max_minutes: of wall-clock time, compiling apart, after which training ends;
            none by default.
        ema_decay: per step, of the moving average of the weights, which is what is
            validated and saved; 0 for none.
        weight_decay: of AdamW.
        gradient_clip: greatest norm of the gradient; 0 for none.
        early_stopping_epochs: epochs without progress before training ends; none
            by default.
        validate_every: epochs between validations.
        seed: of the initial weights and the order of the frames.
        dtype: ``float32`` or ``float64``.
        threads: of the processor; by default PyTorch's choice.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU if there is one. Only on the
            CPU is a training repeatable bit for bit.
        compile: the step, for molecules of one size, compiled for this machine, which
            takes minutes once for each architecture: ``auto`` where it was compiled
            before or the training is long enough to gain by it, ``now``, ``cached``
            (only if compiled before) or ``never``. A resumed training keeps what it
            began with, except ``never``.
        start_from: a potential, by bundled name or by folder relative to the recipe,
            whose weights are the initial ones where they fit; random by default.
    """

    batch_size: int = 16
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup_steps: int = 200
    minimum_learning_rate: float = 1e-6
    plateau_factor: float = 0.7
    plateau_patience: int = 15
    epochs: int = 500
    max_minutes: float | None = None
    ema_decay: float = 0.999
    weight_decay: float = 0.0
    gradient_clip: float = 10.0
    early_stopping_epochs: int | None = None
    validate_every: int = 1
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    threads: int | None = None
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    compile: Literal["auto", "now", "cached", "never"] = "auto"
    start_from: str | None = None

    def __post_init__(self) -> None:
        demand_positive(
            self,
            *("batch_size", "learning_rate", "epochs", "max_minutes", "threads"),
            *("early_stopping_epochs", "validate_every", "plateau_patience"),
        )
        demand_nonnegative(
            self,
            *("warmup_steps", "minimum_learning_rate", "weight_decay"),
            *("gradient_clip", "seed"),
        )
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(
                f"ema_decay = {self.ema_decay} must lie in 0 … 1, without 1"
            )
        if not 0.0 < self.plateau_factor < 1.0:
            raise ValueError(
                f"plateau_factor = {self.plateau_factor} must lie in 0 … 1"
            )
        if self.minimum_learning_rate > self.learning_rate:
            raise ValueError("minimum_learning_rate exceeds learning_rate; lower it")
