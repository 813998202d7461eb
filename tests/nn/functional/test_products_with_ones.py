"""Products of codes with ones, from sums."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.nn.functional.ones import channel_sums, conv_of_ones, seen_taps

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "sides"),
    [
        ((9,), (3,), (2,), (1,), (1, 1)),
        ((7,), (5,), (1,), (2,), (4, 3)),
        ((32, 5), (3, 5), (1, 2), (1, 1), (2, 2, 1, 1)),
        ((6, 6), (1, 3), (2, 1), (1, 1), (0, 0, 0, 0)),
        ((2, 3), (7, 7), (1, 1), (1, 1), (3, 3, 3, 3)),
        ((4, 5, 6), (3, 3, 3), (1, 2, 1), (1, 1, 2), (2, 2, 0, 1, 1, 0)),
    ],
)
def test_ones_meet_each_filter_as_a_convolution_of_ones(
    size: Any, kernel: Any, stride: Any, dilation: Any, sides: Any
) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, *kernel).sign().requires_grad_()
    ones = F.pad(torch.ones(1, 3, *size), sides)
    expected = CONVOLVE[len(size)](ones, weight, None, stride, 0, dilation)[0]
    found = conv_of_ones(weight.sum(dim=1), size, stride, dilation, sides)
    assert torch.equal(found.expand_as(expected), expected)
    factor = torch.randn_like(expected)
    mine = torch.autograd.grad((found * factor).sum(), weight)[0]
    assert torch.allclose(mine, torch.autograd.grad((expected * factor).sum(), weight)[0], atol=1e-4)


def test_without_a_border_one_sum_a_filter_is_enough() -> None:
    assert conv_of_ones(torch.ones(4, 3, 3), (50, 60), (1, 2), (1, 1), (0, 0, 0, 0)).shape == (4, 1, 1)


def test_rows_of_taps_follow_each_other_from_the_border_inwards() -> None:
    rows, where = seen_taps(5, taps=3, stride=1, dilation=1, sides=(1, 1))
    assert rows == [[False, True, True], [True, True, True], [True, True, False]]
    assert where == [0, 1, 1, 1, 2]


def test_sums_of_half_precision_codes_are_exact() -> None:
    x = torch.ones(1, 4098, 1, dtype=torch.float16)
    assert channel_sums(x, 2, 1).tolist() == [[[2049.0], [2049.0]]]


class Border(nn.Module):
    """The sums of its filters at each position of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 3, 5).sign())

    def forward(self, x: Tensor) -> Tensor:
        return conv_of_ones(self.weight.sum(dim=1), x.shape[2:], (2,), (1,), (2, 1))


def test_a_graph_of_any_length_has_the_same_border() -> None:
    torch.manual_seed(0)
    border = Border()
    length = torch.export.Dim("length", min=8, max=64)
    program = torch.export.export(border, (torch.randn(2, 4, 12),), dynamic_shapes=({2: length},))
    x = torch.randn(2, 4, 29)
    assert torch.equal(program.module()(x), border(x))
