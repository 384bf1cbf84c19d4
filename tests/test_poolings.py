"""Poolings: their laws, their claims and their derivatives, whatever the systems."""

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molpool_calc.heads import make_pooling
from molpool_calc.interfaces import Pooling, WeightedPooling
from molpool_calc.poolings import POOLINGS
from molpool_calc.segments import (
    segment_count,
    segment_sum,
    segments_from_sizes,
)

CPU = torch.device("cpu")
FEATURES = torch.tensor(
    [[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0], [16.0, 160.0], [32.0, 320.0]]
)


WIDTH = 4
SMALL = {"attention": {"n_hidden": 8, "n_heads": 2, "n_seeds": 3}}
WEIGHTED = ("weighted-average", "orbital-weighted-average", "attention")
KINKED = [
    ("weighted-average", {"activation": "relu"}),
    ("attention", {**SMALL["attention"], "activation": "relu"}),
]


def made(name: str, **options: object):
    """A pooling in float64, its weights and biases drawn with a seed."""
    torch.random.manual_seed(3)
    arguments = {**SMALL.get(name, {}), **options}
    pooling = POOLINGS[name](WIDTH, WIDTH, **arguments).double()
    for parameter in pooling.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return pooling


def features(n_atoms: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_atoms, WIDTH, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sum", [[3.0, 30.0], [4.0, 40.0], [0.0, 0.0], [56.0, 560.0]]),
        ("mean", [[1.5, 15.0], [4.0, 40.0], [0.0, 0.0], [56 / 3, 560 / 3]]),
    ],
)
def test_the_pooled_value_of_each_system(name, expected):
    """The third system has no atoms."""
    pooled = POOLINGS[name](2, 2)(FEATURES, segments_from_sizes([2, 1, 0, 3], CPU))
    torch.testing.assert_close(pooled, torch.tensor(expected))


@pytest.mark.parametrize("sizes", [[2, 4], [3, 3]])
def test_the_values_led_by_the_largest_are_those_of_their_formulas(sizes):
    segments = segments_from_sizes(sizes, CPU)
    x = features(6)
    parts = x.split(sizes)
    soft = [(part * part.exp()).sum(0) / part.exp().sum(0) for part in parts]
    torch.testing.assert_close(made("softmax")(x, segments), torch.stack(soft))
    smooth_max = [(4.0 * part).exp().sum(0).log() / 4.0 for part in parts]
    pooling = made("log-sum-exp", sharpness=4.0)
    torch.testing.assert_close(pooling(x, segments), torch.stack(smooth_max))


@pytest.mark.parametrize("name", ["softmax", "log-sum-exp"])
@pytest.mark.parametrize("sizes", [[2, 4], [6]])
def test_large_features_do_not_overflow(name, sizes):
    """Far apart, both give the maximum."""
    x = 1e4 * torch.arange(12.0, dtype=torch.float64).view(6, 2).repeat(1, 2) - 3e4
    largest = torch.stack([part.amax(0) for part in x.split(sizes)])
    pooled = made(name)(x, segments_from_sizes(sizes, CPU))
    torch.testing.assert_close(pooled, largest)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_keep_the_protocol(name):
    pooling = made(name)
    assert isinstance(pooling, Pooling)
    assert isinstance(pooling, WeightedPooling) == (name in WEIGHTED)
    assert pooling.extensive == (name == "sum")
    assert pooling.smooth
    assert pooling.learned == bool(list(pooling.parameters())) == (name in WEIGHTED)


@pytest.mark.parametrize("name", POOLINGS)
def test_the_claim_of_being_extensive_is_true(name):
    """Two systems taken as one have the sum of the pooled values, or have not."""
    pooling = made(name)
    x = features(6)
    parts = pooling(x, segments_from_sizes([2, 4], CPU)).sum(0)
    whole = pooling(x, segments_from_sizes([6], CPU))[0]
    assert torch.allclose(parts, whole) == pooling.extensive


