"""What there is to say about a potential, as one JSON object."""

from pathlib import Path
from typing import Any

from molpool_calc.calculator import MolPoolCalculator
from molpool_calc.potential import count_parameters
from molpool_calc.storage import finite_or_none, load_potential, read_json

BRIEF = (
    *("name", "network", "pooling", "elements", "level_of_theory", "properties"),
    *("errors", "n_parameters"),
)
"""What ``molpool list`` says of each potential."""


def describe(folder: Path) -> dict[str, Any]:
    """Return everything about the potential in a folder, its hash checked.

    Raises:
        ValueError: the folder holds no sound potential.
    """
    content = read_json(folder)
    potential = load_potential(folder)
    spec = potential.spec
    network = dict(spec.network)
    calculator = MolPoolCalculator(potential, device="cpu")
    dtype = str(potential.dtype).removeprefix("torch.")
    return {
        "name": spec.name,
        "network": network.pop("kind"),
        "pooling": spec.pooling,
        "elements": spec.symbols,
        "level_of_theory": spec.level_of_theory,
        "properties": calculator.implemented_properties,
        "errors": spec.errors,
        "n_parameters": count_parameters(potential),
        "cutoff": finite_or_none(potential.cutoff),
        "units": content.get("units"),
        "sha256": content["sha256"],
        "dtype": dtype,
        "network_arguments": network,
        "heads": spec.heads,
        "terms": spec.terms,
        "total_charges": list(spec.total_charges),
        "num_unpaired": list(spec.num_unpaired),
        "training_data": spec.training_data,
        "description": spec.description,
        "license": spec.license,
        "source": spec.source,
        "folder": str(folder),
    }
