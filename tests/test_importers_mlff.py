"""So3krates checkpoints of mlff: the published numbers, and what is refused."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from command_line import CommandLine
from safetensors.torch import load_file
from small_potentials import batch_of
from torch import Tensor

from molpool_calc.derivatives import evaluate
from molpool_calc.importers import import_mlff
from molpool_calc.importers.msgpack import read_msgpack
from molpool_calc.neighbors import complete_pairs
from molpool_calc.potential import NeuralPotential
from molpool_calc.storage import load_potential, save_potential
from molpool_calc.units import KCAL_PER_MOL

SHARED = Path(__file__).parents[2] / "shared"
NAME = "so3krates_mlff_ethanol_energyonly_demo"
RAW = SHARED / "weights" / "raw" / "mlff_so3krates_ethanol" / "checkpoint_E_34440"
MAX_ERROR = 1e-7  # eV and eV/Å; the original couples with float32 constants

needs_reference = pytest.mark.skipif(
    not RAW.is_file(), reason="the reference folder is not here"
)


def published() -> NeuralPotential:
    return import_mlff(RAW, unit="eV", elements=["H", "C", "O"]).double()


def deviations(potential: NeuralPotential) -> dict[str, float]:
    """From the original program, frame by frame and layer by layer."""
    with np.load(SHARED / "reference" / f"{NAME}.npz") as arrays:
        frames = dict(arrays)
    layers: list[tuple[Tensor, Tensor]] = []
    for interaction in potential.network.interactions:
        interaction.register_forward_hook(lambda *step: layers.append(step[-1]))
    batch = batch_of(*(Atoms(frames["numbers"], r) for r in frames["positions"]))
    wanted = frozenset({"energy", "forces"})
    found = evaluate(potential, batch, complete_pairs(batch), properties=wanted)
    pairs = {
        "energy": (found.energy, frames["energy_eV_f64"]),
        "forces": (found.forces, frames["forces_eV_f64"].reshape(-1, 3)),
    }
    for layer, (x, chi) in enumerate(layers):
        pairs[f"x {layer}"] = (x[:9], frames[f"debug_frame0_layers_{layer}_x"])
        pairs[f"chi {layer}"] = (chi[:9], frames[f"debug_frame0_layers_{layer}_chi"])
    return {
        name: float(np.abs(ours.detach().numpy() - theirs).max())
        for name, (ours, theirs) in pairs.items()
    }


@needs_reference
def test_energies_forces_and_layers_are_those_of_mlff():
    found = deviations(published())
    assert set(found) == {"energy", "forces", "x 0", "x 1", "chi 0", "chi 1"}
    assert max(found.values()) < MAX_ERROR


@needs_reference
@pytest.mark.parametrize(
    "name",
    [
        "network.embedding.weight",
        "network.filters.degree_second",
        "network.attention.coordinates",
        "heads.energy.before.first.weight",
    ],
)
def test_weights_changed_by_a_thousandth_are_noticed(name):
    potential = published()
    with torch.no_grad():
        potential.state_dict()[name].mul_(1.001)
    assert deviations(potential)["energy"] > MAX_ERROR


@needs_reference
def test_every_number_of_the_plain_copy_is_in_the_potential():
    copy = load_file(SHARED / "weights" / f"{NAME}.safetensors")
    state = import_mlff(RAW, unit="eV").state_dict()
    assert all(value.dtype == torch.float32 for value in state.values())
    ours, theirs = (
        torch.cat([value.flatten() for value in tensors.values()]).sort().values
        for tensors in (state, copy)
    )
    assert torch.equal(ours, theirs)


@needs_reference
def test_the_folder_will_do_and_energies_are_converted():
    potential = import_mlff(RAW.parent, unit="kcal/mol", elements=["H", "O"])
    head = potential.spec.heads["energy"]
    assert head["scale"] == KCAL_PER_MOL
    assert head["reference_energies"][8] == pytest.approx(-468.3163858 * KCAL_PER_MOL)
    assert potential.spec.name == RAW.parent.name
    assert potential.spec.elements == (1, 8)


@needs_reference
def test_a_saved_import_gives_the_same_numbers(tmp_path):
    save_potential(published().float(), tmp_path)
    assert deviations(load_potential(tmp_path).double())["energy"] < MAX_ERROR


@needs_reference
def test_the_command_writes_the_folder(tmp_path, capsys):
    out = tmp_path / "mine"
    options = ["--unit", "eV", "--elements", "H,C,O", "--out", str(out)]
    result = CommandLine(capsys)("import", "mlff", RAW, *options)
    assert result.code == 0, result
    assert load_potential(out).spec.symbols == ["H", "C", "O"]


def copied(folder: Path, **changes: object) -> Path:
    """The published files, some options changed wherever they stand."""
    for path in (RAW, RAW.parent / "hyperparameters.json", RAW.parent / "scales.json"):
        shutil.copyfile(path, folder / path.name)
    text = (folder / "hyperparameters.json").read_text()

    def changed(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {key: changes.get(key, value) for key, value in pairs}

    content = json.loads(text, object_pairs_hook=changed)
    (folder / "hyperparameters.json").write_text(json.dumps(content))
    return folder / RAW.name


@needs_reference
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_normalization": True}, "option layer_normalization is True"),
        ({"non_local_sphc": True}, "option non_local_sphc is True"),
        ({"per_atom_scale": [1.0]}, "option per_atom_scale is"),
        ({"radial_basis_function": "new"}, "radial_basis_function is 'new'; read are"),
        ({"r_cut": -5}, "r_cut is -5, but must be a positive number"),
        (
            {"n_heads": 4},
            r"has shape \[2, 16, 16\], but the model asks for \[4, 8, 8\]",
        ),
        ({"num_embeddings": 50}, r"has shape \[100, 32\], but .* \[50, 32\]"),
        ({"n_rbf": 10**9}, "n_rbf is 1000000000, but must be a number of things"),
        ({"layers": []}, "has no layers"),
        ({"observables": []}, "observables is not one energy"),
        ({"stack_net": 3}, "has no table stack_net"),
    ],
)
def test_other_models_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"cannot be imported: .*{message}"):
        import_mlff(copied(tmp_path, **change), unit="eV")


@needs_reference
def test_left_over_tensors_are_named(tmp_path):
    layers = json.loads((RAW.parent / "hyperparameters.json").read_text())
    path = copied(tmp_path, layers=layers["stack_net"]["layers"][:1])
    with pytest.raises(ValueError, match=r"layers_1\.\S+ is left over"):
        import_mlff(path, unit="eV")


@needs_reference
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": None}, "and none was given; give one of eV"),
        ({"unit": "erg"}, "'erg' is not known"),
        ({"unit": "eV", "elements": []}, r"elements \(none\) were asked for"),
        ({"unit": "eV", "elements": ["Xx"]}, "'Xx' is no chemical symbol"),
        ({"unit": "eV", "elements": ["Fm"]}, "elements Fm were asked for"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        import_mlff(RAW, **arguments)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*nothing"):
        import_mlff(tmp_path / "nothing", unit="eV")
    with pytest.raises(ValueError, match="has 0 checkpoints"):
        import_mlff(tmp_path, unit="eV")


@needs_reference
def test_a_missing_description_is_named(tmp_path):
    path = copied(tmp_path)
    (tmp_path / "scales.json").unlink()
    with pytest.raises(ValueError, match=r"scales\.json cannot be read as JSON"):
        import_mlff(path, unit="eV")


@needs_reference
def test_a_truncated_checkpoint_is_refused_wherever_it_ends(tmp_path):
    path, content = copied(tmp_path), RAW.read_bytes()
    for size in [0, 1, 5, 40, *range(1000, len(content), 20011), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"truncated|left over"):
            import_mlff(path, unit="eV")


def ext(code: int, content: bytes) -> bytes:
    return b"\xc9" + struct.pack(">Ib", len(content), code) + content


def array(shape: bytes, name: bytes, content: bytes) -> bytes:
    text = bytes([0xA0 + len(name)]) + name
    return ext(1, b"\x93" + shape + text + b"\xc4" + bytes([len(content)]) + content)


def test_all_kinds_of_values_are_read():
    content = (
        b"\xdc\x00\x0e"
        b"\xc0\xc2\xc3\x05\xff\xcc\xc8\xd1\xff\x00\xce\x00\x01\x00\x00"
        b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xca\x3f\xc0\x00\x00"
        b"\xa2\xc3\xa9\xc4\x01\x07\x91\x01\x81\xa1k\x02"
    )
    assert read_msgpack(content) == [
        *(None, False, True, 5, -1, 200, -256, 65536, 1.5, 1.5, "é", b"\x07"),
        [1],
        {"k": 2},
    ]
    found = read_msgpack(array(b"\x92\x01\x02", b"float32", struct.pack("<2f", 1, -2)))
    assert isinstance(found, Tensor)
    assert found.tolist() == [[1.0, -2.0]]
    assert read_msgpack(array(b"\x91\x00", b"int32", b"")).shape == (0,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (b"\xc1", "unknown code 193"),
        (b"\x01\x01", "1 bytes are left over"),
        (b"\x91" * 40 + b"\x01", "nested deeper than 32"),
        (b"\xdd\xff\xff\xff\xff\x01", "4294967295 values are announced"),
        (b"\xdf\xff\xff\xff\xff\x01", "values are announced"),
        (b"\xc6\xff\xff\xff\xff\x01", "ends within a value of 4294967295 bytes"),
        (b"\x81\x01\x01", "is no text or stands twice"),
        (b"\x82\xa1k\x01\xa1k\x01", "the key 'k' is no text or stands twice"),
        (b"\xa1\xff", "is no UTF-8"),
        (ext(2, b"\x93\x00\x00\x00"), "object of the extension 2"),
        (b"\xd6\xff\x00\x00\x00\x00", "object of the extension -1"),
        (ext(1, b"\x93\x90\xa5int32"), "truncated"),
        (ext(1, b"\x01\x01"), "array has bytes left over"),
        (ext(1, b"\x01"), "array is not a list of shape, type and bytes"),
        (array(b"\x90", b"object", b""), "array has the type 'object'"),
        (array(b"\x91\x02", b"int32", b"\0" * 4), r"shape \[2\] and type int32 has 4"),
        (array(b"\x91\xff", b"int32", b""), "does not list whole numbers"),
        (array(b"\x91\xc3", b"int32", b"\0" * 4), "does not list whole numbers"),
        (array(b"\x99" + b"\x01" * 9, b"uint8", b"\0"), "does not list whole numbers"),
    ],
)
def test_damaged_or_foreign_content_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read_msgpack(content)
