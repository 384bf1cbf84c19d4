"""Reading the records of saved torch modules: children, tensors, attributes."""

from itertools import count

from torch import Tensor

from molpool_calc.importers.restricted_pickle import Name, Record

MAX_MODULES = 3_000
MAX_DEPTH = 20
MAX_NAME = 200
MAX_COUNT = 1_000_000
"""Bounds on what a file may claim; published models stay far below."""


def attributes(module: object, where: str) -> dict[object, object]:
    """Return what is stored of a module.

    Args:
        module: its record.
        where: its place in the model, for messages.

    Raises:
        ValueError: it is no record of a module.
    """
    if not isinstance(module, Record) or not isinstance(module.state, dict):
        raise ValueError(f"{where} is no module")
    return module.state


def attribute(module: object, name: str, where: str) -> object:
    """Return one attribute of a module.

    Raises:
        ValueError: it has none of that name.
    """
    state = attributes(module, where)
    if name not in state:
        raise ValueError(
            f"{where} has no attribute {name}; the file was written by a version of "
            "its program that is not supported, so save it again with a newer one"
        )
    return state[name]


def integer(module: object, name: str, where: str) -> int:
    """Return an attribute that counts something.

    Raises:
        ValueError: it is no whole number from one to a million.
    """
    value = attribute(module, name, where)
    if type(value) is not int or not 1 <= value <= MAX_COUNT:
        raise ValueError(f"{where}.{name} is no whole number from 1 to {MAX_COUNT}")
    return value


def flag(module: object, name: str, where: str) -> bool:
    """Return an attribute that is true or false.

    Raises:
        ValueError: it is neither.
    """
    value = attribute(module, name, where)
    if not isinstance(value, bool):
        raise ValueError(f"{where}.{name} is neither true nor false")
    return value


def text(module: object, name: str, where: str) -> str:
    """Return an attribute that is text.

    Raises:
        ValueError: it is none.
    """
    value = attribute(module, name, where)
    if not isinstance(value, str):
        raise ValueError(f"{where}.{name} is no text")
    return value


def children(module: object, where: str) -> dict[str, object]:
    """Return the modules within a module by name.

    Raises:
        ValueError: it is no module.
    """
    return _table(module, "_modules", where)


def child(module: object, name: str, where: str) -> Record:
    """Return one module within a module.

    Raises:
        ValueError: there is none of that name.
    """
    found = children(module, where).get(name)
    if not isinstance(found, Record):
        raise ValueError(f"{where} has no module {name}")
    return found


def kind_of(thing: object) -> str:
    """Return the name of a record's class, of a global, or of a plain type."""
    if isinstance(thing, Record):
        return thing.kind
    return thing.name if isinstance(thing, Name) else type(thing).__name__


def tensors_of(module: object) -> dict[str, Tensor]:
    """Return parameters and buffers by dotted name, as ``state_dict`` would.

    Raises:
        ValueError: it is no module, or modules contain each other without end.
    """
    found: dict[str, Tensor] = {}
    waiting: list[tuple[str, object]] = [("", module)]
    for n_seen in count(1):
        if not waiting:
            break
        prefix, current = waiting.pop()
        where = prefix.removesuffix(".") or "the model"
        too_many = n_seen + len(waiting) + len(found) > MAX_MODULES
        if too_many or prefix.count(".") > MAX_DEPTH:
            raise ValueError(f"{where} lies too deep, or there are too many modules")
        hidden = attributes(current, where).get("_non_persistent_buffers_set")
        for name, value in _table(current, "_parameters", where).items():
            _add(found, prefix + name, value)
        for name, value in _table(current, "_buffers", where).items():
            if not isinstance(hidden, set) or name not in hidden:
                _add(found, prefix + name, value)
        inner = children(current, where).items()
        waiting += [(f"{prefix}{name}.", m) for name, m in inner if m is not None]
    return found


def _add(found: dict[str, Tensor], name: str, value: object) -> None:
    if isinstance(value, Tensor):
        found[name] = value
    elif value is not None:
        raise ValueError(f"{name} is no tensor")


def _table(module: object, name: str, where: str) -> dict[str, object]:
    table = attribute(module, name, where)
    if not isinstance(table, dict) or not all(
        isinstance(key, str) and len(key) <= MAX_NAME for key in table
    ):
        raise ValueError(f"{where}.{name} is no table of names")
    return table
