"""QONNX files: what the tools that read them make of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import hls4ml
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from export_models import statistics, ties, two_layers
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.util.cleanup import cleanup_model
from qonnx.util.inference_cost import inference_cost
from torch import Tensor, nn

import bnnapps
import bnnapps.export
from bnnapps.errors import ExportError, UsageError
from bnnapps.export import ExportResult
from bnnapps.export.fpga.layers import Conv, Dense, Head, Input, Network, Pool
from bnnapps.export.passes.audit import Expected
from bnnapps.export.passes.bipolar import audit_bipolar
from bnnapps.export.qonnx.write import write
from bnnapps.models.finn import cnv, fully_connected

EVERY = {"keep_first": 0, "keep_last": 0}
PIXELS = {"method": "bnn", "activation.bits": 8, "activation.scale": "elastic"}


def cleaned(path: Path) -> Any:
    return cleanup_model(ModelWrapper(str(path))).transform(InferDataTypes())


def executed(model: Any, x: np.ndarray) -> np.ndarray:
    name = model.graph.input[0].name
    return np.concatenate([next(iter(execute_onnx(model, {name: row[None]}).values())) for row in x])


def trained(model: nn.Module, x: Tensor) -> nn.Module:
    """BatchNorms of either sign, with thresholds in the midst of their sums; learned scales from the input."""
    model.train()(x)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            assert module.running_var is not None
            module.momentum = 1.0
    model(x)
    return model.eval()


def dense() -> tuple[nn.Module, Tensor]:
    x = torch.randn(24, 1, 4, 4)
    return trained(bnnapps.binarize(fully_connected(4, 1, [12, 9], 4), "bnn", **EVERY), x), x


def convolutional() -> tuple[nn.Module, Tensor]:
    x = torch.randn(12, 2, 14, 14)
    model = cnv(3, 2, ((4, 6), (8,)), (7,), image_size=14)
    rules = [{"types": ["conv2d", "linear"], "use": "bnn"}, {"match": "0", "use": PIXELS}]
    return trained(bnnapps.binarize(model, rules, example_inputs=x, **EVERY), x), x


def for_target(made: tuple[nn.Module, Tensor], target: str, folder: Path) -> tuple[ExportResult, dict[str, np.ndarray]]:
    result = bnnapps.export.export(made[0], made[1], folder / "model.onnx", dialect="qonnx", target=target)
    with np.load(folder / "model.golden.npz") as stored:
        return result, dict(stored)


@pytest.mark.parametrize("make", [two_layers, ties])
def test_qonnx_executes_a_file_as_torch_does(make: Any, tmp_path: Path) -> None:
    model = make()
    x = torch.randn(2, 2, 4, 4) if make is two_layers else torch.randn(2, 4, 8, 8).round()
    result = bnnapps.export.export(model, x, tmp_path / "model.onnx", dialect="qonnx")
    assert result.parity.verdict == "exact"
    assert result.dynamic == {"input": {}} or not any(result.dynamic.values())
    read = cleaned(result.path)
    with torch.no_grad():
        expected = model.eval()(x)
    np.testing.assert_allclose(executed(read, x.numpy()), expected.numpy(), rtol=1e-5, atol=1e-6)
    kinds = Counter(str(read.get_tensor_datatype(n.output[0])) for n in read.graph.node if n.op_type == "BipolarQuant")
    assert set(kinds) == {"BIPOLAR"}
    products = [n for n in read.graph.node if n.op_type in ("Conv", "MatMul")]
    assert [str(read.get_tensor_datatype(n.output[0])) for n in products] == ["INT32"] * len(products)
    session = bnnapps.export.load(result.path)
    found = session.run(None, {session.get_inputs()[0].name: x[:1].numpy()})[0]
    np.testing.assert_allclose(found, expected[:1].numpy(), rtol=1e-5, atol=1e-6)


def test_hidden_codes_are_those_of_torch_bit_for_bit(tmp_path: Path) -> None:
    model, x = dense()
    result = bnnapps.export.export(model, x, tmp_path / "model.onnx", dialect="qonnx")
    read = cleaned(result.path)
    name = read.graph.input[0].name
    hidden = []
    for layer in (1, 3, 5):
        twin: Any = model[layer]
        twin.binary.activation.register_forward_hook(lambda _m, _i, out: hidden.append(out.codes))
    with torch.no_grad(), bnnapps.nn.kernels(False):
        model(x[:1])
    context = execute_onnx(read, {name: x[:1].numpy()}, return_full_exec_context=True)
    codes = [context[n.output[0]] for n in read.graph.node if n.op_type == "BipolarQuant"]
    dynamic = [c for c in codes if len(c) == 1]
    assert len(dynamic) == len(hidden) == 3
    for found, expected in zip(dynamic, hidden, strict=True):
        np.testing.assert_array_equal(found.reshape(expected.shape), expected.numpy())


def test_codes_of_zero_and_one_stay_exact(tmp_path: Path) -> None:
    rules = [{"types": ["linear"], "use": {"method": "bit"}}]
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(5, 8)
    binary = bnnapps.binarize(model, rules, **EVERY)
    binary.train()(x)
    result = bnnapps.export.export(binary.eval(), x, tmp_path / "model.onnx", dialect="qonnx")
    assert result.parity.verdict == "exact"
    with torch.no_grad():
        expected = binary(x).numpy()
    np.testing.assert_allclose(executed(cleaned(result.path), x.numpy()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [dense, convolutional])
@pytest.mark.parametrize("target", ["finn", "hls4ml"])
def test_a_file_for_an_importer_gives_the_golden_scores(make: Any, target: str, tmp_path: Path) -> None:
    made = make()
    result, golden = for_target(made, target, tmp_path)
    assert result.parity.verdict == "exact"
    read = cleaned(result.path)
    assert str(read.get_tensor_datatype(read.graph.input[0].name)) == ("BIPOLAR" if make is dense else "INT8")
    np.testing.assert_allclose(executed(read, golden["codes"]), golden["scores"], rtol=1e-6)
    with torch.no_grad():
        expected = made[0](torch.from_numpy(golden["inputs"])).numpy()
    np.testing.assert_array_equal(golden["classes"], expected.argmax(axis=1))
    np.testing.assert_allclose(golden["scores"], expected, rtol=1e-4, atol=1e-5)


def test_the_cost_report_counts_bipolar_products(tmp_path: Path) -> None:
    result, _ = for_target(dense(), "finn", tmp_path)
    cost = inference_cost(str(result.path), discount_sparsity=False)["total_cost"]
    assert cost["op_mac_BIPOLAR_BIPOLAR"] == cost["mem_w_BIPOLAR"] == 16 * 12 + 12 * 9 + 9 * 4


@pytest.mark.parametrize("make", [dense, convolutional])
def test_hls4ml_compiles_it_and_chooses_the_same_classes(make: Any, tmp_path: Path) -> None:
    result, golden = for_target(make(), "hls4ml", tmp_path)
    model, codes = cleanup_model(ModelWrapper(str(result.path))), golden["codes"]
    if codes.ndim == 4:
        model = cleanup_model(model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True)))
        codes = np.ascontiguousarray(np.moveaxis(codes, 1, -1))
    options = {"granularity": "name", "backend": "Vitis", "default_precision": "fixed<32,16>"}
    config = hls4ml.utils.config_from_onnx_model(model, **options)
    config["Model"]["Strategy"] = "Resource"
    folder, part = str(tmp_path / "hls"), "xc7z020clg400-1"
    io = "io_stream" if codes.ndim == 4 else "io_parallel"
    design = hls4ml.converters.convert_from_onnx_model(
        model, hls_config=config, backend="Vitis", io_type=io, output_dir=folder, part=part
    )
    design.compile()
    scores = design.predict(codes).reshape(golden["scores"].shape)
    np.testing.assert_array_equal(scores.argmax(axis=1), golden["classes"])
    np.testing.assert_allclose(scores, golden["scores"], atol=5e-3)


def test_a_wrong_target_is_said_before_anything_runs(tmp_path: Path) -> None:
    model, x = dense()
    for target, dialect, message in (
        ("fin", "qonnx", "unknown target 'fin' .nearest: 'finn'.; there are finn, hls4ml"),
        ("finn", "packed", "target 'finn' is one of the dialect 'qonnx', not of 'packed'"),
    ):
        with pytest.raises(UsageError, match=message):
            bnnapps.export.export(model, x, tmp_path / "model.onnx", dialect=dialect, target=target)
    assert list(tmp_path.iterdir()) == []


def one_layer(head: int = 3, pads: tuple[int, int, int, int] = (0, 0, 0, 0), pad_value: int = 0) -> Network:
    generator = np.random.default_rng(0)

    def signs(*shape: int) -> Any:
        return np.where(generator.random(shape) < 0.5, -1, 1).astype(np.int8)

    conv = Conv("conv", signs(4, 3, 3, 2), np.array([-99, 1, 3, 99]), (6, 6), pads=pads, pad_value=pad_value)
    rows, columns = conv.out_size
    pool = Pool("pool", 4, (rows, columns), (2, 2))
    last = Dense("last", signs(head, 4 * (rows // 2) * (columns // 2)), None)
    return Network("small", Input((2, 6, 6), 1), (conv, pool, last), Head(head, last.terms, None))


@pytest.mark.parametrize(
    ("network", "head", "message"),
    [
        (one_layer(pads=(1, 1, 1, 1), pad_value=-1), 1, "layer 'conv' has a border of -1 around its map of codes"),
        (one_layer(), 3, "layer 'last' scales each class by itself, which FINN leaves in floating point"),
    ],
)
def test_what_an_importer_would_get_wrong_is_refused(network: Network, head: int, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        write(network, (np.ones(head), np.zeros(head)), "finn")


def test_thresholds_that_always_or_never_fire_stay_integers(tmp_path: Path) -> None:
    model = write(one_layer(), (np.ones(1), np.zeros(1)), "finn")
    (threshold,) = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "conv/threshold")
    assert threshold.reshape(-1).tolist() == [-19.0, 1.0, 3.0, 19.0]


def test_the_audit_refuses_other_codes(tmp_path: Path) -> None:
    model, x = dense()
    result = bnnapps.export.export(model, x, tmp_path / "model.onnx", dialect="qonnx")
    graph = ir.from_proto(onnx.load(result.path))
    missing = Expected(frozenset(), {"1": np.ones((16, 12), np.float32)}, {}, {})
    sites = [bnnapps.export.passes.sites.Site("1", "product", "1/product", "1/product")]
    with pytest.raises(ExportError, match="layer '1': its weight is not in the file as the layer has it"):
        audit_bipolar(graph, sites, missing)


def test_models_that_are_no_chain_name_the_layer(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    statistics(model)
    binary = bnnapps.binarize(model.eval(), "bnn", keep_first=1, keep_last=1)
    with pytest.raises(ExportError, match=r"layer '0'.*cannot become hardware: it computes on real numbers"):
        bnnapps.export.export(binary, torch.randn(2, 2, 6, 6), tmp_path / "m.onnx", dialect="qonnx", target="finn")
    assert not any(tmp_path.iterdir())


def test_the_record_beside_the_file_says_what_was_compared(tmp_path: Path) -> None:
    result, golden = for_target(dense(), "finn", tmp_path)
    record = json.loads(result.parity_path.read_text())
    assert record["levels"][-1]["level"] == "the file, node by node"
    assert record["levels"][-1]["sums"] == golden["sums"].size
