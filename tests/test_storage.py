"""Potential folders: written whole, read exactly, and refused in one sentence."""

import hashlib
import json
import pickle
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_potentials import crystal, ethanol, fields, predict, small_potential

import molpool_calc.storage
from molpool_calc.storage import (
    bundled_folder,
    bundled_names,
    copy_folder,
    find_folder,
    load_potential,
    read_json,
    save_potential,
)

ALL = ("energy", "dipole", "polarizability")


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "mine"
    save_potential(small_potential(dtype=torch.float32), target)
    return target


def change(folder: Path, **entries: object) -> None:
    """Set keys of the JSON, or remove those given as ``None``."""
    path = folder / "potential.json"
    content = json.loads(path.read_text())
    for key, value in entries.items():
        if value is None:
            del content[key]
        else:
            content[key] = value
    path.write_text(json.dumps(content))


def entry(folder: Path, key: str) -> dict:
    return json.loads((folder / "potential.json").read_text())[key]


def change_weights(folder: Path, content: bytes) -> None:
    """Replace the weights, and make their hash right again."""
    (folder / "weights.safetensors").write_bytes(content)
    change(folder, sha256=hashlib.sha256(content).hexdigest())


def change_tensors(folder: Path, **tensors: torch.Tensor | None) -> None:
    path = folder / "weights.safetensors"
    weights = {**load_file(path), **tensors}
    save_file({k: v for k, v in weights.items() if v is not None}, path)
    change_weights(folder, path.read_bytes())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("network", "pooling", "heads"),
    [("painn", "sum", ALL), ("painn", "mean", ALL[:1]), ("schnet", "sum", ALL[:2])],
)
def test_a_potential_returns_bit_for_bit(tmp_path, network, pooling, heads, dtype):
    original = small_potential(network, pooling=pooling, heads=heads, dtype=dtype)
    save_potential(original, tmp_path / "folder")
    loaded = load_potential(tmp_path / "folder")
    assert loaded.spec == original.spec
    assert loaded.dtype == dtype
    assert loaded.extensive == original.extensive
    state = loaded.state_dict()
    assert state.keys() == original.state_dict().keys()
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    before = fields(predict(original, crystal(), dtype=dtype))
    after = fields(predict(loaded, crystal(), dtype=dtype))
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


def test_a_folder_written_twice_holds_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_potential(small_potential(), tmp_path / name)
    for file in ("potential.json", "weights.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (
            tmp_path / "b" / file
        ).read_bytes()


def test_the_default_dtype_has_no_say_in_loading(folder):
    expected = load_potential(folder)
    torch.set_default_dtype(torch.float64)
    try:
        loaded = load_potential(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    assert loaded.dtype == torch.float32
    for name, tensor in expected.state_dict().items():
        assert tensor.dtype == loaded.state_dict()[name].dtype
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_the_json_says_what_the_contract_promises(folder):
    content = read_json(folder)
    weights = (folder / "weights.safetensors").read_bytes()
    assert content["format_version"] == 1
    assert content["elements"] == ["H", "C", "N", "O"]
    assert content["cutoff"] == 4.0
    assert content["units"] == {
        "energy": "eV",
        "length": "Angstrom",
        "dipole": "e*Angstrom",
    }
    assert content["network"]["kind"] == "painn"
    assert content["sha256"] == hashlib.sha256(weights).hexdigest()
    assert asdict(small_potential().spec).keys() < content.keys()


def test_saving_leaves_nothing_but_two_readable_files(folder):
    save_potential(small_potential(seed=1), folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "potential.json",
        "weights.safetensors",
    ]
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())


def test_a_save_that_fails_leaves_the_old_potential(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = small_potential(seed=1)
    other.spec = replace(other.spec, training_data={"frames": object()})
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_potential(other, folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for place, name in ((molpool_calc.storage.os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, disk_full)
            with pytest.raises(OSError, match="No space left"):
                save_potential(small_potential(seed=1), folder)
        assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_weights_changed_by_one_bit_are_refused(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"SHA-256 \w{64}, but potential.json states"):
        load_potential(folder)


def test_truncated_weights_are_refused(folder):
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="the weights were changed or damaged"):
        load_potential(folder)
    for part in (content[:-100], content[:20], b""):
        change_weights(folder, part)
        with pytest.raises(ValueError, match=r"weights.safetensors is no safetensors"):
            load_potential(folder)


def test_missing_weights_are_named(folder):
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match=r"weights.safetensors cannot be read"):
        load_potential(folder)


def test_a_pickle_in_place_of_the_weights_is_not_opened(folder, tmp_path):
    trap = tmp_path / "executed"
    change_weights(folder, pickle.dumps(Trap(trap)))
    with pytest.raises(ValueError, match="is no safetensors file"):
        load_potential(folder)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap)))  # the trap works
    assert trap.exists()


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "kind", ["os.system", "torch.load", "PaiNN", "molpool_calc.networks.painn.PaiNN"]
)
def test_a_network_is_chosen_from_a_table_and_never_imported(folder, kind):
    change(folder, network={**entry(folder, "network"), "kind": kind})
    with pytest.raises(ValueError, match=f"network '{kind}' is unknown; choose one of"):
        load_potential(folder)


