"""What `packable` says before training is what the export does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from export_models import Branches, bert, sentences, statistics, ties, two_layers
from torch import nn

import bnnapps
import bnnapps.export
from bnnapps.errors import UsageError
from bnnapps.export import PackableRow, get_target, packable
from bnnapps.nn.layers import BinaryEmbedding


def binary(rules: Any, *layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return bnnapps.binarize(nn.Sequential(*layers).eval(), rules, keep_first=0, keep_last=0)


def branches() -> nn.Module:
    torch.manual_seed(0)
    model = Branches().eval()
    statistics(model)
    return bnnapps.binarize(model, [{"types": ["conv2d"], "use": "bireal"}], keep_first=1, keep_last=0)


def mixed() -> nn.Module:
    """One layer of one bit, one of two."""
    rules = [{"match": "0", "use": "bit"}, {"match": "1", "use": {"method": "bit", "activation_bits": 2}}]
    model = binary(rules, nn.Linear(8, 8), nn.Linear(8, 4))
    model.train()(torch.randn(5, 8))
    return model.eval()


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (two_layers, lambda: torch.randn(2, 2, 4, 4)),
        (ties, lambda: torch.randn(2, 4, 8, 8)),
        (branches, lambda: torch.randn(2, 3, 8, 8)),
        (mixed, lambda: torch.randn(3, 8)),
        (lambda: bert("bibert", 1), sentences),
        (lambda: bert("bit", 1), sentences),
    ],
    ids=["two layers", "ties", "branches", "mixed", "bibert", "bit"],
)
def test_rows_foretell_the_export(model: Any, example: Any, tmp_path: Path) -> None:
    made = model()
    rows = packable(made)
    result = bnnapps.export.export(made, example(), tmp_path / "model.onnx", dialect="packed")
    nodes = onnx.load(result.path).graph.node
    products = {n.name.rpartition("/")[0].partition("#")[0] for n in nodes if n.op_type.startswith("Binary")}
    tables = {name for name, layer in made.named_modules() if isinstance(layer, BinaryEmbedding)}
    assert sum(n.op_type == "Unpack" for n in nodes) == len(tables)
    assert {row.layer for row in rows if row.takes_bits} - tables == products - {"", *_pools(nodes)}
    left = {row.layer: row.reason for row in rows if not row.takes_bits}
    for layer, reason in left.items():
        assert f"layer '{layer}' is not packed: {reason}" in result.notes
    assert all(row.reason == "" for row in rows if row.takes_bits)


def _pools(nodes: Any) -> set[str]:
    return {n.name.rpartition("/")[0] for n in nodes if n.op_type == "BinaryMaxPool"}


def test_reasons() -> None:
    assert packable(mixed()) == [PackableRow("0", True, ""), PackableRow("1", False, "'1' has 2 bits")]
    ternary = binary([{"types": ["linear"], "use": "binarybert"}], nn.Linear(8, 8))
    assert packable(ternary)[0].reason == "'0' has 8 bits"
    table = binary([{"types": ["embedding"], "use": "bibert"}], nn.Embedding(10, 8))
    assert packable(table) == [PackableRow("0", True, "")]
    both = binary([{"types": ["linear", "bilinear"], "use": "bibert"}], nn.Linear(8, 8), nn.Bilinear(8, 8, 8))
    one, other = packable(both)
    assert one == PackableRow("0", True, "")
    assert other.reason.startswith(
        "layer '1' is a BinaryBilinear, a binary layer without a deployed form: keep it real"
    )


def test_real_activations_are_a_reason() -> None:
    rules = [{"types": ["linear"], "use": {"method": "bnn", "activation": None}}]
    model = binary(rules, nn.Linear(8, 8))
    assert packable(model) == [PackableRow("0", False, "'0' has real values")]


def test_a_shared_layer_counts_once_and_the_model_stays_as_it_is() -> None:
    shared = nn.Linear(8, 8)
    model = binary([{"types": ["linear"], "use": "bnn"}], shared, nn.ReLU(), shared).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert packable(model) == [PackableRow("0", True, "")]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert packable(nn.Linear(2, 2)) == []


def test_an_unknown_target_names_the_nearest() -> None:
    assert get_target("packed") is packable
    with pytest.raises(UsageError, match=r"^there is no target 'paked'; the nearest are 'packed'$"):
        get_target("paked")
