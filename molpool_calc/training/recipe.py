"""Recipes: everything that decides a training, in one TOML file.

Example:
    A complete recipe; what is left out takes the default stated below::

        [potential]
        name = "painn-ethanol"
        level_of_theory = "B3LYP/def2-SVPD"
        license = "MIT"

        [data]
        file = "ethanol.npz"
        units = { energy = "eV", length = "Angstrom", dipole = "e*Angstrom" }
        split = "file"

        [network]
        kind = "painn"
        cutoff = 5.0
        n_features = 128

        [heads.energy]
        pooling = "sum"

        [heads.dipole]

        [loss]
        energy = 1.0
        forces = 10.0

        [training]
        epochs = 500
"""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from molpool_calc.training.sections import (
    DataSection,
    HeadSection,
    HeadsSection,
    LossSection,
    NetworkSection,
    PotentialSection,
    Split,
    TrainingSection,
)
from molpool_calc.training.tables import NOT_FROM_TABLE, record_from_table

__all__ = [
    "DataSection",
    "HeadSection",
    "HeadsSection",
    "LossSection",
    "NetworkSection",
    "PotentialSection",
    "Recipe",
    "Split",
    "TrainingSection",
    "load_recipe",
    "recipe_digest",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A whole recipe; ``[loss]`` and ``[training]`` may be left out."""

    potential: PotentialSection
    data: DataSection
    network: NetworkSection
    heads: HeadsSection
    loss: LossSection = field(default_factory=LossSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    folder: Path = field(default=Path(), metadata=NOT_FROM_TABLE)

    def __post_init__(self) -> None:
        for head in self.heads.names:
            if self.data.units.factor(head) is None:
                further = head in self.heads.scalars
                where = "[data.units] scalars" if further else "[data.units]"
                raise ValueError(
                    f"[heads.{head}] needs labels, but {where} states no unit of "
                    f"{head}; add it, or write one of energy, dipole, polarizability"
                )

    @property
    def data_path(self) -> Path:
        """Where the data file is."""
        return self.folder / self.data.file


def load_recipe(path: Path | str) -> Recipe:
    """Return the recipe in a TOML file.

    Raises:
        ValueError: the file or its data file is missing, it is no TOML, or a key is
            unknown, missing or of a wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no recipe {path}; name a TOML file that exists")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        recipe = record_from_table(Recipe, table, "")
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError among them
        raise ValueError(f"{path.name}: {error}") from error
    recipe = replace(recipe, folder=path.parent)
    if not recipe.data_path.is_file():
        raise ValueError(
            f"{path.name}: data.file = {recipe.data.file!r} is not at "
            f"{recipe.data_path}; give its path relative to the recipe"
        )
    return recipe


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256 of what the recipe says, defaults included.

    Comments and order do not count, nor does where the recipe lies, nor
    ``max_minutes``, ``threads``, ``device`` and ``compile``, which a resumed training
    may change.
    """
    content = asdict(recipe)
    del content["folder"]
    for name in ("max_minutes", "threads", "device", "compile"):
        del content["training"][name]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