def test_missing_misshapen_and_unknown_tensors_are_named(folder):
    name = "network.updates.1.context.second.bias"
    change_tensors(folder, **{name: torch.zeros(7)})
    with pytest.raises(ValueError, match=rf"tensor {name} has shape \[7\], but .*\[36"):
        load_potential(folder)
    change_tensors(folder, **{name: None})
    with pytest.raises(ValueError, match=f"lacks the tensor {name}"):
        load_potential(folder)
    change_tensors(folder, **{name: torch.zeros(36), "surprise": torch.zeros(1)})
    with pytest.raises(ValueError, match="has the tensor surprise, unknown to potent"):
        load_potential(folder)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format_version": 2}, "not of format version 1, .*; update MolPool"),
        ({"format_version": None}, "not of format version 1"),
        ({"hello": 1}, "has the unknown key 'hello'; remove it"),
        ({"elements": None}, "lacks the key 'elements'"),
        ({"sha256": None}, "lacks the key 'sha256'"),
        ({"elements": ["H", "Xx"]}, "'Xx' is no chemical symbol"),
        ({"elements": ["H", 6]}, "'6' is no chemical symbol"),
        ({"elements": "HCO"}, "elements is 'HCO', which is of another type"),
        ({"network": [1]}, r"network is \[1\], which is of another type"),
        ({"heads": {"energy": 3}}, "head energy is 3, but must be a table"),
        ({"heads": {"spin": {}}}, "head 'spin' is unknown; choose of energy"),
        ({"total_charges": ["a"]}, r"total_charges is \['a'\], but must list integers"),
        ({"units": {"energy": "Ha"}}, r"states units .*Ha.*; allowed are .*eV"),
        ({"cutoff": 5.0}, "states cutoff 5.0, but its network has 4.0"),
        ({"n_parameters": 7}, r"states n_parameters 7, but its network has \d+"),
        ({"sha256": "0" * 64}, "but potential.json states 0000"),
        ({"name": 3}, "name is 3, which is of another type"),
    ],
)
def test_a_wrong_entry_of_the_json_is_named(folder, entries, message):
    change(folder, **entries)
    with pytest.raises(ValueError, match=message) as error:
        load_potential(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("width", 3, r"network painn: .*'width'"),
        ("cutoff_function", "none", r"cutoff.function[\s\S]*'none'"),
        ("n_features", -3, "n_features is -3, but must be positive"),
        ("n_features", "many", "network painn: "),
        ("cutoff", 0.0, "cutoff is 0.0, but must be positive"),
    ],
)
def test_a_wrong_argument_of_the_network_is_named(folder, argument, value, message):
    change(folder, network={**entry(folder, "network"), argument: value})
    with pytest.raises(ValueError, match=message):
        load_potential(folder)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("pooling", "max", "pooling 'max' is unknown; choose one of sum, mean"),
        ("activation", "relu", r"activation[\s\S]*'relu'"),
        ("shift", 1.0, r"head energy: .*'shift'"),
        ("reference_energies", {"C": 1.0}, r"head energy: .*keys \['C'\]"),
    ],
)
def test_a_wrong_argument_of_a_head_is_named(folder, argument, value, message):
    heads = entry(folder, "heads")
    change(folder, heads={"energy": {**heads["energy"], argument: value}})
    with pytest.raises(ValueError, match=message):
        load_potential(folder)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"", b"[1, 2]", b"null"])
def test_what_is_no_json_object_is_refused(folder, text):
    (folder / "potential.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"cannot be read as JSON|not of format ver"):
        load_potential(folder)


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(
        ValueError, match="there is no potential 'painn-gold': it is ne"
    ):
        load_potential("painn-gold")
    with pytest.raises(ValueError, match=r"nor a folder with a potential\.json"):
        load_potential(tmp_path)


def test_a_folder_may_be_moved_and_copied(folder, tmp_path):
    copy_folder(folder, tmp_path / "copy")
    shutil.move(tmp_path / "copy", tmp_path / "moved")
    assert find_folder(tmp_path / "moved") == tmp_path / "moved"
    energy = predict(load_potential(tmp_path / "moved"), ethanol(), dtype=torch.float32)
    expected = predict(load_potential(str(folder)), ethanol(), dtype=torch.float32)
    assert torch.equal(energy.energy, expected.energy)


def test_bundled_potentials_are_data_without_a_python_file():
    assert bundled_folder().is_dir()
    assert not list(bundled_folder().rglob("*.py"))
    for name in bundled_names():
        assert find_folder(name) == bundled_folder() / name


def test_a_folder_of_ones_own_may_be_called_like_a_bundled_potential(
    tmp_path, monkeypatch
):
    names = bundled_names()
    if not names:
        pytest.skip("no potential is bundled yet")
    monkeypatch.chdir(tmp_path)
    save_potential(small_potential(), Path(names[0]))
    assert find_folder(Path(names[0])) == Path(names[0])
    assert find_folder(names[0]) == bundled_folder() / names[0]
