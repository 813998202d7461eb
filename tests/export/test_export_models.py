"""Whole models: the file computes what the model computes, at sizes that the export never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from export_models import TEXT, Branches, bert, calibrated, sentences, statistics
from torch import Tensor, nn

import bnnapps
import bnnapps.export
from bnnapps.export import ExportResult
from bnnapps.export.session import run


def exported(model: nn.Module, example: Any, folder: Path, **options: Any) -> ExportResult:
    return bnnapps.export.export(model, example, folder / "model.onnx", **options)


def assert_same(result: ExportResult, model: nn.Module, inputs: dict[str, Tensor], expected: Tensor) -> None:
    """The file, as ONNX Runtime loads it by default, against the model that the user has."""
    found = run(bnnapps.export.load(result.path), inputs, "ALL")
    assert next(iter(found.values())).shape == expected.shape
    torch.testing.assert_close(next(iter(found.values())), expected, rtol=1e-4, atol=1e-5)


TWO_BITS = {
    "rules": [
        {"types": ["linear"], "use": {"method": "bit", "activation_bits": 2}},
        {"types": ["hf.SelfAttention"], "use": {"method": "bit", "activation_bits": 2}},
        {"types": ["gelu"], "use": "bit"},
    ]
}
# `bit` is exported in test_packed_export, whose steps begin with these, `naive` in the tests of its recipe.
TEXT_CASES = [
    ("bibert", 2, True),
    (TWO_BITS, 1, True),
    ("binarybert", 1, False),
    ("binarybert_ternary_a4", 1, True),
]


@pytest.mark.parametrize(("rules", "layers", "exact"), TEXT_CASES, ids=["bibert", "bit-2-bits", "split", "ternary"])
def test_bert_of_every_method(rules: Any, layers: int, exact: bool, tmp_path: Path) -> None:
    model = bert(rules, layers)
    result = exported(model, sentences(), tmp_path)
    free = {0: "batch", 1: "sequence"}
    assert result.dynamic == {"input_ids": free, "attention_mask": free}
    assert result.notes == ()
    assert (result.parity.layers["exact_products"] > 0) is exact
    if exact:
        assert result.parity.verdict == "exact"
        assert result.parity.sign_flips == 0
    inputs = sentences(batch=5, length=17)
    with torch.no_grad():
        expected = model(**inputs).logits
    assert expected.std() > 0.01, "a constant output would prove nothing"
    if exact:
        assert_same(result, model, inputs, expected)


def vision() -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {k: v for k, v in TEXT.items() if k not in ("vocab_size", "max_position_embeddings", "num_hidden_layers")}
    config = ViTConfig(**sizes, num_hidden_layers=1, image_size=16, patch_size=8)
    return ViTForImageClassification(config), {"pixel_values": torch.randn(2, 3, 16, 16)}


def shared_layers() -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    return AlbertForSequenceClassification(AlbertConfig(**TEXT, embedding_size=16)), sentences()


@pytest.mark.parametrize("build", [vision, shared_layers])
def test_other_encoders(build: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, example = build()
    calibrated(bnnapps.binarize(model, "bibert"), example)
    result = exported(model, example, tmp_path)
    assert result.parity.sign_flips == 0
    assert all(axes[0] == "batch" for axes in result.dynamic.values())
    inputs = {name: torch.cat([tensor, tensor[:1]]) for name, tensor in example.items()}
    with torch.no_grad():
        assert_same(result, model, inputs, model(**inputs).logits)


class Encoder(nn.Module):
    """PyTorch's own encoder over token numbers, with a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 16, padding_idx=0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(16, 2)

    def forward(self, indices: Tensor) -> Tensor:
        x = self.encoder(self.words(indices), src_key_padding_mask=indices == 0)
        logits: Tensor = self.head(x[:, 0])
        return logits


