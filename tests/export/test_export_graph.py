"""Sites, cleaning and the audit, on one small traced graph that the tests break in every way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from export_models import two_layers

from bnnapps.errors import ExportError
from bnnapps.export.api import OPSET
from bnnapps.export.dialects import get_dialect
from bnnapps.export.dialects.portable import expected_constants, latent_arrays, layer_facts
from bnnapps.export.flow import Work, carry_out
from bnnapps.export.graph.freeze import settled
from bnnapps.export.graph.inputs import read_inputs, samples_of
from bnnapps.export.passes.audit import audit
from bnnapps.export.passes.clean import clean
from bnnapps.export.passes.metadata import describe
from bnnapps.export.passes.sites import lower_marks, marked_sites, runnable


@pytest.fixture(scope="module")
def traced() -> Work:
    model = settled(two_layers())
    inputs = read_inputs(model, torch.randn(2, 2, 4, 4), dynamic_batch=True)
    work = Work(model, inputs, samples_of(inputs, 0), OPSET, "portable")
    return carry_out(get_dialect("portable").steps[:2], work)[0]


@pytest.fixture(scope="module")
def finished(traced: Work) -> Work:
    graph = traced.onnx.clone()
    sites = lower_marks(graph)
    clean(graph, "net")
    describe(graph, "portable", layer_facts(traced.deployed))
    return dataclasses.replace(traced, graph=graph, sites=sites)


def test_every_quantizer_and_product_is_found_in_order(traced: Work) -> None:
    found = [(site.name, site.role) for site in marked_sites(traced.onnx)]
    assert found == [("0", "quantizer"), ("0", "product"), ("3", "quantizer"), ("3", "product")]


def test_marks_become_identities_in_a_copy(traced: Work) -> None:
    kinds = {node.op_type for node in runnable(traced.onnx).graph}
    assert "Identity" in kinds
    assert "Mark" not in kinds
    assert "Mark" in {node.op_type for node in traced.onnx.graph}


def test_values_at_sites_carry_the_names_of_the_layers(finished: Work) -> None:
    values = {value.name: value for node in finished.onnx.graph for value in node.outputs}
    assert [site.result for site in finished.sites] == ["0/codes", "0/integers", "3/codes", "3/integers"]
    for site in finished.sites:
        assert site.result in values
    assert values["0/integers"].dtype == ir.DataType.INT32
    assert values["0/product"].producer().op_type == "Conv"
    assert values["3/product"].producer().op_type == "MatMul"


def test_cleaned_graphs_name_parameters_as_the_model_does_and_keep_no_notes(finished: Work) -> None:
    graph = finished.onnx.graph
    assert {"0.product.weight", "3.product.weight", "1.running_mean"} <= set(graph.initializers)
    assert not any(node.metadata_props or node.doc_string for node in graph)
    assert dict(finished.onnx.opset_imports) == {"": OPSET}
    assert not finished.onnx.functions


def test_metadata_says_dialect_sign_and_layers(finished: Work) -> None:
    props = finished.onnx.metadata_props
    assert props["bnnapps.dialect"] == "portable"
    assert props["sign_zero"] == "+1"
    assert json.loads(props["bnnapps.layers"]) == {
        "0": {"kind": "conv2d", "exact": True, "terms": {"product": 18}},
        "3": {"kind": "linear", "exact": True, "terms": {"product": 64}},
    }


def check(work: Work, graph: ir.Model) -> None:
    audit(graph, work.sites, expected_constants(work.deployed))


def test_a_finished_graph_passes_the_audit(finished: Work) -> None:
    check(finished, finished.onnx.clone())


def producer(graph: ir.Model, name: str) -> ir.Node:
    return next(node for node in graph.graph for value in node.outputs if value.name == name)


def bare_sign(graph: ir.Model) -> None:
    codes = producer(graph, "3/codes")
    compare = codes.inputs[0].producer()
    sign = ir.node("Sign", [compare.inputs[0]])
    graph.graph.insert_before(codes, sign)
    codes.outputs[0].replace_all_uses_with(sign.outputs[0])
    graph.graph.remove(codes, safe=True)
    sign.outputs[0].name = "3/codes"


def strict_comparison(graph: ir.Model) -> None:
    producer(graph, "0/codes").inputs[0].producer().op_type = "Greater"


def arithmetic_sign(graph: ir.Model) -> None:
    codes = producer(graph, "0/codes")
    value = codes.outputs[0]
    same = ir.node("Mul", [codes.inputs[1], value])
    graph.graph.insert_after(codes, same)
    value.name = "before"
    same.outputs[0].name = "0/codes"
    producer(graph, "0/product").replace_input_with(0, same.outputs[0])


def swapped_signs(graph: ir.Model) -> None:
    codes = producer(graph, "0/codes")
    one, minus_one = codes.inputs[1], codes.inputs[2]
    codes.replace_input_with(1, minus_one)
    codes.replace_input_with(2, one)


def set_weight(graph: ir.Model, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    value = graph.graph.initializers[name]
    value.const_value = ir.tensor(np.ascontiguousarray(change(value.const_value.numpy())), name=name)


def flipped_weight(graph: ir.Model) -> None:
    def flip(codes: np.ndarray) -> np.ndarray:
        changed = codes.copy()
        changed[0, 0] *= -1
        return changed

    set_weight(graph, "3.product.weight", flip)


def scaled_weight(graph: ir.Model) -> None:
    set_weight(graph, "0.product.weight", lambda codes: codes * np.float32(0.5))


def no_barrier(graph: ir.Model) -> None:
    up = producer(graph, "0/sums")
    up.outputs[0].replace_all_uses_with(producer(graph, "0/product").outputs[0])
    graph.graph.remove(up, safe=True)


def product_read_twice(graph: ir.Model) -> None:
    up = producer(graph, "0/sums")
    reader = next(iter(up.outputs[0].consumers()))
    reader.replace_input_with(0, producer(graph, "0/product").outputs[0])


def real_operand(graph: ir.Model) -> None:
    product = producer(graph, "3/product")
    source = producer(graph, "3/codes").inputs[0].producer().inputs[0]
    product.replace_input_with(0, source)


def fused_bias(graph: ir.Model) -> None:
    product = producer(graph, "0/product")
    bias = graph.graph.initializers["1.bias"]
    fused = ir.node("Conv", [*product.inputs, bias], attributes=dict(product.attributes), name="fused")
    graph.graph.insert_before(product, fused)
    product.outputs[0].replace_all_uses_with(fused.outputs[0])
    graph.graph.remove(product, safe=True)
    fused.outputs[0].name = "0/product"


def custom_operator(graph: ir.Model) -> None:
    producer(graph, "0/codes").domain = "elsewhere"


def dangling_value(graph: ir.Model) -> None:
    producer(graph, "3/codes").outputs[0].name = "renamed"


@pytest.mark.parametrize(
    ("break_graph", "message"),
    [
        (bare_sign, "layer '3': its codes come from Sign, which is 0 at 0"),
        (strict_comparison, "layer '0': its codes come from Where\\(Greater"),
        (arithmetic_sign, "layer '0': its codes come from Mul instead of x >= constant"),
        (swapped_signs, "layer '0': its codes come from Where\\(GreaterOrEqual, \\(-1.0, 1.0\\)\\)"),
        (flipped_weight, "layer '3': the stored weight '3.product.weight' has 1 wrong codes"),
        (scaled_weight, "layer '0': the stored weight '0.product.weight' has 72 wrong codes"),
        (no_barrier, "layer '0': no barrier Cast\\(int32\\) -> Cast\\(float\\) behind its product"),
        (product_read_twice, "layer '0': no barrier"),
        (real_operand, "layer '3': the left operand of its product is not made of codes"),
        (fused_bias, "layer '0': its convolution adds a bias inside the exact product"),
        (custom_operator, "is elsewhere::Where, which is not plain ONNX"),
        (dangling_value, "layer '3': the value '3/codes' is not in the graph any more"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_audit_names_what_is_broken(finished: Work, break_graph: Callable[[ir.Model], None], message: str) -> None:
    graph = finished.onnx.clone()
    break_graph(graph)
    with pytest.raises(ExportError, match=message):
        check(finished, graph)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_audit_finds_a_latent_weight(finished: Work, transposed: bool) -> None:
    graph = finished.onnx.clone()
    latent = latent_arrays(finished.deployed)["3.weight"]
    stored = np.ascontiguousarray(latent.T if transposed else latent)
    graph.graph.register_initializer(ir.Value(name="left", const_value=ir.tensor(stored, name="left")))
    with pytest.raises(ExportError, match=r"the latent weight '3.weight' is in the file as 'left'"):
        check(finished, graph)


def test_the_audit_finds_an_embedding_without_its_codes(finished: Work) -> None:
    graph = finished.onnx.clone()
    table = np.ones((3, 2), dtype=np.int8)
    expected = dataclasses.replace(expected_constants(finished.deployed), tables={"words": table})
    with pytest.raises(ExportError, match=r"layer 'words': the codes of its rows are not in the file"):
        audit(graph, finished.sites, expected)


def test_a_border_that_is_no_code_is_refused(finished: Work) -> None:
    graph = finished.onnx.clone()
    product = producer(graph, "0/product")
    pads = ir.Value(name="pads", const_value=ir.tensor(np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int64)))
    half = ir.Value(name="half", const_value=ir.tensor(np.array(0.5, dtype=np.float32)))
    for value in (pads, half):
        graph.graph.register_initializer(value)
    padded = ir.node("Pad", [product.inputs[0], pads, half])
    graph.graph.insert_before(product, padded)
    product.replace_input_with(0, padded.outputs[0])
    with pytest.raises(ExportError, match=r"layer '0': the left operand of its product is not made of codes"):
        check(finished, graph)
