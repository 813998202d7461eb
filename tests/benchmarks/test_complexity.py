"""The benchmark's own counting, on blocks that can be counted by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from complexity import ROWS, Found, Published, arithmetic, tables

import bnnapps
from bnnapps.nn.blocks import BiRealBlock, ImprovementLayer, QuickBlock


def test_arithmetic_of_plain_modules():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.PReLU(), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2))
    x = torch.zeros(1, 2, 8, 8)
    assert arithmetic(model, x) == 2 * 128 + 2 * 128 + 128 + 4 * 32 + 32
    assert model.training


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (BiRealBlock(2, 2), 2 * (2 + 1) * 128),
        (QuickBlock(2), (1 + 2 + 1) * 128),
        (ImprovementLayer(4, 2), 2 * 256 + 128),
    ],
    ids=["bireal", "quicknet", "meliusnet"],
)
def test_arithmetic_of_blocks(block, count):
    channels = next(m for m in block.modules() if isinstance(m, nn.Conv2d)).in_channels
    assert arithmetic(block, torch.zeros(1, channels, 8, 8)) == count


def test_signs_shifts_and_gates_count():
    x = torch.zeros(1, 4, 8, 8)
    for method, count in (
        ("bireal", 256),
        ("reactnet", 2 * 256),
        ("real2binary", 2 * 256 + 128),
        ("xnor", 3 * 256 + 128),
    ):
        model = nn.Sequential(nn.Conv2d(4, 2, 3, padding=1))
        bnnapps.binarize(model, method, keep_first=0, keep_last=0)
        assert arithmetic(model, x) == count, method


def test_the_tables_show_differences():
    found = Found(papers=1.01, all_ops=1.2, arithmetic=1.3, bops=1.0, flops=1.0, packed=2**20, statistics=2**18)
    text = tables([(Published("resnet18", "xnor", ops=1.0, size=1.25), found)])
    assert "| resnet18 | xnor | 1.000 | 1.000 | 1.010 | 1.00 | +1.0 % | 1.200 | 1.300 |" in text
    assert "| resnet18 | 1.049 | 1.000 | 1.25 | -20.0 % | 1.250 | +0.0 % |" in text


def test_every_row_names_a_model_and_something_published():
    assert all(row.ops is not None or row.size is not None for row in ROWS)
    assert len({(row.model, row.method) for row in ROWS}) == len(ROWS)
