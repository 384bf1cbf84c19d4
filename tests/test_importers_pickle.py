"""Pickles are read as data: whatever they name, nothing is imported or run.

Every hostile pickle here tries to create a file; that it works is shown once with
``pickle.loads``, so that the absence of the file means something.
"""

import contextlib
import copyreg
import os
import pickle
import pickletools
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molpool_calc.importers.restricted_pickle import (
    MAX_PICKLE_BYTES,
    Name,
    PickleRules,
    Record,
    read_pickle,
)

RULES = PickleRules(
    names=("torch.float32",),
    prefixes=("schnetpack.", "torch.nn.modules."),
    builders={
        "collections.OrderedDict": lambda arguments: {},
        "builtins.set": lambda arguments: arguments[0],
    },
    persistent=lambda key: ("storage of", key),
)


def read(content: bytes) -> object:
    return read_pickle(content, RULES)


def text(value: str) -> bytes:
    """An opcode that puts text on the stack."""
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def stacked(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def touching(marker: Path) -> str:
    return f"touch {marker}"


HOSTILE = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("__builtin__", "eval"),
    ("__builtin__", "getattr"),
    ("importlib", "import_module"),
    ("runpy", "run_path"),
    ("operator", "attrgetter"),
    ("functools", "partial"),
    ("copyreg", "_reconstructor"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("numpy", "load"),
    ("types", "CodeType"),
]
TRICKS = [
    ("torch.nn.modules.module", "os.system"),
    ("schnetpack.model.base", "torch.os.system"),
    ("schnetpack.model.base", "Model.__init__.__globals__"),
    ("schnetpack.model.base:os", "system"),
    ("schnetpack", "os system"),
    ("schnetpack.", "system"),
    ("schnetpack..os", "system"),
    ("schnetpack.os system", "x"),
    ("os\tschnetpack", "system"),
    ("schnetpackage", "system"),
    (" schnetpack.model", "system"),
    ("torch.nn.modulesx", "system"),
    ("", "system"),
    ("schnetpack.model", ""),
]


def test_such_a_pickle_is_dangerous_when_it_is_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(named("os", "system") + b"(" + text(touching(marker)) + b"tR.")
    assert marker.exists()


@pytest.mark.parametrize(("module", "name"), HOSTILE + TRICKS)
@pytest.mark.parametrize("opcode", [named, stacked])
def test_a_global_that_is_not_listed_is_refused_by_name(
    module: str, name: str, opcode, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    call = opcode(module, name) + b"(" + text(touching(marker)) + b"tR."
    with pytest.raises(ValueError, match="it names the global") as refusal:
        read(call)
    assert f"{module}.{name}" in str(refusal.value) or " " in module + name
    assert not marker.exists()


@pytest.mark.parametrize(("module", "name"), HOSTILE)
def test_it_is_refused_even_where_it_is_only_named(module: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"the global {module}.{name}, which"):
        read(named(module, name) + b".")


@pytest.mark.parametrize(("module", "name"), HOSTILE)
def test_it_is_refused_deep_inside_an_otherwise_good_model(
    module: str, name: str, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    call = named(module, name) + b"(" + text(touching(marker)) + b"tR"
    model = named("schnetpack.model.base", "NeuralNetworkPotential") + b")\x81"
    state = b"}(" + text("training") + b"\x88" + text("_modules") + b"}" + text("0")
    content = b"\x80\x02" + model + state + call + b"sub."
    assert list(pickletools.genops(content))
    with pytest.raises(ValueError, match=f"the global {module}.{name}, which"):
        read(content)
    assert not marker.exists()


class Malice:
    """Pickles itself as a call."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__])
def test_what_pickle_itself_writes_is_refused_in_every_protocol(
    function, protocol: int, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    evil = {"weights": [1, 2, Malice(function, touching(marker))]}
    with pytest.raises(ValueError, match=r"it names the global|uses the opcode"):
        read(pickle.dumps(evil, protocol))
    assert not marker.exists()


# INST, OBJ, NEWOBJ_EX, PERSID and the extension registry are doors of their own
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("INST", b"(" + text("touch marker") + b"ios\nsystem\n."),
        ("OBJ", b"(" + named("schnetpack.a", "B") + text("x") + b"o."),
        ("NEWOBJ_EX", named("schnetpack.a", "B") + b")}\x92."),
        ("PERSID", b"Pos.system\n."),
        ("EXT1", b"\x82\x7b(" + text("touch marker") + b"tR."),
        ("EXT2", b"\x83\x7b\x00."),
        ("EXT4", b"\x84\x7b\x00\x00\x00."),
        ("DUP", b"N2."),
        ("READONLY_BUFFER", b"\x98."),
        ("NEXT_BUFFER", b"\x97."),
        ("LONG4", b"\x8b\x01\x00\x00\x00\x01."),
        ("BYTEARRAY8", b"\x96" + bytes(8) + b"."),
    ],
)
def test_an_opcode_that_no_model_needs_is_refused_by_name(
    name: str, content: bytes
) -> None:
    with pytest.raises(ValueError, match=f"opcode {name}, which"):
        read(content)


def test_the_extension_registry_is_not_consulted(monkeypatch) -> None:
    monkeypatch.setitem(copyreg._inverted_registry, 123, ("os", "system"))
    monkeypatch.setitem(copyreg._extension_cache, 123, os.system)
    with pytest.raises(ValueError, match="opcode EXT1"):
        read(b"\x82\x7b.")


def test_a_listed_class_is_neither_imported_nor_called(monkeypatch) -> None:
    called = []

    class Trap:
        def __new__(cls, *arguments):
            called.append("new")
            return super().__new__(cls)

        def __setstate__(self, state):
            called.append("setstate")

        def __setattr__(self, name, value):
            called.append("setattr")

    module = ModuleType("schnetpack.trap")
    module.Trap = Trap
    monkeypatch.setitem(sys.modules, "schnetpack.trap", module)
    state = b"}" + text("weight") + b"K\x01s"
    record = read(named("schnetpack.trap", "Trap") + b")\x81" + state + b"b.")
    assert isinstance(record, Record)
    assert record.kind == "schnetpack.trap.Trap"
    assert record.arguments == ()
    assert record.state == {"weight": 1}
    assert called == []


def test_a_listed_class_that_is_called_is_refused(tmp_path: Path) -> None:
    for thing in (named("schnetpack.trap", "Trap"), named("torch", "float32")):
        with pytest.raises(ValueError, match=r"the global (schnetpack|torch)\."):
            read(thing + b")R.")


@pytest.mark.parametrize(
    ("what", "content"),
    [
        ("calls a str", text("print") + b")R."),
        ("calls a Record", named("schnetpack.a", "B") + b")\x81)R."),
        ("calls torch.float32", named("torch", "float32") + b"]R."),
        ("constructs a str", text("print") + b")\x81."),
        ("appends to a tuple", b")N" + b"a."),
        ("appends to a Record", named("schnetpack.a", "B") + b")\x81(Ne."),
        ("sets items of a list", b"]NNs."),
        ("sets items of a Record", named("schnetpack.a", "B") + b")\x81(NNu."),
        ("sets items of a dict", b"}(Nu."),
        ("adds to a list", b"](N\x90."),
        ("sets the state of a list", b"]}b."),
        ("sets the state of torch.float32", named("torch", "float32") + b"}b."),
        ("sets a state that is a tuple", named("schnetpack.a", "B") + b")\x81)b."),
        ("sets the state of a Record", named("schnetpack.a", "B") + b")\x81}b}b."),
        ("uses as a key a tuple", b"})Ns."),
        ("uses as a key a list", b"}]Ns."),
    ],
)
def test_a_deed_that_would_run_code_of_an_object_is_refused(
    what: str, content: bytes
) -> None:
    with pytest.raises(ValueError, match=f"its pickle {what}, which"):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"N",
        b"NN",
        b"a.",
        b"t.",
        b"0.",
        b"R.",
        b"h\x00.",
        b"j\xff\xff\xff\xff.",
        b"\x80\x09N.",
        b"\xff.",
        b"X\xff\xff\xff\xffshort.",
        b"cos\nsystem",
        b"X\x01\x00\x00\x00\xff.",
        b"\x8a\xff\x00.",
        pickle.dumps({"a": 1})[:-3],
    ],
)
def test_a_damaged_pickle_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="its pickle"):
        read(content)


def test_a_global_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(ValueError, match=r"it names the global schnetpack\.mødel\.x"):
        read(stacked("schnetpack.mødel", "x") + b".")
    with pytest.raises(ValueError, match="its pickle is damaged: 'ascii'"):
        read(named("schnetpack.mødel", "x") + b".")


def test_a_huge_memo_index_takes_no_memory() -> None:
    assert read(b"Nr\xff\xff\xff\x7f.") is None


def test_a_pickle_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_PICKLE_BYTES}"):
        read(b"N" * (MAX_PICKLE_BYTES + 1))


def test_nesting_without_end_is_read_and_freed() -> None:
    deep = read(b"N" + b"\x85" * 5_000 + b".")
    assert isinstance(deep, tuple)
    del deep
    with pytest.raises(ValueError, match="it takes more than it has put"):
        read(b"(" * 5_000 + b".")


def test_names_stay_text_and_persistent_ids_go_to_the_caller() -> None:
    content = b"(" + named("torch", "float32") + text("7") + b"Q" + b"t."
    assert read(content) == (Name("torch.float32"), ("storage of", "7"))


def test_attributes_of_an_ordered_dict_are_dropped() -> None:
    ordered: OrderedDict = OrderedDict(a=1)
    ordered._metadata = {"version": 1}
    assert read(pickle.dumps(ordered, 2)) == {"a": 1}


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.sets(st.integers())
    ),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(value=plain, protocol=st.sampled_from([4, 5]))
def test_plain_data_comes_back_as_it_was(value: object, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@settings(deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_give_data_or_a_value_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        read(b"\x80\x02" + content)
