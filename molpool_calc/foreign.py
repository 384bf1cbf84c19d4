"""Calculators of other programs, as users name them on the command line.

``module:Class,key=value,…`` is an ASE calculator: ``tblite.ase:TBLite,method=GFN2-xTB``
stands for ``from tblite.ase import TBLite; TBLite(method="GFN2-xTB")``. Values are
Python literals where they can be read as such, and text otherwise.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from ase.calculators.calculator import BaseCalculator, CalculationFailed

FORM = "module:Class,key=value, as in tblite.ase:TBLite,method=GFN2-xTB"

# A comma that begins an option, not one within a value.
_OPTION = re.compile(r",(?=\s*[A-Za-z_]\w*\s*=)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignCalculator:
    """What names a calculator: where its class is, and with which options."""

    text: str
    module: str
    name: str
    options: Mapping[str, Any]

    def make(self) -> BaseCalculator:
        """Return a new calculator.

        Raises:
            ValueError: there is no such module or class, it is no ASE calculator, or
                it refuses the options.
        """
        try:
            loaded = import_module(self.module)
        except ImportError as error:
            raise ValueError(
                f"{self.module} of the calculator {self.text} cannot be imported "
                f"({error}); install it, or correct the name"
            ) from error
        kind = getattr(loaded, self.name, None)
        if not callable(kind):
            raise ValueError(
                f"{self.module} has no class {self.name}; give a calculator as {FORM}"
            )
        try:
            calculator = kind(**self.options)
        except (TypeError, ValueError, LookupError, RuntimeError, OSError) as error:
            raise ValueError(
                f"{self.name} cannot be made with the options of {self.text} "
                f"({error}); correct them"
            ) from error
        if not isinstance(calculator, BaseCalculator):
            raise ValueError(
                f"{self.module}:{self.name} is no ASE calculator; give one as {FORM}"
            )
        return calculator

    def identity(self) -> dict[str, Any]:
        """Return what results depend on, ready for JSON."""
        top = self.module.partition(".")[0]
        found = {}
        for package in sorted(set(packages_distributions().get(top, []))):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return {"calculator": self.text, "versions": found}


def foreign_calculator(text: str) -> ForeignCalculator:
    """Return what a text names; nothing is imported yet.

    Raises:
        ValueError: the text has another form.

    Example:
        >>> foreign_calculator("ase.calculators.emt:EMT").name
        'EMT'
        >>> dict(foreign_calculator("a.b:C,method=GFN2-xTB,cells=(1, 2),k=3").options)
        {'method': 'GFN2-xTB', 'cells': (1, 2), 'k': 3}
    """
    head, *options = _OPTION.split(text.strip())
    module, colon, name = head.partition(":")
    dotted = all(part.isidentifier() for part in module.split("."))
    if not colon or not dotted or not name.isidentifier():
        raise ValueError(f"{text!r} names no calculator; give it as {FORM}")
    pairs = [option.partition("=")[::2] for option in options]
    return ForeignCalculator(
        text=text.strip(),
        module=module,
        name=name,
        options={key.strip(): _value(value.strip()) for key, value in pairs},
    )


def demand_property(calculator: BaseCalculator, name: str, text: str) -> None:
    """Raise ValueError where a calculator does not say that it has a property."""
    if name not in calculator.implemented_properties:
        known = ", ".join(calculator.implemented_properties) or "nothing"
        raise ValueError(
            f"{text} gives no {name}, only {known}; take a calculator that does"
        )


def failed(text: str, what: str, error: BaseException) -> CalculationFailed:
    """Return the failure of a foreign calculator, as the command line reports it."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CalculationFailed(f"{text} failed at {what} ({reason})")


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
