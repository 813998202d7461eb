"""Real layers in 8 bits: smaller files, bits untouched, the cost reported; and exported files in a model's place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from export_models import bert, sentences, statistics
from torch import nn

import bnnapps
import bnnapps.export
from bnnapps.errors import ExportError, UsageError
from bnnapps.export.module import ExportedModule


def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32), nn.ReLU()]
    found = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, 200))
    statistics(found)
    return bnnapps.binarize(found.eval(), [{"types": ["conv2d"], "use": "bnn"}], keep_first=1, keep_last=1)


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_the_file_shrinks_and_its_bits_stay(tmp_path: Path) -> None:
    net, x = model(), torch.randn(16, 3, 8, 8)
    whole = bnnapps.export.export(net, x, tmp_path / "whole.onnx", dialect="packed")
    inputs = [torch.randn(16, 3, 8, 8) for _ in range(3)]
    small = bnnapps.export.export(net, x, tmp_path / "small.onnx", dialect="packed", real_bits=8, calibration=inputs)
    assert whole.eight_bits is None
    assert small.eight_bits is not None
    assert small.eight_bits.nodes == 2
    assert small.eight_bits.samples == 3
    assert small.eight_bits.bytes_before == whole.path.stat().st_size
    assert small.eight_bits.bytes_after == small.path.stat().st_size < whole.path.stat().st_size / 2
    before, after = operators(whole.path), operators(small.path)
    assert {k: v for k, v in after.items() if k.startswith(("Pack", "Binary"))} == {
        k: v for k, v in before.items() if k.startswith(("Pack", "Binary"))
    }
    assert after["DequantizeLinear"] > 0
    record = json.loads(small.parity_path.read_text())["real_bits"]
    assert record["nodes"] == 2
    assert 0 < record["max_abs_diff"] < 5
    assert 0.5 < record["argmax_agreement"] <= 1
    exported = ExportedModule(bnnapps.export.load(small.path), net, x)
    agreement = (exported(inputs[0]).argmax(-1) == net(inputs[0]).argmax(-1)).float().mean()
    assert agreement > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"real_bits": 4}, "real_bits is 4: real layers take 32 bits, or 8"),
        ({"real_bits": 8, "dialect": "portable"}, "an option of the packed dialect, not of 'portable'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        bnnapps.export.export(
            model(), torch.randn(2, 3, 8, 8), tmp_path / "m.onnx", **({"dialect": "packed"} | options)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_real_layers_has_nothing_to_quantize(tmp_path: Path) -> None:
    net = bnnapps.binarize(nn.Sequential(nn.Linear(8, 4)), [{"match": "0", "use": "bnn"}], keep_first=0, keep_last=0)
    with pytest.raises(ExportError, match="has no real convolution or linear layer left"):
        bnnapps.export.export(net.eval(), torch.randn(2, 8), tmp_path / "m.onnx", dialect="packed", real_bits=8)


def test_an_exported_file_answers_in_the_form_of_the_model(tmp_path: Path) -> None:
    net, inputs = bert("bibert", 1), sentences()
    bnnapps.export.export(net, inputs, tmp_path / "m.onnx", dialect="packed")
    exported = ExportedModule(bnnapps.export.load(tmp_path / "m.onnx"), net, inputs)
    other = sentences(batch=4, length=11)
    with torch.no_grad():
        expected = net(**other)
    found = exported(**other)
    assert type(found) is type(expected)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