@pytest.mark.parametrize("method", ["bibert", "bit"])
def test_multihead_attention_with_a_padding_mask(method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = torch.randint(1, 30, (3, 6))
    example[1, 4:] = 0
    model = calibrated(bnnapps.binarize(Encoder(), method), example)
    result = exported(model, {"indices": example}, tmp_path)
    assert result.dynamic == {"indices": {0: "batch", 1: "sequence"}}
    assert result.parity.sign_flips == 0
    names = {"self_attn/q", "self_attn/scores", "self_attn/context", "self_attn/out"}
    stored = {value.split("layers.0.")[-1] for value in value_names(result.path)}
    assert {f"{name}/integers" for name in names} <= stored
    with torch.no_grad():
        assert_same(result, model, {"indices": example[:, :5]}, model(example[:, :5]))


def value_names(path: Path) -> set[str]:
    import onnx

    return {name for node in onnx.load(path).graph.node for name in node.output}


@pytest.mark.parametrize(("method", "pad_value"), [("reactnet", -1), ("xnor", 0), ("irnet", 1)])
def test_convolutions_of_every_geometry(method: str, pad_value: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Branches()
    rules = [{"types": ["conv2d"], "use": {"method": method, "pad_value": pad_value}}]
    bnnapps.binarize(model, rules)
    statistics(model)
    model.eval()
    result = exported(model, torch.randn(2, 3, 8, 8), tmp_path)
    assert result.parity.verdict == "exact"
    assert result.parity.layers == {"quantizers": 7, "exact_products": 7}
    image = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        assert_same(result, model, {"image": image}, model(image))


@pytest.mark.parametrize("method", ["reactnet"])
def test_a_partly_binarized_resnet_as_torchvision_builds_it(method: str, tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(num_classes=7)
    bnnapps.binarize(model, method)
    statistics(model)
    model.eval()
    result = exported(model, torch.randn(2, 3, 32, 32), tmp_path)
    assert result.parity.layers == {"quantizers": 16, "exact_products": 16}
    assert result.parity.sign_flips == 0
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert_same(result, model, {"x": x}, model(x))


def test_a_fixed_batch_keeps_the_size_of_the_example(tmp_path: Path) -> None:
    model = bnnapps.binarize(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)), "bnn").eval()
    result = exported(model, torch.randn(3, 4), tmp_path, dynamic_batch=False)
    assert result.dynamic == {}
    assert bnnapps.export.load(result.path).get_inputs()[0].shape == [3, 4]


def test_a_float_model_can_be_exported_too(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)).eval()
    result = exported(model, torch.randn(3, 4), tmp_path)
    assert result.parity.layers == {"quantizers": 0, "exact_products": 0}
    x = torch.randn(7, 4)
    with torch.no_grad():
        assert_same(result, model, {"input": x}, model(x))


class Pieces(nn.Module):
    """Two inputs of which one is no tensor, and several outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 8)

    def forward(self, x: Tensor, other: Tensor, double: bool = False) -> dict[str, Any]:
        hidden = self.first(x) + other
        y = self.second(hidden)
        return {"y": y * 2 if double else y, "parts": (hidden, hidden.argmax(-1)), "x": x + 1, "nothing": None}


def test_outputs_are_named_as_in_the_model_and_flags_become_constants(tmp_path: Path) -> None:
    model = bnnapps.binarize(Pieces(), [{"match": "second", "use": "bnn"}]).eval()
    example = {"x": torch.randn(2, 4), "other": torch.randn(2, 8), "double": True}
    result = exported(model, example, tmp_path)
    session = bnnapps.export.load(result.path)
    assert [value.name for value in session.get_outputs()] == ["y", "parts_0", "parts_1", "x_out"]
    assert [value.name for value in session.get_inputs()] == ["x", "other"]
    inputs = {"x": torch.randn(4, 4), "other": torch.randn(4, 8)}
    found = run(session, inputs)
    with torch.no_grad():
        expected = model(**inputs, double=True)
    torch.testing.assert_close(found["y"], expected["y"])
    assert torch.equal(found["parts_1"], expected["parts"][1])
