"""Packed files: the same signs as torch, by function bodies and by kernels, and the fusions that make them fast."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from export_models import TEXT, Branches, bert, sentences, statistics, ties, two_layers
from onnx import numpy_helper
from torch import Tensor, nn

import bnnapps
import bnnapps.export
from bnnapps.errors import ExportError
from bnnapps.export import ExportResult
from bnnapps.export.dialects.packed import DIALECT
from bnnapps.export.dialects.portable import expected_constants
from bnnapps.export.flow import Work, begin, carry_out
from bnnapps.export.graph.freeze import settled
from bnnapps.export.graph.inputs import read_inputs
from bnnapps.export.ir.interpret import interpret
from bnnapps.export.passes.packed.audit import audit_packed
from bnnapps.export.passes.packed.build import constant
from bnnapps.export.passes.packed.thresholds import integer_thresholds, reachable
from bnnapps.export.session import run
from bnnapps.kernels.library import library_path


def packed(model: nn.Module, example: Any, folder: Path, **options: Any) -> tuple[ExportResult, Counter[str]]:
    """The export, and how often each operator of the domain is in the file."""
    result = bnnapps.export.export(model, example, folder / "model.onnx", dialect="packed", **options)
    nodes = onnx.load(result.path).graph.node
    return result, Counter(node.op_type for node in nodes if node.domain == "bnnapps")


def outputs(result: ExportResult, x: dict[str, Tensor], **options: Any) -> Tensor:
    return next(iter(run(bnnapps.export.load(result.path, **options), x, "ALL").values()))


def chain(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(*layers)
    statistics(model)
    return bnnapps.binarize(model.eval(), [{"types": ["conv2d", "linear"], "use": "bnn"}], keep_first=0, keep_last=0)


# Whole models


def test_two_layers_and_the_levels_that_were_compared(tmp_path: Path) -> None:
    model = two_layers()
    result, found = packed(model, torch.randn(2, 2, 4, 4), tmp_path)
    assert found == {"Pack": 2, "BinaryConvFloat": 1, "BinaryDenseFloat": 1}
    names = [level.level for level in result.parity.levels]
    assert names[0] == "DISABLE_ALL"
    assert ("ALL with kernels" in names) is (library_path() is not None)
    assert result.parity.verdict == "exact"
    assert all(level.codes > 0 and level.sums > 0 and level.sign_flips == 0 for level in result.parity.levels)
    x = torch.randn(7, 2, 4, 4)
    for kernels in {False, library_path() is not None}:
        torch.testing.assert_close(outputs(result, {"input": x}, kernels=kernels), model(x), rtol=1e-5, atol=1e-5)


def test_ties_of_integer_sums_keep_torchs_sign(tmp_path: Path) -> None:
    result, found = packed(ties(), torch.randn(2, 4, 8, 8).round(), tmp_path)
    assert found["BinaryConvBits"] == 1
    assert result.parity.sign_flips == 0
    assert result.parity.verdict == "exact"


@pytest.mark.parametrize(
    ("method", "pad_value"),
    [("bnn", -1), ("bnn", 0), ("bnn", 1), ("reactnet", 1), ("xnor", -1), ("adabin", 0), ("adabin", 1)],
)
def test_convolutions_of_every_geometry_run_on_bits(method: str, pad_value: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Branches()
    statistics(model)
    rules = [{"types": ["conv2d"], "use": {"method": method, "pad_value": pad_value}}]
    model = bnnapps.binarize(model.eval(), rules, keep_first=1, keep_last=1)
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    result, found = packed(model, torch.randn(2, 3, 9, 9), tmp_path)
    assert found["BinaryConvFloat"] + found["BinaryConvInteger"] >= 7
    assert result.notes == ()
    assert result.parity.verdict == "exact"


def test_two_level_layers_on_large_maps_keep_small_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1), nn.Flatten(1))
    statistics(model)
    x = torch.randn(2, 3, 34, 34)
    model = bnnapps.binarize(
        model.eval(), [{"types": ["conv2d"], "use": "adabin"}], keep_first=1, keep_last=0, example_inputs=x
    )
    layer: Any = model[2]
    layer.binary.activation.beta.data.fill_(0.4)  # without an offset, the border of the map adds nothing
    result, found = packed(model, x, tmp_path)
    assert found["BinaryConvFloat"] == 2
    assert result.parity.verdict == "exact"
    assert result.path.stat().st_size < 16 * 32 * 32, "what the border adds is kept by its few different rows"


def test_the_numpy_interpreter_agrees_with_onnx_runtime(tmp_path: Path) -> None:
    result, _ = packed(two_layers(), torch.randn(2, 2, 4, 4), tmp_path)
    x = torch.randn(5, 2, 4, 4)
    found = interpret(onnx.load(result.path), {"input": x.numpy()})
    np.testing.assert_allclose(next(iter(found.values())), outputs(result, {"input": x}).numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["bibert", "bit"])
def test_bert_computes_attention_on_bits(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 96}.items():
        monkeypatch.setitem(TEXT, key, value)
    result, found = packed(bert(method, 1), sentences(), tmp_path)
    products = found["BinaryMatMulBits"] + found["BinaryMatMulFloat"]
    assert products == 2
    assert found["BinaryDenseBits"] >= 2, "query and key hand out bits, and their split into heads moves bits"
    if method == "bibert":
        assert found["BinaryMatMulBits"] >= 1, "scores, mask and threshold are one operator"
    assert result.parity.verdict == "exact"
    inputs = sentences(batch=5, length=17)
    model = bert(method, 1)
    with torch.no_grad():
        torch.testing.assert_close(outputs(result, inputs), model(**inputs).logits, rtol=1e-4, atol=1e-5)


def test_an_embedding_takes_one_bit_an_entry(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(300, 70), nn.Linear(70, 4))
    model = bnnapps.binarize(model.eval(), [{"types": ["embedding"], "use": "bibert"}], keep_first=0, keep_last=0)
    ids = torch.randint(0, 300, (3, 5))
    result, found = packed(model, ids, tmp_path)
    assert found == {"Unpack": 1}
    sizes = {i.name: len(i.raw_data) for i in onnx.load(result.path).graph.initializer}
    assert 300 * 3 * 4 in sizes.values(), "three words a row"
    assert 300 * 70 not in sizes.values()
    other = torch.randint(0, 300, (2, 5))
    torch.testing.assert_close(outputs(result, {"input": other}), model(other).detach(), rtol=1e-5, atol=1e-6)


def test_a_layer_that_cannot_take_bits_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    rules = [{"match": "0", "use": "bnn"}, {"match": "1", "use": {"method": "dorefa", "activation_bits": 2}}]
    model = bnnapps.binarize(model.eval(), rules, keep_first=0, keep_last=0)
    result, found = packed(model, torch.randn(3, 8), tmp_path)
    assert found == {"Pack": 1, "BinaryDenseFloat": 1}
    assert result.notes == ("layer '1' is not packed: '1' has 2 bits",)


def test_weights_take_one_bit_in_the_file(tmp_path: Path) -> None:
    model = chain(nn.Conv2d(64, 64, 3, bias=False), nn.BatchNorm2d(64), nn.Conv2d(64, 96, 3, bias=False))
    result, _ = packed(model, torch.randn(1, 64, 7, 7), tmp_path)
    weights = [i for i in onnx.load(result.path).graph.initializer if "/weight" in i.name]
    assert sum(len(w.raw_data) for w in weights) == 64 * 64 * 9 // 8 + 96 * 64 * 9 // 8
    assert result.path.stat().st_size < (64 * 64 * 9 + 96 * 64 * 9) // 8 + 20_000


# Thresholds


def test_batchnorm_of_either_sign_becomes_one_comparison(tmp_path: Path) -> None:
    norm = nn.BatchNorm2d(6)
    model = chain(nn.Conv2d(4, 6, 3), norm, nn.Conv2d(6, 2, 3))
    norm.weight.data = torch.tensor([1.0, -1.0, 0.0, 0.0, 2.0, -0.5])
    norm.bias.data = torch.tensor([0.0, 0.0, 0.5, -0.5, 1e9, -1e9])
    result, found = packed(model, torch.randn(3, 4, 8, 8), tmp_path)
    assert found == {"Pack": 1, "BinaryConvBits": 1, "BinaryConvFloat": 1}
    assert result.parity.sign_flips == 0
    file = onnx.load(result.path)
    limits = next(numpy_helper.to_array(i) for i in file.graph.initializer if i.name == "0/limits")
    assert limits[2] == -36, "gamma is 0 and beta above it: always high"
    assert limits[3] == 37, "never: past the largest sum, 4 x 3 x 3"


def test_what_rises_and_falls_stays_real(tmp_path: Path) -> None:
    slope, shift = nn.PReLU(6), nn.BatchNorm2d(6)
    model = chain(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), slope, shift, nn.Conv2d(6, 2, 3))
    slope.weight.data = torch.tensor([0.25, -1.0, 0.0, 0.5, -0.25, 1.0])
    shift.weight.data.fill_(1.0)
    shift.running_mean.fill_(0.0)
    shift.bias.data.fill_(-0.5)
    result, found = packed(model, torch.randn(3, 4, 8, 8), tmp_path)
    assert found["BinaryConvBits"] == 0
    assert any("not monotonic" in note for note in result.notes)
    slope.weight.data.abs_()
    result, found = packed(model, torch.randn(3, 4, 8, 8), tmp_path)
    assert found["BinaryConvBits"] == 1
    assert result.parity.verdict == "exact"


def test_limits_by_trying_every_sum() -> None:
    z = reachable(3, fixed_parity=True)
    assert z.tolist() == [-3, -1, 1, 3]
    assert reachable(2, fixed_parity=False).tolist() == [-2, -1, 0, 1, 2]

    def high(x: Tensor) -> Tensor:
        columns = [x[:, 0] >= 0, x[:, 1] <= -1, x[:, 2] > 9, x[:, 3] < 9]
        return torch.stack(columns, dim=1)

    found = integer_thresholds(high, z, 4)
    assert found is not None
    limits, falling = found
    assert falling.tolist() == [False, True, False, False]
    assert limits.tolist() == [1, 1, 4, -3]
    assert integer_thresholds(lambda x: x.abs() >= 2, z, 1) is None


# Pools


def test_a_pool_in_front_of_a_sign_is_one_of_bits(tmp_path: Path) -> None:
    model = chain(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 2, 3))
    result, found = packed(model, torch.randn(3, 4, 12, 12), tmp_path)
    assert found == {"Pack": 1, "BinaryConvBits": 1, "BinaryMaxPool": 1, "BinaryConvFloat": 1}
    assert result.parity.verdict == "exact"


def test_a_pool_in_front_of_batchnorm_stays_where_it_is(tmp_path: Path) -> None:
    model = chain(nn.Conv2d(4, 6, 3), nn.MaxPool2d(2), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 3))
    result, found = packed(model, torch.randn(3, 4, 12, 12), tmp_path)
    assert found["BinaryMaxPool"] == 0
    assert result.parity.verdict == "exact"
    model[2].weight.data.abs_()
    result, found = packed(model, torch.randn(3, 4, 12, 12), tmp_path)
    assert found["BinaryMaxPool"] == 1, "a rising BatchNorm becomes the threshold behind the pool"
    assert result.parity.verdict == "exact"


# Epilogues


class Unit(nn.Module):
    """A unit of Bi-Real Net with the non-linearity of ReActNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.slope = nn.PReLU(8)
        self.before, self.after = (nn.Parameter(torch.randn(1, 8, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)) + x
            x = self.slope(x + self.before) + self.after
        return x


def test_shortcut_slope_and_shifts_are_part_of_the_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Unit()
    statistics(model)
    model = bnnapps.binarize(model.eval(), [{"match": "convs.*", "use": "reactnet"}], keep_first=0, keep_last=0)
    result, found = packed(model, torch.randn(2, 3, 6, 6), tmp_path)
    assert found == {"Pack": 1, "BinaryConvFloatBitsLast": 1, "BinaryConvFloatLast": 1}
    others = [node.op_type for node in onnx.load(result.path).graph.node if node.domain != "bnnapps"]
    assert sorted(others) == ["Conv", "Transpose", "Transpose"], "into the first unit and out of the last one"
    assert result.parity.verdict == "exact"
    x = torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(outputs(result, {"x": x}), model(x), rtol=1e-4, atol=1e-4)


# Files


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    result, _ = packed(two_layers(), torch.randn(2, 2, 4, 4), tmp_path)
    file = onnx.load(result.path)
    next(one for one in file.opset_import if one.domain == "bnnapps").version = 7
    onnx.save(file, result.path)
    with pytest.raises(ExportError, match=r"has operators of version 7 of the domain 'bnnapps', and this is version 1"):
        bnnapps.export.load(result.path)


def test_kernels_that_are_not_installed_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = packed(two_layers(), torch.randn(2, 2, 4, 4), tmp_path)
    monkeypatch.setattr("bnnapps.export.session.library_path", lambda: None)
    with pytest.raises(ExportError, match="the kernels are not installed: see `bnnapps runtime info`"):
        bnnapps.export.load(result.path, kernels=True)


# The audit


def audited(model: nn.Module, x: Tensor) -> Work:
    """A model right before its audit."""
    own = settled(model)
    steps = [step for step in DIALECT.steps if step.name != "audit"]
    work, _ = carry_out(steps, begin(own, read_inputs(own, x, True), 18, "packed", 0))
    return work


def weight_of(work: Work) -> tuple[str, np.ndarray[Any, Any]]:
    name = next(n for n in work.onnx.graph.initializers if "/weight" in n)
    return name, work.onnx.graph.initializers[name].const_value.numpy().copy()


def flip_one_bit(work: Work) -> None:
    name, bits = weight_of(work)
    bits[0, 0] ^= 1
    work.onnx.graph.initializers[name].const_value = ir.tensor(bits, name=name)


def set_a_tail_bit(work: Work) -> None:
    name, bits = weight_of(work)
    bits[0, -1] |= 0x80
    work.onnx.graph.initializers[name].const_value = ir.tensor(bits, name=name)


def rename_an_operator(work: Work) -> None:
    next(node for node in work.onnx.graph if node.domain == "bnnapps").op_type = "Quantize"


def keep_the_signs_as_floats(work: Work) -> None:
    constant(work.onnx.graph, "twice", np.ones((6, 4, 3, 3), np.float32))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_one_bit, "layer '0': 1 bits of its weight are not the layer's codes"),
        (set_a_tail_bit, "layer '0': bits lie beyond the end of a row"),
        (rename_an_operator, "is bnnapps::Quantize, which no runtime knows"),
        (keep_the_signs_as_floats, "'twice' holds 216 signs as floats: the bits of a weight are kept twice"),
    ],
)
def test_the_audit_finds_what_is_wrong(damage: Any, message: str) -> None:
    work = audited(chain(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3)), torch.randn(3, 4, 8, 8))
    expected = expected_constants(work.deployed)
    audit_packed(work.onnx, expected)
    damage(work)
    with pytest.raises(ExportError, match=message):
        audit_packed(work.onnx, expected)


