from __future__ import annotations

import tempfile

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from packed_cases import cases, model_of, same
from packed_sessions import LEVELS, plain_session

from bnnapps.export.runtime.functions import OP_TYPES, function, functions


@pytest.mark.parametrize("op_type", OP_TYPES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_body_is_exact_in_a_plain_onnx_runtime_at_every_level(op_type: str, data: st.DataObject) -> None:
    case = data.draw(cases(op_type))
    model = model_of(case, symbolic=data.draw(st.booleans()), opset=data.draw(st.sampled_from([18, 20, 23])))
    onnx.checker.check_model(model, full_check=True)
    for level in LEVELS:
        same(plain_session(model, level).run(None, case.feeds), case.expected)


@pytest.mark.parametrize("op_type", OP_TYPES)
@settings(max_examples=15)
@given(data=st.data())
def test_a_body_is_exact_in_the_reference_evaluator(op_type: str, data: st.DataObject) -> None:
    case = data.draw(cases(op_type))
    if "Transpose" in op_type:  # onnx's own ConvTranspose knows no empty batch and is wrong about groups
        assume(case.inputs["X"].shape[0] and case.attributes["group"] == 1)
    same(ReferenceEvaluator(model_of(case)).run(None, case.feeds), case.expected)


@pytest.mark.parametrize("op_type", sorted(set(OP_TYPES) - {"Pack", "Unpack"}))
@settings(max_examples=5)
@given(data=st.data())
def test_shape_inference_finds_ranks_and_types_through_a_body(op_type: str, data: st.DataObject) -> None:
    case = data.draw(cases(op_type))
    model = model_of(case)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for output, expected in zip(inferred.graph.output, case.expected, strict=True):
        assert output.type.tensor_type.elem_type == onnx.helper.np_dtype_to_tensor_dtype(expected.dtype)
        assert len(output.type.tensor_type.shape.dim) == expected.ndim


@pytest.mark.parametrize("op_type", [name for name in OP_TYPES if name.startswith(("BinaryConv", "BinaryDense"))])
@settings(max_examples=5, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_onnx_runtime_unpacks_a_weight_once_at_load(op_type: str, data: st.DataObject) -> None:
    case = data.draw(cases(op_type))
    assume(case.fed == ("X",))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/optimized.onnx"
        plain_session(model_of(case), LEVELS[1], path)
        graph = onnx.load(path).graph
    product = next(node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "MatMul"))
    constants = {tensor.name: tensor for tensor in graph.initializer}
    assert "weight" not in constants
    assert set(np.unique(onnx.numpy_helper.to_array(constants[product.input[1]]))) <= {-1.0, 1.0}


@pytest.mark.parametrize("op_type", [name for name in OP_TYPES if name.startswith("BinaryConv")])
@settings(max_examples=5, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_one_session_takes_any_batch(op_type: str, data: st.DataObject) -> None:
    case = data.draw(cases(op_type))
    assume(case.fed == ("X",) and case.inputs["X"].shape[0] > 1)
    session = plain_session(model_of(case), LEVELS[3])
    same(session.run(None, case.feeds), case.expected)
    for batch in (0, 1):
        feeds = {"X": case.inputs["X"][:batch]}
        same(session.run(None, feeds), tuple(output[:batch] for output in case.expected))


def test_unknown_operators_and_old_opsets_are_refused() -> None:
    with pytest.raises(KeyError, match="BinaryNothing"):
        functions(["Pack", "BinaryNothing"])
    with pytest.raises(ValueError, match="opset 18"):
        function("Pack", 17)


def test_functions_come_once_and_in_one_order() -> None:
    names = [body.name for body in functions(["Unpack", "Pack", "Unpack"])]
    assert names == ["Pack", "Unpack"]
    assert [body.name for body in functions(OP_TYPES)] == list(OP_TYPES)
