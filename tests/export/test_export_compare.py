from __future__ import annotations

import math

import pytest
import torch

from bnnapps.export.compare import (
    FLOOR,
    ROUNDING,
    argmax_agreement,
    largest_difference,
    rounding_excess,
    typical_size,
)


def test_equal_tensors_have_no_excess_whatever_they_hold() -> None:
    x = torch.tensor([0.0, -math.inf, math.inf, math.nan, 3.0])
    assert rounding_excess(x, x.clone()) == 0.0
    assert largest_difference(x, x.clone()) == 0.0


def test_excess_is_the_difference_over_what_rounding_allows() -> None:
    b = torch.tensor([2.0, 1.0, -2.0])
    a = b + torch.tensor([0.0, 1e-3, 0.0])
    assert rounding_excess(a, b) == pytest.approx(1e-3 / (ROUNDING * 2 + FLOOR), rel=1e-3)


def test_what_cancels_to_almost_nothing_may_differ_by_the_floor() -> None:
    assert rounding_excess(torch.tensor([5e-7]), torch.tensor([0.0])) <= 1
    assert rounding_excess(torch.tensor([1e-3]), torch.tensor([0.0])) > 1


def test_an_outlier_does_not_excuse_the_others() -> None:
    b = torch.ones(100)
    b[0] = -3e38
    a = b.clone()
    a[50] += 0.01
    assert rounding_excess(a, b) > 1
    assert typical_size(b) == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, 4.0])
def test_a_value_that_is_not_there_on_the_other_side_exceeds(value: float) -> None:
    b = torch.ones(5)
    a = b.clone()
    a[2] = value
    assert rounding_excess(a, b) > 1
    assert rounding_excess(b, a) > 1


def test_another_shape_or_type_is_no_rounding() -> None:
    assert rounding_excess(torch.zeros(2, 3), torch.zeros(3, 2)) == math.inf
    assert rounding_excess(torch.zeros(2), torch.zeros(2, dtype=torch.int64)) == math.inf
    assert largest_difference(torch.zeros(2), torch.zeros(3)) == math.inf


def test_integers_may_differ_in_one_element_of_a_hundred() -> None:
    b = torch.arange(200)
    a = b.clone()
    a[:2] += 1
    assert rounding_excess(a, b) == 0.0
    a[:3] += 1
    assert rounding_excess(a, b) == math.inf


def test_argmax_agreement_is_the_share_of_rows() -> None:
    a = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 5.0], [1.0, 0.0]])
    b = torch.tensor([[2.0, 1.0], [3.0, 1.0], [0.0, 5.0], [1.0, 0.0]])
    assert argmax_agreement(a, b) == 0.75
    assert argmax_agreement(a[:, :1], b[:, :1]) is None


def test_argmax_agreement_of_maps_is_the_share_of_pixels() -> None:
    a = torch.zeros(1, 3, 2, 2)
    a[0, 1] = 1.0  # class 1 everywhere; every line of the map is constant
    b = a.clone()
    b[0, 2, 0, 0] = 2.0
    assert argmax_agreement(a, b) == 0.75
    assert argmax_agreement(a, a + 1e-7 * torch.rand(a.shape, generator=torch.Generator().manual_seed(0))) == 1.0
    assert argmax_agreement(a[:, :1], b[:, :1]) is None
