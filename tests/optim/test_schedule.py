from __future__ import annotations

import itertools
import math

import pytest
from pydantic import ValidationError

from bnnapps.optim import lr_factor
from bnnapps.recipe.schema import ScheduleConfig


def factors(steps: int, **settings: object) -> list[float]:
    config = ScheduleConfig.model_validate(settings)
    return [lr_factor((step + 1) / steps, config) for step in range(steps)]


def test_linear_rises_in_the_warm_up_and_reaches_zero_at_the_last_step() -> None:
    assert factors(10, name="linear", warmup=0.2) == pytest.approx(
        [0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]
    )
    assert factors(4, name="linear", warmup=0.0) == pytest.approx([0.75, 0.5, 0.25, 0.0])
    assert factors(4, name="linear", warmup=0.0)[-1] == 0.0


def test_cosine_after_a_warm_up() -> None:
    found = factors(10, name="cosine", warmup=0.2)
    assert found[:2] == pytest.approx([0.5, 1.0])
    assert found[2:] == pytest.approx([(1 + math.cos(math.pi * k / 8)) / 2 for k in range(1, 9)])
    assert found[-1] == pytest.approx(0.0, abs=1e-12)


def test_an_end_above_zero() -> None:
    assert factors(2, name="linear", warmup=0.0, end=0.2) == pytest.approx([0.6, 0.2])
    assert factors(2, name="cosine", warmup=0.0, end=0.2) == pytest.approx([0.6, 0.2])
    # BNN: 1e-3 to 3e-7, by the same factor each epoch.
    found = factors(500, name="exponential", warmup=0.0, end=3e-4)
    assert found[-1] == pytest.approx(3e-4)
    assert [b / a for a, b in itertools.pairwise(found)] == pytest.approx([3e-4 ** (1 / 500)] * 499)


def test_steps_and_constants() -> None:
    assert factors(4, name="step", warmup=0.0, milestones=[0.5, 1.0], gamma=0.1) == pytest.approx([1, 0.1, 0.1, 0.01])
    assert factors(4, name="constant", warmup=0.5) == pytest.approx([0.5, 1, 1, 1])


def test_an_exponential_schedule_needs_an_end() -> None:
    with pytest.raises(ValidationError, match="never reaches 0: give 'end'"):
        ScheduleConfig(name="exponential")
