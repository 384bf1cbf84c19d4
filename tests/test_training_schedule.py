"""Learning rates at the steps where they are known."""

from dataclasses import replace

import pytest

from molpool_calc.training.recipe import TrainingSection
from molpool_calc.training.schedule import learning_rate


def section(**options: object) -> TrainingSection:
    return TrainingSection(
        learning_rate=1e-3, minimum_learning_rate=1e-5, warmup_steps=10, **options
    )


def rate(step: int, options: TrainingSection, factor: float = 1.0) -> float:
    return learning_rate(options, step, last_step=110, rate_factor=factor)


def test_the_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    cosine = section(schedule="cosine")
    assert rate(0, cosine) == pytest.approx(1e-4)
    assert rate(9, cosine) == pytest.approx(1e-3)
    assert rate(10, cosine) == pytest.approx(1e-3)
    assert rate(60, cosine) == pytest.approx((1e-3 + 1e-5) / 2)  # half way
    assert rate(35, cosine) == pytest.approx(1e-5 + 0.99e-3 * 0.8535534)  # cos π/4
    assert rate(110, cosine) == pytest.approx(1e-5)
    assert rate(500, cosine) == pytest.approx(1e-5)


def test_the_plateau_schedule_multiplies_down_to_the_minimum() -> None:
    plateau = section(schedule="plateau")
    assert rate(50, plateau) == pytest.approx(1e-3)
    assert rate(50, plateau, 0.25) == pytest.approx(2.5e-4)
    assert rate(50, plateau, 1e-9) == pytest.approx(1e-5)


def test_without_warm_up_the_first_rate_is_the_highest() -> None:
    assert rate(0, replace(section(), warmup_steps=0)) == pytest.approx(1e-3)