class Doubling(nn.Module):
    """How ReActNet doubles its channels: two units side by side, concatenated, shifted and bent."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.units = nn.ModuleList(nn.Conv2d(8, 8, 1, bias=False) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))
        self.slope = nn.PReLU(16)
        self.before = nn.Parameter(torch.randn(1, 16, 1, 1))
        self.last = nn.Conv2d(16, 16, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norms[0](self.units[0](x)) + x
        x = torch.cat([self.norms[i](self.units[i](x)) + x for i in (1, 2)], dim=1)
        x = self.slope(x + self.before) - 0.5
        y: Tensor = self.last(x) + x
        return y


def test_channels_stay_last_through_concatenations_and_slopes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Doubling()
    statistics(model)
    rules = [{"match": name, "use": "reactnet"} for name in ("units.*", "last")]
    model = bnnapps.binarize(model.eval(), rules, keep_first=0, keep_last=0)
    result, found = packed(model, torch.randn(2, 3, 6, 6), tmp_path)
    assert found["BinaryConvFloatBitsLast"] + found["BinaryConvFloatLast"] == 3
    others = Counter(node.op_type for node in onnx.load(result.path).graph.node if node.domain != "bnnapps")
    assert others["Transpose"] == 2, "one behind the stem, one in front of the output's layer"
    assert result.parity.verdict == "exact"
