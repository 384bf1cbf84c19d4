"""Files of ``torch.save`` are read as data, and damaged or hostile ones refused."""

import contextlib
import hashlib
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from molpool_calc.importers.module_tree import tensors_of
from molpool_calc.importers.restricted_pickle import Record
from molpool_calc.importers.torch_archive import read_torch_file

Entries = dict[str, bytes]
PICKLE, STORAGE = "model/data.pkl", "model/data/0"


def read(path: Path) -> object:
    return read_torch_file(path, prefixes=()).root


def write(path: Path, entries: Entries, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def entries_of(path: Path) -> Entries:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file of torch with one tensor of six numbers."""
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.arange(6.0).reshape(2, 3)}, path)
    return path


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4),
        torch.randn(3, 4, dtype=torch.float64),
        torch.randn(3).half(),
        torch.arange(5),
        torch.arange(5, dtype=torch.int32),
        torch.arange(5, dtype=torch.uint8),
        torch.tensor(2.5),
        torch.randn(3, 4).T,
        torch.randn(4, 6)[1:3, ::2],
        torch.randn(3)[None].expand(1, 3),
    ],
)
def test_a_tensor_comes_back_bit_for_bit(tensor: Tensor, tmp_path: Path) -> None:
    torch.save([tensor, nn.Parameter(torch.ones(2))], tmp_path / "model.pt")
    found, parameter = read(tmp_path / "model.pt")
    assert found.dtype == tensor.dtype
    assert torch.equal(found, tensor)
    assert torch.equal(parameter, torch.ones(2))


def test_a_whole_module_comes_back_as_a_tree_with_its_state_dict(
    tmp_path: Path,
) -> None:
    norm = nn.BatchNorm1d(4)
    norm.register_buffer("scratch", torch.ones(3), persistent=False)
    module = nn.Sequential(
        nn.Linear(3, 4), nn.SiLU(), norm, nn.Linear(4, 1, bias=False)
    )
    module.add_module("nothing", None)
    torch.save(module, tmp_path / "model.pt")
    root = read(tmp_path / "model.pt")
    assert isinstance(root, Record)
    assert root.kind == "torch.nn.modules.container.Sequential"
    found, expected = tensors_of(root), module.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name])


def test_a_state_dict_with_its_metadata_comes_back(tmp_path: Path) -> None:
    expected = nn.Linear(3, 4).state_dict()
    assert isinstance(expected, OrderedDict)
    torch.save(expected, tmp_path / "model.pt")
    found = read(tmp_path / "model.pt")
    assert {k: v.tolist() for k, v in found.items()} == {
        k: v.tolist() for k, v in expected.items()
    }


def test_the_hash_is_that_of_the_file(saved: Path) -> None:
    expected = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert read_torch_file(saved, prefixes=()).sha256 == expected


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read(tmp_path / "nothing")
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"weights", pickle.dumps({"a": 1}), b"PK\x05\x06" + bytes(9)],
)
def test_a_file_that_is_no_zip_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"model\.pt was refused: it is no zip archive"
    ):
        read(path)


def test_the_file_format_before_torch_1_6_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="save an older model again"):
        read(path)


def without(name: str) -> Callable[[Entries], Entries]:
    return lambda entries: {k: v for k, v in entries.items() if k != name}


def replaced(name: str, content: bytes) -> Callable[[Entries], Entries]:
    return lambda entries: {**entries, name: content}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(PICKLE), "holds exactly one data.pkl"),
        (replaced("other/data.pkl", b"N."), "holds exactly one data.pkl"),
        (without(STORAGE), "it lacks the entry model/data/0"),
        (replaced(STORAGE, bytes(20)), "holds 5 numbers of torch.float32, but .* 6"),
        (replaced(STORAGE, bytes(28)), "holds 7 numbers of torch.float32, but .* 6"),
        (replaced(STORAGE, bytes(23)), "does not hold whole numbers"),
        (replaced(STORAGE, b""), "holds 0 numbers"),
        (replaced("model/byteorder", b"big"), "big-endian"),
        (replaced(PICKLE, b""), "its pickle is damaged"),
        (replaced(PICKLE, b"cos\nsystem\n)R."), "it names the global os.system"),
        (replaced(PICKLE, b"cschnetpack.model.base\nM\n)\x81."), "schnetpack.model"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(
    change: Callable[[Entries], Entries], message: str, saved: Path
) -> None:
    path = write(saved, change(entries_of(saved)))
    with pytest.raises(ValueError, match=message):
        read(path)


def test_a_compressed_archive_is_refused_unread(saved: Path) -> None:
    bomb = {**entries_of(saved), STORAGE: bytes(50_000_000)}
    path = write(saved, bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="compressed or encrypted"):
        read(path)


def test_entries_that_claim_more_than_the_file_has_are_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    place = content.find(b"PK\x01\x02")
    while place != -1:  # both sizes of every entry of the directory
        content[place + 20 : place + 28] = 2 * (2**30).to_bytes(4, "little")
        place = content.find(b"PK\x01\x02", place + 1)
    saved.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="claim more bytes than the file has"):
        read(saved)


def test_two_entries_of_one_name_are_refused(saved: Path) -> None:
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(saved, "a") as archive,
    ):
        archive.writestr(STORAGE, bytes(24))
    with pytest.raises(ValueError, match="two entries of the same name"):
        read(saved)


def test_a_flipped_bit_in_the_numbers_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    numbers = torch.arange(6.0).numpy().tobytes()
    content[content.find(numbers) + 5] ^= 1
    saved.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="entry model/data/0 is damaged: Bad CRC"):
        read(saved)


def tensor_pickle(offset: object, size: object, stride: object) -> bytes:
    """A pickle of one tensor, with its place in the storage as given."""
    key = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
    key += b"X\x03\x00\x00\x00cpuK\x06tQ"
    place = b"".join(pickle.dumps(x, 2)[2:-1] for x in (offset, size, stride))
    place = place.replace(b"q\x00", b"")
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + key + place + b"\x89}tR."


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (1, (2, 3), (3, 1)),
        (0, (2, 4), (4, 1)),
        (0, (7,), (1,)),
        (0, (2, 3), (4, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2**62, 2**62), (0, 0)),
        (0, (10**6,), (0,)),
        (0, (0,), (1,)),
        (0, (2, 3), (3,)),
        (0, (1,) * 9, (1,) * 9),
        (0, (1.0,), (1,)),
        (0, (True,), (1,)),
        (0, [2], (1,)),
        (None, (2,), (1,)),
        (6, (1,), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(
    offset: object, size: object, stride: object, saved: Path
) -> None:
    good = replaced(PICKLE, tensor_pickle(0, (2, 3), (3, 1)))
    expected = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(read(write(saved, good(entries_of(saved)))), expected)
    bad = replaced(PICKLE, tensor_pickle(offset, size, stride))
    with pytest.raises(ValueError, match=r"its pickle (takes|describes) a tensor"):
        read(write(saved, bad(entries_of(saved))))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (b"N", "no storage"),
        (b")", "no storage"),
        (b"X\x07\x00\x00\x00storage", "no storage"),
        (
            b"(X\x07\x00\x00\x00storagectorch\nfloat32\nX\x01\x00\x00\x000"
            b"X\x03\x00\x00\x00cpuK\x06t",
            "of the kind torch.float32",
        ),
        (
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x09\x00\x00\x00"
            b"../../etcX\x03\x00\x00\x00cpuK\x06t",
            r"lacks the entry model/data/../../etc",
        ),
        (
            b"(X\x07\x00\x00\x00storagectorch\nIntStorage\nX\x01\x00\x00\x000"
            b"X\x03\x00\x00\x00cpuK\x05t",
            "holds 6 numbers of torch.int32, but its pickle states 5",
        ),
    ],
)
def test_a_reference_to_no_storage_is_refused(
    key: bytes, message: str, saved: Path
) -> None:
    change = replaced(PICKLE, key + b"Q.")
    with pytest.raises(ValueError, match=message):
        read(write(saved, change(entries_of(saved))))


def nested(levels: int, width: int) -> Record:
    """Modules that contain one module many times, level by level."""
    inner: object = None
    for _ in range(levels):
        tables: dict[object, object] = {"_parameters": {}, "_buffers": {}}
        tables["_modules"] = {str(k): inner for k in range(width) if inner is not None}
        inner = Record("torch.nn.modules.container.ModuleList", (), tables)
    assert isinstance(inner, Record)
    return inner


@pytest.mark.parametrize(("levels", "width"), [(40, 1), (15, 2), (15, 100)])
def test_modules_within_modules_without_end_are_refused(
    levels: int, width: int
) -> None:
    assert tensors_of(nested(5, 3)) == {}
    with pytest.raises(ValueError, match="too deep, or there are too many"):
        tensors_of(nested(levels, width))


def test_a_module_that_contains_itself_is_refused() -> None:
    module = nested(1, 1)
    assert module.state is not None
    module.state["_modules"] = {"self": module}
    with pytest.raises(ValueError, match="too deep, or there are too many"):
        tensors_of(module)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_a_hostile_file_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = nn.Linear(2, 2)
    module.extra = Evil()
    torch.save(module, "model.pt")
    with pytest.raises(ValueError, match=r"it names the global (posix|nt)\.system"):
        read(Path("model.pt"))
    assert not Path("evil").exists()
    torch.load("model.pt", weights_only=False)
    assert Path("evil").exists()


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_damage_gives_a_value_error_or_the_same_kind_of_thing(
    data: st.DataObject, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.pt"
    torch.save({"weight": torch.arange(6.0), "name": "x"}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with contextlib.suppress(ValueError):
        read(path)
