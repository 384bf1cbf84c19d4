"""Pickles read as data: nothing that a pickle names is imported, looked up or called.

A published model is often a pickle, and a pickle is a program. ``pickle.Unpickler``
with a guarded ``find_class`` would still run it: the unpickler calls what
``find_class`` returned (REDUCE, NEWOBJ, INST, OBJ), calls ``__setstate__`` or sets
attributes (BUILD), calls ``append``, ``extend``, ``add`` and ``__setitem__`` of any
object, takes objects of the process-wide extension registry without asking
``find_class`` once they are cached (EXT1, EXT2, EXT4), and allocates a memo as long as
the largest index in the file. Each is a door to be watched.

This reader has no such door. It interprets the opcodes itself (``pickletools.genops``
decodes them), knows only those that Python writes for plain data and modules, and
refuses all others by name. A global becomes a ``Name``, which is text, and only if the
caller's list has it; an object becomes a ``Record`` of its class name and state. The
only functions called are the caller's own ``builders``, found by name in a closed
table. Containers filled by a pickle are plain ``dict``, ``list`` and ``set``; their
keys are numbers, text and names, so that hashing calls nothing and ends quickly.
"""

import pickletools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

MAX_PICKLE_BYTES = 4 * 2**20
"""A hundred times the largest published model of this kind; bounds the memory."""

MAX_PROTOCOL = 5

Builder = Callable[[tuple[object, ...]], object]

_IDENTIFIERS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"})
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"})


@dataclass(frozen=True, slots=True)
class Name:
    """A global as the pickle writes it, e.g. ``torch.nn.functional.silu``: text."""

    name: str


