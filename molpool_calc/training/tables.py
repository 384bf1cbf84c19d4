"""TOML tables to frozen records: every key known, every type right."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")

OPEN_FIELD = "arguments"
"""A field of this name collects the keys that the record does not know."""

NOT_FROM_TABLE = {"from_table": False}
"""Metadata of a field that no table may fill."""


def record_from_table(
    record: type[Record], table: Mapping[str, Any], name: str
) -> Record:
    """Return the dataclass ``record`` filled from a table of TOML.

    Sub-tables fill fields that are dataclasses or mappings to dataclasses. A record
    with a field ``arguments`` takes every other key of its table there.

    Args:
        record: the dataclass.
        table: what TOML holds.
        name: of the table, as its header writes it; empty for the whole file.

    Raises:
        ValueError: a key is unknown, missing, of a wrong type, or its value is
            refused by the record.
    """
    known = {
        field.name: field
        for field in fields(record)  # type: ignore[arg-type]
        if field.metadata.get("from_table", True)
    }
    is_open = known.pop(OPEN_FIELD, None) is not None
    given = {key: value for key, value in table.items() if key in known}
    rest = {key: value for key, value in table.items() if key not in known}
    if rest and not is_open:
        raise ValueError(
            f"{next(iter(rest))!r} is no key of {_place(name)}; "
            f"its keys are {', '.join(known)}"
        )
    missing = [
        key for key, field in known.items() if key not in given and _needed(field)
    ]
    if missing:
        raise ValueError(f"{_place(name)} lacks the key {missing[0]!r}; give it")
    hints = get_type_hints(record)
    values = {
        key: _value(value, hints[key], f"{name}.{key}".lstrip("."))
        for key, value in given.items()
    }
    try:
        return record(**values, **({OPEN_FIELD: rest} if is_open else {}))
    except ValueError as error:
        raise ValueError(f"{_place(name)}: {error}") from error


def _place(name: str) -> str:
    return f"[{name}]" if name else "the recipe"


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _value(value: Any, hint: Any, name: str) -> Any:
    """Return a TOML value as the type ``hint`` allows, or raise ValueError."""
    options = get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        if is_dataclass(option) and isinstance(value, dict):
            return record_from_table(option, value, name)  # type: ignore[arg-type]
        if get_origin(option) is Mapping and isinstance(value, dict):
            inner = get_args(option)[1]
            return {key: _value(x, inner, f"{name}.{key}") for key, x in value.items()}
        if _fits(value, option):
            return float(value) if option is float else value
    allowed = " or ".join(
        _describe(option) for option in options if option is not types.NoneType
    )
    raise ValueError(f"{name} = {value!r} is not allowed; give {allowed}")


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _fits(value: Any, option: Any) -> bool:
    if get_origin(option) is Literal:
        return isinstance(value, str) and value in get_args(option)
    if option is Any:
        return True
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if get_origin(option) is list:
        (of,) = get_args(option)
        return isinstance(value, list) and all(_fits(item, of) for item in value)
    return isinstance(option, type) and isinstance(value, option)


def _describe(option: Any) -> str:
    if get_origin(option) is Literal:
        return " or ".join(repr(choice) for choice in get_args(option))
    if is_dataclass(option):
        keys = ", ".join(field.name for field in fields(option))
        return f"a table with {keys}"
    if get_origin(option) is Mapping:
        return "a table"
    if get_origin(option) is list:
        return f"a list of {_describe(get_args(option)[0])}"
    names = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
    }
    return names.get(option, str(option))


def demand_positive(record: object, *names: str) -> None:
    """Raise ValueError unless the named fields are ``None`` or above 0."""
    for name in names:
        value = getattr(record, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} = {value} must be above 0")


def demand_nonnegative(record: object, *names: str) -> None:
    """Raise ValueError unless the named fields are ``None``, 0 or above."""
    for name in names:
        value = getattr(record, name)
        if value is not None and not value >= 0:
            raise ValueError(f"{name} = {value} must not be below 0")
