from __future__ import annotations

import pytest
from torch import nn

import bnnapps
from bnnapps.binarize import Rule


def lines(model: nn.Module, *types: str, **use: object) -> list[str]:
    rules = [Rule(types=list(types), use={"method": "bnn", **use})]
    return list(bnnapps.plan(model, rules, keep_first=0, keep_last=0).warnings)


def test_the_number_of_wasted_bits_is_named() -> None:
    assert lines(nn.Sequential(nn.Linear(100, 3)), "linear") == [
        "'0': rows of 100 bits are packed into 13 bytes, of which 4 bits (4 %) are wasted: a width that is a multiple "
        "of 8 packs without waste"
    ]


@pytest.mark.parametrize(
    ("layer", "kind", "expected"),
    [
        (nn.Conv2d(12, 4, 3, groups=4), "conv2d", ["rows of 3 bits are packed into 1 byte, of which 5 bits (62 %)"]),
        (nn.Conv1d(6, 6, 3, groups=6), "conv1d", ["rows of 1 bit are packed into 1 byte, of which 7 bits (88 %)"]),
        (nn.ConvTranspose2d(10, 4, 3, groups=2), "conv_transpose2d", ["rows of 5 bits"]),
        (nn.Embedding(5, 20), "embedding", ["rows of 20 bits are packed into 3 bytes, of which 4 bits (17 %)"]),
        (nn.LSTM(9, 12), "lstm", ["rows of 9 bits", "rows of 12 bits"]),
        (nn.Bilinear(3, 7, 2), "bilinear", ["rows of 7 bits"]),
        (nn.Conv2d(16, 4, 3, groups=2), "conv2d", []),
        (nn.Linear(64, 10), "linear", []),
    ],
)
def test_each_kind_packs_its_own_rows(layer: nn.Module, kind: str, expected: list[str]) -> None:
    found = lines(nn.ModuleList([layer]), kind)
    assert len(found) == len(expected)
    assert all(want in line for want, line in zip(expected, found, strict=True))


def test_layers_of_one_width_share_a_line_and_real_weights_none() -> None:
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(5)))
    (line,) = lines(model, "linear")
    assert line.startswith("'0', '1', '2' and 2 more: rows of 6 bits")
    assert not any("wasted" in line for line in lines(model, "linear", weight=None))