@pytest.mark.parametrize("name", [n for n in POOLINGS if n not in {"sum"}])
def test_a_system_taken_twice_keeps_its_pooled_value(name):
    """All but the sum are means; the smooth maximum grows by ln 2."""
    x = features(5)
    once = made(name)(x, segments_from_sizes([5], CPU))
    twice = made(name)(torch.cat((x, x)), segments_from_sizes([10], CPU))
    added = log(2.0) if name == "log-sum-exp" else 0.0
    torch.testing.assert_close(twice, once + added)


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("sizes", [[1, 4, 2], [3, 3], [1, 1], [7]])
def test_a_batch_gives_what_each_system_gives_alone(name, sizes):
    pooling = made(name)
    x = features(sum(sizes))
    together = pooling(x, segments_from_sizes(sizes, CPU))
    alone = [pooling(p, segments_from_sizes([len(p)], CPU)) for p in x.split(sizes)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", POOLINGS)
def test_atoms_of_the_systems_may_stand_in_any_order(name):
    segments = segments_from_sizes([2, 4], CPU)
    x, order = features(6), torch.tensor([5, 0, 3, 1, 2, 4])
    mixed = type(segments)(
        index=segments.index[order], slot=segments.slot[order], n_segments=2, max_size=4
    )
    pooling = made(name)
    torch.testing.assert_close(pooling(x[order], mixed), pooling(x, segments))
    single = segments_from_sizes([6], CPU)
    torch.testing.assert_close(pooling(x[order], single), pooling(x, single))
    if name in WEIGHTED:
        weights = pooling.weights(x, segments)
        torch.testing.assert_close(pooling.weights(x[order], mixed), weights[order])


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("sizes", [[1, 4, 2], [3, 3], [7]])
def test_weights_are_positive_and_sum_to_one_over_each_system(name, sizes):
    segments = segments_from_sizes(sizes, CPU)
    weights = made(name).weights(features(sum(sizes)), segments)
    assert (weights > 0).all()
    total = segment_sum(weights, segments.index, segments.n_segments)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("sizes", [[2, 4], [3, 3]])
def test_first_and_second_derivatives_of_poolings_are_exact(name, sizes):
    pooling = made(name).requires_grad_(requires_grad=False)
    x = features(sum(sizes)).requires_grad_()
    segments = segments_from_sizes(sizes, CPU)
    assert torch.autograd.gradcheck(lambda x: pooling(x, segments), x)
    assert torch.autograd.gradgradcheck(lambda x: pooling(x, segments), x)


def largest_turn(pooling, n_steps: int) -> float:
    """Largest change of the slope between two neighboring steps along a line."""
    start, direction = features(5), features(5, seed=1)
    way = torch.linspace(0.0, 2.0, n_steps + 1, dtype=torch.float64).requires_grad_()
    rows = start + way[:, None, None] * direction
    segments = segments_from_sizes([5] * len(way), CPU)
    pooled = pooling(rows.reshape(-1, WIDTH), segments)
    (slope,) = torch.autograd.grad(pooled.sum(), way)
    return float(slope.diff().abs().max())


def shrinking(pooling) -> float:
    """How much smaller the change of the slope is for half the step.

    Two where the second derivative is bounded, one where the slope jumps.
    """
    return largest_turn(pooling, 4000) / largest_turn(pooling, 8000)


@pytest.mark.parametrize("name", [n for n in POOLINGS if n not in {"sum", "mean"}])
def test_the_claim_of_being_smooth_is_true(name):
    assert shrinking(made(name)) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("name", "options"), KINKED)
def test_a_kinked_activation_is_rightly_not_claimed_to_be_smooth(name, options):
    pooling = made(name, **options)
    assert not pooling.smooth
    assert shrinking(pooling) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sum", {"n_out": 3}, "n_in is 2 and n_out is 3; give equal widths"),
        ("mean", {"n_out": 3}, "mean pooling has no weights"),
        ("softmax", {"n_out": 3}, "softmax pooling has no weights"),
        ("log-sum-exp", {"n_out": 3}, "log-sum-exp pooling has no weights"),
        ("log-sum-exp", {"sharpness": 0.0}, "sharpness is 0.0, but must be positive"),
        ("attention", {"n_heads": 3}, "n_hidden is 128, which 3 heads cannot share"),
        ("attention", {"n_seeds": 0}, "n_seeds is 0, but must be a positive integer"),
        ("attention", {"activation": "gelu"}, "activation 'gelu' is unknown"),
        ("attention", {"legacy_padding": 0}, "legacy_padding is 0, but must be"),
        ("weighted-average", {"n_layers": 0}, "n_layers is 0, but must be a positive"),
        ("weighted-average", {"activation": "x"}, "choose one of silu, shifted-soft"),
    ],
)
def test_wrong_arguments_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        POOLINGS[name](**{"n_in": 2, "n_out": 2, **options})


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match=r"pooling 'max' is unknown; .* of sum, mean,"):
        make_pooling("max", 1, 1)


@given(st.lists(st.integers(0, 5), max_size=6))
@settings(max_examples=40, deadline=None)
def test_segments_number_their_atoms(sizes):
    segments = segments_from_sizes(sizes, CPU)
    assert segments.n_segments == len(sizes)
    assert segments.max_size == max(sizes, default=0)
    expected = [(k, slot) for k, size in enumerate(sizes) for slot in range(size)]
    pairs = zip(segments.index.tolist(), segments.slot.tolist(), strict=True)
    assert list(pairs) == expected
    assert segment_count(segments, torch.zeros(1)).tolist() == sizes


def test_a_segment_sum_keeps_the_other_axes():
    values = torch.arange(24.0).view(4, 3, 2)
    result = segment_sum(values, torch.tensor([1, 0, 1, 1]), 3)
    torch.testing.assert_close(result[0], values[1])
    torch.testing.assert_close(result[1], values[0] + values[2] + values[3])
    assert not result[2].any()