@dataclass(eq=False, slots=True)
class Record:
    """What a pickle says of one object: class name, arguments and state.

    Attributes:
        kind: qualified name of the class, which is never imported.
        arguments: those of its ``__new__``.
        state: what its ``__setstate__`` would get.
    """

    kind: str
    arguments: tuple[object, ...]
    state: dict[object, object] | tuple[object, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PickleRules:
    """What a pickle may contain besides plain data.

    Attributes:
        names: globals that may be remembered as ``Name`` and ``Record``.
        prefixes: beginnings of further such globals, each ending in a dot.
        builders: our own function for each global that the pickle may call.
        persistent: returns the object for a persistent id.
        tuple_states: kinds of records whose state is a tuple, as NumPy's are.
    """

    names: Collection[str]
    prefixes: tuple[str, ...]
    builders: Mapping[str, Builder]
    persistent: Callable[[object], object]
    tuple_states: Collection[str] = frozenset()

    def allow(self, name: str) -> bool:
        """Return whether the global may be remembered."""
        known = name in self.names or name in self.builders
        return known or name.startswith(self.prefixes)


def read_pickle(content: bytes, rules: PickleRules) -> object:
    """Return what a pickle describes, without running any of it.

    Args:
        content: the pickle.
        rules: what it may contain besides plain data.

    Raises:
        ValueError: a global that the rules do not list (the message names it), an
            opcode that plain data and modules have no use for, or a damaged pickle.

    Example:
        >>> import pickle
        >>> rules = PickleRules(names=(), prefixes=(), builders={}, persistent=id)
        >>> read_pickle(pickle.dumps({"cutoff": 5.0}), rules)
        {'cutoff': 5.0}
        >>> read_pickle(pickle.dumps(print), rules)
        Traceback (most recent call last):
        ...
        ValueError: it names the global builtins.print, ...
    """
    if len(content) > MAX_PICKLE_BYTES:
        raise ValueError(
            f"its pickle has {len(content)} bytes, but at most {MAX_PICKLE_BYTES} are "
            "read; a trained model has some ten thousand"
        )
    interpreter = _Interpreter(rules)
    for opcode, argument in _decoded(content):
        if opcode == "STOP":
            break
        interpreter.step(opcode, argument)
    return interpreter.pop()


def _decoded(content: bytes) -> Iterator[tuple[str, object]]:
    """Yield opcodes and their arguments; the last one is STOP."""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            yield opcode.name, argument
    except ValueError as error:
        raise ValueError(f"its pickle is damaged: {error}") from error


class _Interpreter:
    """The stack machine of ``pickle``, restricted to opcodes that build plain data."""

    def __init__(self, rules: PickleRules) -> None:
        self.rules = rules
        self.stack: list[object] = []
        self.outer: list[list[object]] = []
        self.memo: dict[object, object] = {}
        self.actions: dict[str, Callable[[object], None]] = {
            "PROTO": self._protocol,
            "FRAME": lambda _: None,
            "NONE": lambda _: self._push(None),
            "NEWTRUE": lambda _: self._push(True),
            "NEWFALSE": lambda _: self._push(False),
            "EMPTY_TUPLE": lambda _: self._push(()),
            "EMPTY_LIST": lambda _: self._push([]),
            "EMPTY_DICT": lambda _: self._push({}),
            "EMPTY_SET": lambda _: self._push(set()),
            "MARK": lambda _: self._mark(),
            "TUPLE": lambda _: self._push(tuple(self._pop_mark())),
            "TUPLE1": lambda _: self._tuple(1),
            "TUPLE2": lambda _: self._tuple(2),
            "TUPLE3": lambda _: self._tuple(3),
            "APPEND": lambda _: self._extend_list([self.pop()]),
            "APPENDS": lambda _: self._extend_list(self._pop_mark()),
            "SETITEM": lambda _: self._set_items([self.pop(), self.pop()][::-1]),
            "SETITEMS": lambda _: self._set_items(self._pop_mark()),
            "ADDITEMS": lambda _: self._add_items(self._pop_mark()),
            "BINPUT": self._remember,
            "LONG_BINPUT": self._remember,
            "MEMOIZE": lambda _: self._remember(len(self.memo)),
            "BINGET": self._recall,
            "LONG_BINGET": self._recall,
            "GLOBAL": lambda pair: self._name(*str(pair).split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._name(*[self.pop(), self.pop()][::-1]),
            "REDUCE": lambda _: self._call(),
            "NEWOBJ": lambda _: self._new(),
            "BUILD": lambda _: self._set_state(),
            "BINPERSID": lambda _: self._push(self.rules.persistent(self.pop())),
        }

    def step(self, opcode: str, argument: object) -> None:
        """Carry out one opcode."""
        if opcode in _NUMBERS or opcode in _TEXTS:
            self.stack.append(argument)
        elif opcode in self.actions:
            self.actions[opcode](argument)
        else:
            raise ValueError(
                f"its pickle uses the opcode {opcode}, which no trained model needs; "
                "do not load this file with torch.load or pickle either"
            )

    def pop(self) -> object:
        if not self.stack:
            raise ValueError("its pickle is damaged: it takes more than it has put")
        return self.stack.pop()

    def _push(self, value: object) -> None:
        self.stack.append(value)

    def _protocol(self, version: object) -> None:
        if not isinstance(version, int) or version > MAX_PROTOCOL:
            raise ValueError(
                f"its pickle has protocol {version}, but at most {MAX_PROTOCOL} is read"
            )

    def _mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def _pop_mark(self) -> list[object]:
        if not self.outer:
            raise ValueError("its pickle is damaged: a mark is missing")
        items, self.stack = self.stack, self.outer.pop()
        return items

    def _tuple(self, n: int) -> None:
        self._push(tuple([self.pop() for _ in range(n)][::-1]))

    def _remember(self, index: object) -> None:
        value = self.pop()
        self.memo[index] = value
        self._push(value)

    def _recall(self, index: object) -> None:
        if index not in self.memo:
            raise ValueError(f"its pickle is damaged: memo {index} is missing")
        self._push(self.memo[index])

    def _extend_list(self, items: list[object]) -> None:
        target = self.pop()
        if not isinstance(target, list):
            raise ValueError(_unfit("appends to", target))
        target.extend(items)
        self._push(target)

    def _set_items(self, items: list[object]) -> None:
        target = self.pop()
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError(_unfit("sets items of", target))
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value
        self._push(target)

    def _add_items(self, items: list[object]) -> None:
        target = self.pop()
        if not isinstance(target, set):
            raise ValueError(_unfit("adds to", target))
        target.update(_key(item) for item in items)
        self._push(target)

    def _name(self, module: object, name: object = "") -> None:
        full = f"{module}.{name}"
        well_formed = (
            isinstance(module, str)
            and isinstance(name, str)
            and _IDENTIFIERS.fullmatch(module)
            # a dotted name would be looked up attribute by attribute
            and _IDENTIFIER.fullmatch(name)
        )
        if not well_formed or not self.rules.allow(full):
            raise ValueError(_refusal(full))
        self._push(Name(full))

    def _call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError(_unfit("calls", function))
        if function.name not in self.rules.builders:
            raise ValueError(_refusal(function.name))
        self._push(self.rules.builders[function.name](arguments))

    def _new(self) -> None:
        arguments, kind = self.pop(), self.pop()
        if not isinstance(kind, Name) or not isinstance(arguments, tuple):
            raise ValueError(_unfit("constructs", kind))
        self._push(Record(kind.name, arguments))

    def _set_state(self) -> None:
        state, target = self.pop(), self.pop()
        kind = target.kind if isinstance(target, Record) else None
        known = tuple if kind in self.rules.tuple_states else dict
        if not isinstance(state, known):
            raise ValueError(_unfit("sets a state that is", state))
        if isinstance(target, Record) and target.state is None:
            target.state = state
        elif not isinstance(target, dict):
            # attributes of an ordered dict are torch's _metadata: no tensors there
            raise ValueError(_unfit("sets the state of", target))
        self._push(target)


def _key(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float, str, bytes, Name)):
        return value
    raise ValueError(_unfit("uses as a key", value))


def _refusal(name: str) -> str:
    return (
        f"it names the global {name[:200]}, which no trained model needs; nothing was "
        "run, but do not load this file with torch.load or pickle either"
    )


def _unfit(deed: str, target: object) -> str:
    what = target.name if isinstance(target, Name) else f"a {type(target).__name__}"
    return f"its pickle {deed} {what}, which no trained model does"
