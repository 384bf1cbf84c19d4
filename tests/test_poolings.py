"""Poolings: sums and means over atoms, whatever the order of the systems."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molpool_calc.heads import make_pooling
from molpool_calc.interfaces import Pooling
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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sum", [[3.0, 30.0], [4.0, 40.0], [0.0, 0.0], [56.0, 560.0]]),
        ("mean", [[1.5, 15.0], [4.0, 40.0], [0.0, 0.0], [56 / 3, 560 / 3]]),
    ],
)
def test_the_pooled_value_of_each_system(name, expected):
    """The third system has no atoms."""
    pooled = make_pooling(name)(FEATURES, segments_from_sizes([2, 1, 0, 3], CPU))
    torch.testing.assert_close(pooled, torch.tensor(expected))


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_keep_the_protocol(name):
    pooling = make_pooling(name)
    assert isinstance(pooling, Pooling)
    assert pooling.extensive == (name == "sum")
    assert pooling.smooth


@pytest.mark.parametrize("name", POOLINGS)
def test_the_claim_of_being_extensive_is_true(name):
    """Two systems taken as one have the sum of the pooled values, or have not."""
    pooling = make_pooling(name)
    parts = pooling(FEATURES, segments_from_sizes([2, 4], CPU)).sum(0)
    whole = pooling(FEATURES, segments_from_sizes([6], CPU))[0]
    assert torch.allclose(parts, whole) == pooling.extensive


@pytest.mark.parametrize("name", POOLINGS)
def test_atoms_of_the_systems_may_stand_in_any_order(name):
    segments = segments_from_sizes([2, 4], CPU)
    order = torch.tensor([5, 0, 3, 1, 2, 4])
    mixed = type(segments)(
        index=segments.index[order], slot=segments.slot[order], n_segments=2, max_size=4
    )
    torch.testing.assert_close(
        make_pooling(name)(FEATURES[order], mixed),
        make_pooling(name)(FEATURES, segments),
    )


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_of_poolings_are_exact(name):
    features = FEATURES.double().requires_grad_()
    segments = segments_from_sizes([2, 0, 4], CPU)
    assert torch.autograd.gradcheck(
        lambda x: make_pooling(name)(x.square(), segments), features
    )


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match=r"pooling 'max' is unknown; .* of sum, mean$"):
        make_pooling("max")


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
