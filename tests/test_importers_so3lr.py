"""The importer of SO3LR and its reader of pickled NumPy arrays.

Every hostile pickle here tries to create a file; none of it runs.
"""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_importers_pickle import HOSTILE, Malice, named, stacked, text, touching

from molpool_calc.importers import import_so3lr
from molpool_calc.importers.numpy_pickle import MAX_FILE_BYTES, read_numpy_pickle
from molpool_calc.importers.so3lr_tensors import so3lr_state
from molpool_calc.interfaces import PairTerm
from molpool_calc.potential import count_parameters

F, LAYERS = 128, 3
N_PUBLISHED, N_PADDED = 530_238, 19 * 66  # rows of elements beyond the file's 100


def tree() -> dict[str, object]:
    """Tables and shapes of the published file, with small random numbers."""
    random = np.random.default_rng(5)

    def array(*shape: int) -> np.ndarray:
        return random.normal(0.0, 0.1, shape).astype(np.float32)

    def dense(n_in: int, n_out: int) -> dict[str, np.ndarray]:
        return {"kernel": array(n_in, n_out), "bias": array(n_out)}

    def embed(*shape: int) -> dict[str, np.ndarray]:
        return {"embedding": array(*shape)}

    def electrons() -> dict[str, object]:
        residual = {f"layers_{n}": {"kernel": array(F, F)} for n in (0, 1)}
        rows = {f"Embed_{n}": embed(m, F) for n, m in enumerate((119, 2, 2))}
        return {"ChargeSpinEmbedSparse_0": {**rows, "Residual_0": residual}}

    def layer() -> dict[str, object]:
        norm = {"scale": array(F), "bias": array(F)}
        filters = {}
        for n in (1, 2):
            filters[f"radial_filter{n}_layer_1"] = dense(32, F)
            filters[f"radial_filter{n}_layer_2"] = dense(F, F)
            filters[f"spherical_filter{n}_layer_1"] = dense(4, F // 4)
            filters[f"spherical_filter{n}_layer_2"] = dense(F // 4, F)
        heads = {f"W{k}": array(4, 32, 32) for k in ("q1", "k1", "v1", "q2", "k2")}
        return {
            "attention_block": {**filters, **heads},
            "exchange_block": {"mlp_layer_2": dense(F + 4, F + 4)},
            "layer_normalization_1": norm,
            "layer_normalization_2": dict(norm),
            "res_mlp_1_layer_1": dense(F, F),
            "res_mlp_1_layer_2": dense(F, F),
        }

    repulsion = ("a1", "a2", "a3", "a4", "c1", "c2", "c3", "c4", "d", "p")
    energy = {
        "atomic_scales": array(119),
        "energy_offset": array(119),
        "energy_dense_regression": dense(F, F),
        "energy_dense_final": dense(F, 1),
        "zbl_repulsion": {name: array(1) for name in repulsion},
        "electrostatic_energy": {
            "partial_charges": {
                "Embed_0": embed(100, 1),
                "charge_dense_regression_vec": dense(F, F),
                "charge_dense_final_vec": dense(F, 1),
            }
        },
    }
    hirshfeld = {
        "Embed_0": embed(100, 1),
        "Embed_1": embed(100, 64),
        "hirshfeld_ratios_dense_regression": dense(F, 64),
        "hirshfeld_ratios_dense_final": dense(64, 64),
    }
    return {
        "params": {
            "feature_embeddings_0": {"Embed_0": embed(119, F)},
            "feature_embeddings_1": electrons(),
            "feature_embeddings_2": electrons(),
            **{f"layers_{n}": layer() for n in range(LAYERS)},
            "observables_0": energy,
            "observables_2": hirshfeld,
        }
    }


def saved(content: object, folder: Path) -> Path:
    path = folder / "params.pkl"
    path.write_bytes(pickle.dumps(content, 4))
    return path


def test_a_file_like_the_published_one_becomes_a_potential(tmp_path: Path) -> None:
    content = tree()
    potential = import_so3lr(saved(content, tmp_path), name="mine")
    spec = potential.spec
    assert spec.name == "mine"
    assert spec.symbols == ["H", "C", "N", "O", "F", "P", "S", "Cl"]
    assert spec.total_charges == (-1, 0, 1)
    assert spec.num_unpaired == (0, 1)
    assert spec.level_of_theory == "PBE0+MBD"
    assert spec.license == "MIT"
    assert "only differences of energies at fixed composition" in spec.description
    assert "here none: all pairs count" in spec.description
    assert potential.cutoff == float("inf")
    assert count_parameters(potential) == N_PUBLISHED + N_PADDED
    assert all(isinstance(term, PairTerm) for term in potential.terms.values())
    network = content["params"]
    assert isinstance(network, dict)
    block = network["layers_1"]["attention_block"]
    attention = potential.network.layers[1].attention
    # theirs: q_o = Σ_i W_oi x_i
    np.testing.assert_array_equal(
        attention.queries.detach(), block["Wq1"].transpose(0, 2, 1)
    )
    kernel = block["radial_filter2_layer_1"]["kernel"]
    first = potential.network.radial.first.weight.detach()
    np.testing.assert_array_equal(first[3 * F : 4 * F], kernel.T)


def test_a_long_range_cutoff_is_part_of_the_potential(tmp_path: Path) -> None:
    path = saved(tree(), tmp_path)
    potential = import_so3lr(path, long_range_cutoff=10.0, damping=1.5)
    assert potential.cutoff == 10.0
    assert potential.spec.terms["dispersion"] == {
        "cutoff": 10.0,
        "switching_width": 1.5,
    }
    assert "here 10 Å" in potential.spec.description
    with pytest.raises(ValueError, match=r"cutoff is 1\.0 Å; give a larger cutoff"):
        import_so3lr(path, long_range_cutoff=1.0)
    with pytest.raises(ValueError, match="must be positive and finite"):
        import_so3lr(path, long_range_cutoff=-3.0)


Change = Callable[[dict], object]
WRONG: list[tuple[str, Change]] = [
    (
        "params.feature_embeddings_0 is no table",
        lambda p: p.update(feature_embeddings_0=[1]),
    ),
    (
        "params.feature_embeddings_0.Embed_0.embedding is missing",
        lambda p: p.pop("feature_embeddings_0"),
    ),
    (
        "params.layers_3.Wq1 is left over",
        lambda p: p.update(layers_3={"Wq1": np.zeros(3)}),
    ),
    (
        r"Embed_0.embedding has shape \[17, 128\], but the published one has "
        r"\[119, 128\]",
        lambda p: p["feature_embeddings_0"].update(
            Embed_0={"embedding": np.zeros((17, F), np.float32)}
        ),
    ),
    (
        r"Embed_1.embedding has shape \[50, 64\], but the published one has \[100",
        lambda p: p["observables_2"].update(
            Embed_1={"embedding": np.zeros((50, 64), np.float32)}
        ),
    ),
    (
        "atomic_scales does not hold finite real numbers",
        lambda p: p["observables_0"].update(
            atomic_scales=np.full(119, np.nan, np.float32)
        ),
    ),
    (
        "energy_offset does not hold finite real numbers",
        lambda p: p["observables_0"].update(energy_offset=np.zeros(119, np.int64)),
    ),
    (
        "type that is not read; only little-endian f8",
        lambda p: p["observables_0"].update(atomic_scales=np.zeros(119, ">f4")),
    ),
    (
        "type that is not read; only little-endian f8",
        lambda p: p["observables_0"].update(atomic_scales=np.zeros(119, np.complex64)),
    ),
    (
        "or is in column order",
        lambda p: p["feature_embeddings_0"].update(
            Embed_0={"embedding": np.zeros((119, F), np.float32, order="F")}
        ),
    ),
    ("has a key that is no text", lambda p: p.update({3: np.zeros(3)})),
]


@pytest.mark.parametrize(("message", "change"), WRONG)
def test_a_file_that_is_not_that_model_is_refused(
    message: str, change: Change, tmp_path: Path
) -> None:
    content = tree()
    change(content["params"])
    path = saved(content, tmp_path)
    with pytest.raises(ValueError, match=message) as refusal:
        import_so3lr(path)
    assert str(refusal.value).startswith(f"{path} was refused: ")
    assert "\n" not in str(refusal.value)


def test_files_that_are_no_pickle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        import_so3lr(tmp_path / "nothing.pkl")
    path = tmp_path / "params.pkl"
    path.write_bytes(b"no pickle")
    with pytest.raises(ValueError, match="was refused: its pickle"):
        import_so3lr(path)
    path.write_bytes(bytes(MAX_FILE_BYTES + 1))
    with pytest.raises(ValueError, match=f"is larger than {MAX_FILE_BYTES} bytes"):
        import_so3lr(path)


def test_arrays_are_read_bit_for_bit(tmp_path: Path) -> None:
    content = {
        "a": {"b": np.arange(6, dtype=np.float64).reshape(2, 3) / 7},
        "c": np.float32([[[1.5]], [[-2.25]]]),
        "d": np.zeros((0, 4), np.float32),
        "e": np.arange(4),
    }
    tensors = read_numpy_pickle(saved(content, tmp_path)).tensors
    assert list(tensors) == ["a.b", "c", "d", "e"]
    for name, value in (("a.b", content["a"]["b"]), *list(content.items())[1:]):
        np.testing.assert_array_equal(tensors[name].numpy(), value)
        assert tensors[name].numpy().dtype == value.dtype


@pytest.mark.parametrize(("module", "name"), HOSTILE)
@pytest.mark.parametrize("opcode", [named, stacked])
def test_a_hostile_global_is_refused_by_name_and_not_run(
    module: str, name: str, opcode, tmp_path: Path
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "params.pkl"
    call = opcode(module, name) + b"(" + text(touching(marker)) + b"tR"
    path.write_bytes(b"\x80\x04}" + text("params") + call + b"s.")
    with pytest.raises(ValueError, match=f"the global {module}.{name}, which"):
        import_so3lr(path)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__])
def test_a_call_among_good_arrays_is_refused_in_every_protocol(
    function, protocol: int, tmp_path: Path
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "params.pkl"
    evil = {"params": {"a": np.zeros(3), "b": Malice(function, touching(marker))}}
    path.write_bytes(pickle.dumps(evil, protocol))
    with pytest.raises(ValueError, match=r"it names the global|uses the opcode"):
        import_so3lr(path)
    assert not marker.exists()


RECONSTRUCT = stacked("numpy._core.multiarray", "_reconstruct")
ARRAY, DTYPE = stacked("numpy", "ndarray"), stacked("numpy", "dtype")
EMPTY = RECONSTRUCT + ARRAY + b"K\x00\x85C\x01b\x87R"
FLOAT = (
    DTYPE
    + text("f4")
    + b"\x89\x88\x87R(K\x03"
    + text("<")
    + (b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
)


def state(shape: bytes, dtype: bytes, raw: bytes) -> bytes:
    return b"(K\x01" + shape + dtype + b"\x89C" + bytes([len(raw)]) + raw + b"tb"


GOOD = EMPTY + state(b"K\x02\x85", FLOAT, bytes(8))


def one_array(array: bytes) -> bytes:
    return b"\x80\x04}" + text("a") + array + b"s."


def test_such_an_array_is_read(tmp_path: Path) -> None:
    path = tmp_path / "params.pkl"
    path.write_bytes(one_array(GOOD))
    assert pickle.loads(path.read_bytes())["a"].shape == (2,)
    assert read_numpy_pickle(path).tensors["a"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("message", "array"),
    [
        ("does not fit its 8 bytes", EMPTY + state(b"K\x03\x85", FLOAT, bytes(8))),
        (
            "does not fit its 0 bytes",
            EMPTY + state(b"J\xff\xff\xff\x7f\x85", FLOAT, b""),
        ),
        ("impossible shape", EMPTY + state(b"J\xff\xff\xff\xff\x85", FLOAT, bytes(8))),
        ("impossible shape", EMPTY + state(b"\x88\x85", FLOAT, bytes(4))),
        (
            "impossible shape",
            EMPTY + state(b"(" + b"K\x01" * 9 + b"t", FLOAT, bytes(4)),
        ),
        ("described in an unknown way", EMPTY),
        (
            "described in an unknown way",
            EMPTY
            + state(b"K\x02\x85", EMPTY, bytes(8))[:0]
            + b"(K\x02K\x02\x85"
            + FLOAT
            + b"\x89C\x00tb",
        ),
        ("type that is not read", EMPTY + state(b"K\x02\x85", EMPTY, bytes(8))),
        ("makes an array in an unknown way", RECONSTRUCT + ARRAY + b"\x85R"),
        (
            "makes an array in an unknown way",
            RECONSTRUCT + DTYPE + b"K\x00\x85C\x01b\x87R",
        ),
        ("sets a state that is a dict", EMPTY + b"}b"),
        ("sets the state of a Record", GOOD + b"(tb"),
        ("the global numpy.ndarray, which", ARRAY + b")R"),
        ("calls a Record", EMPTY + b")R"),
        ("is no table of arrays", b"K\x01"),
        ("is no table of arrays", ARRAY),
        ("refers to 'x', which is not in it", text("x") + b"Q"),
    ],
)
def test_an_array_that_does_not_add_up_is_refused(
    message: str, array: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "params.pkl"
    path.write_bytes(one_array(array))
    with pytest.raises(ValueError, match=message):
        read_numpy_pickle(path)


def test_every_tensor_is_needed_once() -> None:
    with pytest.raises(
        ValueError, match=r"feature_embeddings_0\.Embed_0\.embedding is"
    ):
        so3lr_state({})
