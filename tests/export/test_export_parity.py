"""Ties, and whether a file that computes something else is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_models import ties, two_layers
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

import bnnapps.export
from bnnapps.errors import ExportError
from bnnapps.export.api import OPSET
from bnnapps.export.dialects import get_dialect
from bnnapps.export.flow import Work, carry_out
from bnnapps.export.graph.freeze import settled
from bnnapps.export.graph.inputs import read_inputs, samples_of
from bnnapps.export.parity import Parity, check_parity
from bnnapps.export.session import LEVELS, run, serialized, session_of


def carried_out(model: nn.Module, example: Tensor) -> tuple[Work, ModelProto]:
    import onnx_ir as ir

    own = settled(model)
    inputs = read_inputs(own, example, dynamic_batch=True)
    work = Work(own, inputs, samples_of(inputs, 0), OPSET, "portable")
    done, _ = carry_out(get_dialect("portable").steps, work)
    return done, ir.to_proto(done.onnx)


@pytest.fixture(scope="module")
def tied() -> tuple[Work, ModelProto]:
    return carried_out(ties(), torch.randn(2, 4, 8, 8))


@pytest.fixture(scope="module")
def small() -> tuple[Work, ModelProto]:
    return carried_out(two_layers(), torch.randn(2, 2, 4, 4))


def parity(work: Work, proto: ModelProto) -> Parity:
    return check_parity(proto, work.deployed, work.inputs, work.samples, work.sites)


def test_a_net_full_of_ties_flips_no_sign_at_any_level(tied: tuple[Work, ModelProto]) -> None:
    work, proto = tied
    x = torch.randn(32, 4, 8, 8)
    zeros = []
    model = ties()
    for layer in (model.second, model.head):
        layer.register_forward_pre_hook(lambda _, args: zeros.append(int((args[0] == 0).sum())))
    with torch.no_grad():
        expected = model(x)
    assert min(zeros) > 500, "the test needs values that are exactly 0 in front of a sign"
    for level in LEVELS:
        found = run(session_of(serialized(proto), level), {"x": x}, level)
        assert torch.equal(found["output"], expected), level
    record = parity(work, proto)
    assert record.verdict == "exact"
    assert [level.sign_flips for level in record.levels] == [0] * len(LEVELS)
    assert all(level.max_abs_diff == 0.0 for level in record.levels)


def test_levels_are_all_of_this_runtime_in_order() -> None:
    names = list(LEVELS)
    assert names[0] == "DISABLE_ALL"
    assert names[-1] == "ALL"
    assert {"BASIC", "EXTENDED"} <= set(names)


def constant(proto: ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def replace_constant(proto: ModelProto, name: str, value: np.ndarray) -> None:
    constant(proto, name).CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


def flip_weight(proto: ModelProto) -> None:
    codes = numpy_helper.to_array(constant(proto, "3.product.weight")).copy()
    codes[5, 1] *= -1
    replace_constant(proto, "3.product.weight", codes)


def move_threshold(proto: ModelProto) -> None:
    shift = numpy_helper.to_array(constant(proto, "3.activation.shift"))
    replace_constant(proto, "3.activation.shift", shift + np.float32(0.5))


def change_scale(proto: ModelProto) -> None:
    name = "0.scales.scale"
    replace_constant(proto, name, numpy_helper.to_array(constant(proto, name)) * np.float32(1.01))


def change_last_bias(proto: ModelProto) -> None:
    name = "3.scales.bias"
    replace_constant(proto, name, numpy_helper.to_array(constant(proto, name)) + np.float32(0.01))


def pad_with_ones(proto: ModelProto) -> None:
    conv = next(node for node in proto.graph.node if node.op_type == "Conv")
    pads = next(attribute for attribute in conv.attribute if attribute.name == "pads")
    sizes = list(pads.ints)
    del pads.ints[:]
    pads.ints.extend([0] * len(sizes))
    full = np.array([0, 0, *sizes[:2], 0, 0, *sizes[2:]], dtype=np.int64)
    proto.graph.initializer.append(numpy_helper.from_array(full, "border"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(1.0, dtype=np.float32), "one"))
    padded = onnx.helper.make_node("Pad", [conv.input[0], "border", "one"], ["padded"])
    proto.graph.node.insert(list(proto.graph.node).index(conv), padded)
    conv.input[0] = "padded"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip_weight, "layer '3': at DISABLE_ALL its integer sums are wrong in"),
        (pad_with_ones, "layer '0': at DISABLE_ALL its integer sums are wrong in"),
        (move_threshold, "layer '3': at DISABLE_ALL its codes are wrong in"),
        (change_scale, "at DISABLE_ALL: what reaches '3' differs from torch by"),
        (change_last_bias, "at DISABLE_ALL: what reaches 'output' differs from torch by 0.01"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_file_that_computes_something_else_is_named_with_layer_and_level(
    small: tuple[Work, ModelProto], change: Callable[[ModelProto], None], message: str
) -> None:
    work, proto = small
    broken = ModelProto()
    broken.CopyFrom(proto)
    change(broken)
    with pytest.raises(ExportError, match=message):
        parity(work, broken)


def test_a_bare_sign_is_found_where_values_are_zero(tied: tuple[Work, ModelProto]) -> None:
    work, proto = tied
    broken = ModelProto()
    broken.CopyFrom(proto)
    codes = next(node for node in broken.graph.node if "second/codes" in node.output)
    compare = next(node for node in broken.graph.node if codes.input[0] in node.output)
    sign = onnx.helper.make_node("Sign", [compare.input[0]], list(codes.output))
    codes.CopyFrom(sign)
    with pytest.raises(ExportError, match=r"layer 'second': at DISABLE_ALL its codes are wrong in \d+ of"):
        parity(work, broken)


def test_codes_for_values_within_rounding_of_a_threshold_may_differ_and_are_counted() -> None:
    model, x = two_layers(), torch.randn(2, 2, 4, 4)
    reaching: list[Tensor] = []
    handle = model[3].register_forward_pre_hook(lambda _, args: reaching.append(args[0][0]))
    with torch.no_grad():
        model(x)
        nearest = int((reaching[-1] + model[3].binary.activation.shift).abs().argmin())
        model[1].bias[nearest // 16] -= reaching[-1][nearest]  # the value is now 0 but for rounding
        model(x)
    above = bool(reaching[-1][nearest] >= 0)
    handle.remove()
    work, proto = carried_out(model, x)
    bias = numpy_helper.to_array(constant(proto, "1.bias")).copy()
    bias[nearest // 16] += np.float32(-2e-5 if above else 2e-5)
    replace_constant(proto, "1.bias", bias)
    record = check_parity(proto, work.deployed, work.inputs, work.samples[:1], work.sites)
    assert record.verdict == "rounding"
    assert 1 <= record.sign_flips <= 16
    assert record.max_abs_diff > 1e-3
    assert all(level.led_max_abs_diff < 1e-4 for level in record.levels)


def test_a_record_is_plain_data(small: tuple[Work, ModelProto], tmp_path: Path) -> None:
    work, proto = small
    record = parity(work, proto).to_dict()
    assert record["layers"] == {"quantizers": 2, "exact_products": 2}
    assert [level["level"] for level in record["levels"]] == list(LEVELS)
    assert record["inputs"][1]["input"] == (1, 2, 4, 4)
    assert set(record["versions"]) == {"bnnapps", "torch", "onnx", "onnxscript", "onnxruntime"}
    first = record["levels"][0]
    rows = sum(shape["input"][0] for shape in record["inputs"])
    assert first["codes"] == rows * (2 * 16 + 64)
    assert first["sums"] == rows * (4 * 16 + 3)
    assert bnnapps.export.parity_path(tmp_path / "model.onnx").name == "model.parity.json"
