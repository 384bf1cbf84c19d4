"""The card of a potential: what it is, how accurate, and where it ends.

Everything in it comes from ``potential.json``; ``molpool train`` writes it as
``README.md``, ``molpool info`` prints it.
"""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from ase.formula import Formula

from molpool_calc.units import BOLTZMANN, COULOMB, DEBYE

WIDTH = 80
CARD_FILE = "README.md"
KINDS = ("mae", "rmse", "max")

# property: rows of (unit, units of the row per internal unit)
ERROR_ROWS = {
    "energy": (("meV", 1000.0),),
    "forces": (("meV/Å", 1000.0),),
    "dipole": (("e·Å", 1.0), ("D", 1.0 / DEBYE)),
    "polarizability": (("e²Å²/eV", 1.0), ("Å³", COULOMB)),
}


def card(description: Mapping[str, Any], *, minutes: float | None = None) -> str:
    """Return the card as Markdown.

    Args:
        description: of the potential, with the keys of ``molpool info --json``.
        minutes: that the training took, if known.
    """
    sections = [
        f"# {description['name']}",
        _paragraph(description["description"]),
        _facts(description),
        "## Accuracy",
        _accuracy(description),
        "## Intended use and limits",
        "\n".join(_limits(description)),
        "## Origin",
        _origin(description, minutes),
        "## Use",
        _use(description),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _facts(description: Mapping[str, Any]) -> str:
    arguments = ", ".join(
        f"{key} {value}" for key, value in description["network_arguments"].items()
    )
    shown = [name for name in description["properties"] if name != "free_energy"]
    rows = [
        ("elements", ", ".join(description["elements"])),
        ("level of theory", description["level_of_theory"]),
        ("properties", ", ".join(shown)),
        ("network", f"{description['network']} ({arguments})"),
        ("pooling", description["pooling"]),
        ("cutoff", _cutoff(description["cutoff"])),
        ("parameters", f"{description['n_parameters']} ({description['dtype']})"),
        ("total charges", ", ".join(_charges(description))),
        ("licence", description["license"]),
        ("SHA-256 of the weights", f"`{description['sha256']}`"),
    ]
    return "\n".join(_item(f"{name}: {value}") for name, value in rows)


def _accuracy(description: Mapping[str, Any]) -> str:
    errors, data = description["errors"], description["training_data"]
    if not errors:
        return _paragraph(
            "No errors were measured. `molpool eval` measures them against frames "
            "with reference values."
        )
    rows = [
        (name, unit, *(f"{factor * error[k]:.4g}" for k in KINDS))
        for name, error in errors.items()
        for unit, factor in _error_rows(name, error.get("unit", ""))
    ]
    text = _paragraph(
        f"Errors on {data.get('test', 'the')} test frames, which took no part in "
        f"training or validation, against {description['level_of_theory']} (not "
        "against experiment). Vectors and tensors count by component; energies are "
        "those of whole systems."
    )
    header = ("property", "unit", "mean absolute", "root mean square", "largest")
    return f"{text}\n\n{_table(header, rows, n_left=2)}"


def _error_rows(name: str, unit: str) -> tuple[tuple[str, float], ...]:
    """Return the units in which an error is stated, with their factors."""
    by_unit = {"eV": ERROR_ROWS["energy"], "e^2*Angstrom^2/eV": (("Å³", COULOMB),)}
    return ERROR_ROWS.get(name) or by_unit.get(unit, ((unit, 1.0),))


def _limits(description: Mapping[str, Any]) -> list[str]:
    data = description["training_data"]
    limits = [
        f"Total charge {' or '.join(_charges(description))}, {_shells(description)}; "
        "anything else is refused, and so are other elements."
    ]
    formulas, n_formulas = data.get("formulas", []), data.get("n_formulas", 0)
    if formulas:
        listed = ", ".join(formulas) + (", …" if n_formulas > len(formulas) else "")
        what = f"the formula {listed}" if n_formulas == 1 else f"formulas {listed}"
        limits.append(
            f"Trained on {what}: other molecules of the same elements are computed, "
            "but their results mean nothing until compared with reference values."
        )
    if n_formulas == 1:
        limits.append(
            "The energies of single atoms rest on a split between the elements that "
            "one formula leaves open; only their sum has a meaning."
        )
    if not data.get("periodic", True):
        limits.append(
            "Trained on molecules in the gas phase: no liquids, no solids, no surfaces."
        )
    if "energies_above_lowest_ev" in data:
        limits.append(_energy_limit(data["energies_above_lowest_ev"], formulas[0]))
    if not data:
        limits.append("What it was trained on is not recorded; see the origin.")
    return list(map(_item, limits))


def _energy_limit(above: Mapping[str, float], formula: str) -> str:
    n_atoms = sum(Formula(formula).count().values())
    reach = (
        f"Training energies reach {above['largest']:.2f} eV above the lowest, 95 % of "
        f"them {above['percentile_95']:.2f} eV; broken bonds are outside."
    )
    if n_atoms <= 2:  # noqa: PLR2004 - 3N − 6 does not count their vibrations
        return reach
    thermal = 0.5 * (3 * n_atoms - 6) * BOLTZMANN
    return (
        f"{reach} Classical dynamics has (3N − 6)/2·kT of potential energy on average: "
        f"{300 * thermal:.2f} eV at 300 K, {1000 * thermal:.2f} eV at 1000 K."
    )


def _origin(description: Mapping[str, Any], minutes: float | None) -> str:
    data, parts = description["training_data"], []
    if description["source"]:
        parts.append(f"Imported weights: {description['source']}.")
    if "file" in data:
        parts.append(
            f"Reference data: `{data['file']}`, {data['train']} frames to train, "
            f"{data['valid']} to validate, {data['test']} to test; SHA-256 "
            f"`{data['sha256']}`."
        )
    if "epochs" in data:
        took = "" if minutes is None else f" in {duration(minutes)}"
        parts.append(
            f"Trained for {data['epochs']} epochs{took}; these are the averaged "
            f"weights of epoch {data['best_epoch']}, the best of the validation. "
            "`molpool train recipe.toml` repeats it; `learning_curve.svg` shows it."
        )
    return "\n\n".join(map(_paragraph, parts or ["Not recorded."]))


def duration(minutes: float) -> str:
    """Return a time in words."""
    if minutes < 1:
        return f"{60 * minutes:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"  # noqa: PLR2004 - two hours


def _use(description: Mapping[str, Any]) -> str:
    name, properties = description["name"], description["properties"]
    call, commands = "get_forces()  # eV/Å", [f"molpool vib SYSTEM -p {name}"]
    if "forces" not in properties:
        shown = next((n for n in properties if not n.endswith("_weights")), "energy")
        call, commands = f'calc.get_property("{shown}", atoms)', []
    commands.append(f"molpool eval {name} FRAMES.extxyz")
    lines = "\n".join(commands)
    return f"""\
```python
from molpool_calc import MolPoolCalculator

atoms.calc = MolPoolCalculator("{name}")  # or the path of its folder
atoms.{call}
```

```
{lines}
```"""


def _shells(description: Mapping[str, Any]) -> str:
    counts = description.get("num_unpaired", [0])
    if list(counts) == [0]:
        return "closed shells"
    return f"{' or '.join(map(str, counts))} unpaired electrons"


def _charges(description: Mapping[str, Any]) -> list[str]:
    return [f"{q:+d}" if q else "0" for q in description["total_charges"]]


def _item(text: str) -> str:
    return _fill(text, first="- ", then="  ")


def _paragraph(text: str) -> str:
    return _fill(text)


def _fill(text: str, first: str = "", then: str = "") -> str:
    return fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, n_left: int) -> str:
    """Return a Markdown table whose columns are aligned in plain text, too."""
    every = [header, *rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(header))]
    rule = [
        "-" * w if i < n_left else "-" * (w - 1) + ":" for i, w in enumerate(widths)
    ]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(w) if i < n_left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(header), line(rule), *map(line, rows)])


def _cutoff(cutoff: float | None) -> str:
    return "none, all pairs interact" if cutoff is None else f"{cutoff:g} Å"
