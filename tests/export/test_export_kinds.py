"""Further layer kinds, exported both ways: transposed convolutions, and what multiplies by a matrix."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from export_models import TEXT, statistics
from torch import Tensor, nn

import bnnapps
import bnnapps.export
from bnnapps.export.session import run


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node if node.domain == "bnnapps")


def upsampling(rank: int, method: str) -> nn.Module:
    torch.manual_seed(0)
    conv, transposed, norm = {
        1: (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d),
        2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
        3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d),
    }[rank]
    model = nn.Sequential(
        conv(3, 4, 1),
        transposed(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        norm(6),
        transposed(6, 4, 3, stride=1, dilation=2),
        norm(4),
        conv(4, 2, 3),
    )
    statistics(model)
    types = [f"conv{rank}d", f"conv_transpose{rank}d"]
    return bnnapps.binarize(model.eval(), [{"types": types, "use": method}], keep_first=1, keep_last=0)


@pytest.mark.parametrize("dialect", ["portable", "packed"])
@pytest.mark.parametrize(
    ("rank", "method"), [(1, "bnn"), (2, "bnn"), (3, "bnn"), (2, "adabin"), (2, "xnor"), (2, "reactnet")]
)
def test_transposed_convolutions(rank: int, method: str, dialect: str, tmp_path: Path) -> None:
    model = upsampling(rank, method)
    path = tmp_path / "model.onnx"
    result = bnnapps.export.export(model, torch.randn(2, 3, *[4] * rank), path, dialect=dialect)
    assert result.parity.verdict == "exact"
    assert result.parity.sign_flips == 0
    x = torch.randn(5, 3, *[4] * rank)
    with torch.no_grad():
        expected = model(x)
    found = next(iter(run(bnnapps.export.load(path), {"input": x}, "ALL").values()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    if dialect == "packed":
        assert sum(count for name, count in operators(path).items() if "Transpose" in name) >= 2
    if (dialect, method) == ("packed", "bnn"):
        assert operators(path) == {"Pack": 1, "BinaryConvTransposeBits": 2, "BinaryConvFloat": 1}


@pytest.mark.parametrize("dialect", ["portable", "packed"])
def test_a_transposed_convolution_with_a_size_that_is_asked_for(dialect: str, tmp_path: Path) -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.up(x, output_size=[8, 7])
            return y

    torch.manual_seed(0)
    model = bnnapps.binarize(Sized().eval(), [{"types": ["conv_transpose2d"], "use": "bnn"}], keep_first=0, keep_last=0)
    x = torch.randn(2, 3, 4, 4)
    bnnapps.export.export(model, x, tmp_path / "model.onnx", dialect=dialect)
    found = next(iter(run(bnnapps.export.load(tmp_path / "model.onnx"), {"x": x}, "ALL").values()))
    assert found.shape == (2, 4, 8, 7)
    torch.testing.assert_close(found, model(x).detach(), rtol=1e-5, atol=1e-5)


def gpt() -> tuple[nn.Module, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=50, n_positions=16, use_cache=False)
    config.bos_token_id = config.eos_token_id = 0
    ids = torch.randint(0, TEXT["vocab_size"], (2, 6))
    return bnnapps.binarize(GPT2LMHeadModel(config).eval(), [{"types": ["hf.Conv1D"], "use": "bnn"}]), {
        "input_ids": ids
    }


def graph_linear() -> tuple[nn.Module, Any]:
    from torch_geometric.nn import Linear

    model = nn.Sequential(Linear(12, 16), nn.BatchNorm1d(16), Linear(16, 4, bias=False))
    statistics(model)
    rules = [{"types": ["pyg.Linear"], "use": "bnn"}]
    return bnnapps.binarize(model.eval(), rules, keep_first=0, keep_last=0), torch.randn(5, 12)


@pytest.mark.parametrize(
    ("build", "layers", "dialect"), [(gpt, 4, "packed"), (graph_linear, 2, "portable"), (graph_linear, 2, "packed")]
)
def test_matrices_of_other_libraries(build: Any, layers: int, dialect: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = build()
    result = bnnapps.export.export(model, inputs, tmp_path / "model.onnx", dialect=dialect)
    assert result.parity.verdict == "exact"
    assert result.parity.layers["exact_products"] == layers
    if dialect == "packed":
        found = operators(tmp_path / "model.onnx")
        assert found["BinaryDenseFloat"] + found["BinaryDenseBits"] == layers


def vit() -> tuple[nn.Module, Any, list[str]]:
    import timm

    sizes = {"img_size": 16, "patch_size": 8, "depth": 1, "embed_dim": 64, "num_heads": 2, "num_classes": 5}
    return timm.create_model("vit_tiny_patch16_224", **sizes), torch.randn(2, 3, 16, 16), ["timm.Attention", "linear"]


def swin(version: str) -> tuple[nn.Module, Any, list[str]]:
    from torchvision.models import swin_transformer as S

    block = getattr(S, f"SwinTransformerBlock{version}")
    model = S.SwinTransformer([4, 4], 16, [2], [2], [2, 2], num_classes=3, block=block)
    return model, torch.randn(2, 3, 16, 16), ["torchvision.ShiftedWindowAttention"]


@pytest.mark.parametrize(
    ("build", "method"),
    [(vit, "bit"), (lambda: swin(""), "bibert"), (lambda: swin("V2"), "bit")],
    ids=["timm-bit", "swin-bibert", "swin-v2-bit"],
)
def test_attention_of_image_models_runs_on_bits(build: Any, method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x, types = build()
    model = bnnapps.binarize(model.eval(), [{"types": types, "use": method}], example_inputs=x).eval()
    result = bnnapps.export.export(model, x, tmp_path / "model.onnx", dialect="packed")
    assert result.parity.verdict == "exact"
    found = operators(tmp_path / "model.onnx")
    blocks = 1 if build is vit else 2
    assert found["BinaryMatMulBits"] + found["BinaryMatMulFloat"] == 2 * blocks
    assert sum(count for name, count in found.items() if name.startswith("BinaryDense")) >= 2 * blocks
