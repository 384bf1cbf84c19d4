"""Attention pooling: the published classes, with their padding and without."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from molpool_calc.poolings import AttentionPooling
from molpool_calc.segments import segments_from_sizes

CPU = torch.device("cpu")
REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
NAMES = ["abp_schnet_random", "abp_dimenetpp_random"]
ACTIVATIONS = {"relu": "relu", "swish": "silu"}

published = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the reference folder is not here"
)


def weights_of(name: str, n_blocks: int) -> dict[str, torch.Tensor]:
    """The published tensors under the names of ours; q, k and v are one matrix here."""
    theirs = load_file(REFERENCE / f"{name}_weights.safetensors")
    names = {f"enc.{k}.mab": f"encoder.{k}" for k in range(n_blocks)}
    names |= {"dec.0.mab": "seeds", "dec.1.mab": "decoder"}
    ours = {"seeds.seeds": theirs["dec.0.S"][0]}
    for part in ("weight", "bias"):
        ours[f"last.{part}"] = theirs[f"dec.2.{part}"]
        for old, new in names.items():
            q, k, v, o = (theirs[f"{old}.fc_{x}.{part}"] for x in "qkvo")
            ours[f"{new}.block.mix.{part}"] = o
            if new == "seeds":
                ours[f"{new}.query.{part}"] = q
            fused = (k, v) if new == "seeds" else (q, k, v)
            ours[f"{new}.project.{part}"] = torch.cat(fused)
    return ours


def published_pooling(name: str, padding: int | None) -> AttentionPooling:
    stated = json.loads((REFERENCE / f"{name}.json").read_text())
    pooling = AttentionPooling(
        stated["dim_input"],
        stated["dim_output"],
        n_hidden=stated["dim_hidden"],
        n_heads=stated["num_heads"],
        n_seeds=stated["num_outputs"],
        n_encoder_blocks=stated["num_sabs"],
        activation=ACTIVATIONS[stated["rff_activation"]],
        legacy_padding=padding,
    )
    pooling.load_state_dict(weights_of(name, stated["num_sabs"]))
    assert sum(p.numel() for p in pooling.parameters()) == stated["n_params"]
    return pooling.double()


def error(pooling: AttentionPooling, name: str, key: str) -> float:
    with np.load(REFERENCE / f"{name}.npz") as arrays:
        features, expected = torch.tensor(arrays["X"]), arrays[key]
    segments = segments_from_sizes([9, 9], CPU)
    with torch.no_grad():
        pooled = pooling(features.flatten(0, 1), segments)
    return float(np.abs(pooled.numpy() - expected).max())


@published
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("padding", [9, 29])
def test_the_published_classes_are_reproduced_with_their_padding(name, padding):
    pooling = published_pooling(name, padding)
    assert error(pooling, name, f"pooled_pad{padding}") < 1e-12


@published
@pytest.mark.parametrize("name", NAMES)
def test_without_padding_the_published_classes_are_reproduced_as_they_are(name):
    pooling = published_pooling(name, None)
    assert error(pooling, name, "pooled_pad9") < 1e-12
    assert error(pooling, name, "pooled_pad29") > 1e-3


@published
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "tensor",
    ["encoder.0.project.weight", "encoder.1.block.mix.bias", "seeds.seeds"],
)
def test_one_number_changed_by_a_thousandth_is_noticed(name, tensor):
    pooling = published_pooling(name, 9)
    with torch.no_grad():
        pooling.state_dict()[tensor].view(-1)[5] += 1e-3
    assert error(pooling, name, "pooled_pad9") > 1e-9


def small(**options: object) -> AttentionPooling:
    torch.random.manual_seed(0)
    arguments = {"n_hidden": 8, "n_heads": 2, "n_seeds": 3, **options}
    return AttentionPooling(4, 6, **arguments).double()


def features(n_atoms: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n_atoms)
    return torch.randn(n_atoms, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("n_encoder_blocks", [1, 2, 3])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activation", ["silu", "relu", "shifted-softplus"])
def test_masks_make_larger_neighbors_in_the_batch_invisible(
    n_encoder_blocks, layer_norm, activation
):
    pooling = small(
        n_encoder_blocks=n_encoder_blocks, layer_norm=layer_norm, activation=activation
    )
    x = features(12)
    together = pooling(x, segments_from_sizes([3, 9], CPU))
    alone = pooling(x[:3], segments_from_sizes([3], CPU))
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-13)
    assert together.shape == (2, 6)


def test_what_stands_in_another_system_has_no_gradient():
    x = features(12).requires_grad_()
    pooled = small()(x, segments_from_sizes([3, 9], CPU))
    (gradient,) = torch.autograd.grad(pooled[0].sum(), x)
    assert gradient[:3].abs().min() > 0
    assert not gradient[3:].any()


def test_padding_of_different_lengths_gives_different_values():
    """The published behavior, and why it is not the default."""
    x, segments = features(3), segments_from_sizes([3], CPU)
    by_padding = [small(legacy_padding=n)(x, segments) for n in (3, 5, 9)]
    torch.testing.assert_close(by_padding[0], small()(x, segments))
    assert (by_padding[1] - by_padding[0]).abs().max() > 1e-3
    assert (by_padding[2] - by_padding[1]).abs().max() > 1e-3


def test_padding_gives_the_same_in_any_batch():
    x, pooling = features(12), small(legacy_padding=10)
    together = pooling(x, segments_from_sizes([3, 9], CPU))
    alone = pooling(x[3:], segments_from_sizes([9], CPU))
    torch.testing.assert_close(together[1:], alone)
    weights = pooling.weights(x, segments_from_sizes([3, 9], CPU))
    assert weights.shape == (12,)
    assert 0 < weights[:3].sum() < 1


def test_a_system_beyond_the_padding_is_refused():
    with pytest.raises(
        ValueError, match=r"a system of 9 atoms .* pads to 8; give a larger"
    ):
        small(legacy_padding=8)(features(12), segments_from_sizes([3, 9], CPU))


@pytest.mark.parametrize(
    ("arguments", "n_parameters"),
    [
        ({"n_in": 128, "n_hidden": 512, "n_seeds": 32}, 3_694_720),
        (
            {"n_in": 128, "n_hidden": 512, "n_seeds": 32, "n_encoder_blocks": 3},
            4_745_344,
        ),
        ({"n_in": 50, "n_hidden": 512, "n_seeds": 1}, 3_519_026),
    ],
)
def test_it_has_as_many_parameters_as_published(arguments, n_parameters):
    pooling = AttentionPooling(n_out=arguments["n_in"], n_heads=16, **arguments)
    assert sum(p.numel() for p in pooling.parameters()) == n_parameters
