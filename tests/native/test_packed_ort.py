from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from packed_cases import Case, cases, model_of, same
from packed_reference import bits_of_map, weight_bits
from packed_sessions import LEVELS, kernel_session, plain_session

from bnnapps.export.runtime.functions import DOMAIN, OP_TYPES, VERSION, functions

THREADS = st.sampled_from([1, 2, 3])


@pytest.mark.parametrize("op_type", OP_TYPES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_kernel_computes_what_its_specification_says(op_type: str, data: st.DataObject) -> None:
    case = data.draw(cases(op_type))
    model = model_of(case, symbolic=data.draw(st.booleans()), opset=data.draw(st.sampled_from([18, 21])))
    session = kernel_session(model, data.draw(st.sampled_from(LEVELS)), data.draw(THREADS))
    same(session.run(None, case.feeds), case.expected)


@pytest.mark.parametrize("op_type", OP_TYPES)
@settings(max_examples=15)
@given(data=st.data())
def test_kernel_and_function_agree(op_type: str, data: st.DataObject) -> None:
    case = data.draw(cases(op_type))
    model = model_of(case)
    same(kernel_session(model).run(None, case.feeds), tuple(plain_session(model).run(None, case.feeds)))


@pytest.mark.parametrize("op_type", OP_TYPES)
@settings(max_examples=3)
@given(data=st.data())
def test_the_kernel_is_what_runs(op_type: str, data: st.DataObject) -> None:
    case = data.draw(cases(op_type))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/optimized.onnx"
        kernel_session(model_of(case), optimized=path)
        nodes = onnx.load(path).graph.node
    assert [(node.domain, node.op_type) for node in nodes] == [(DOMAIN, op_type)]


@pytest.mark.parametrize("op_type", OP_TYPES)
@settings(max_examples=20)
@given(data=st.data())
def test_shapes_of_outputs_are_inferred(op_type: str, data: st.DataObject) -> None:
    case = data.draw(cases(op_type))
    symbolic = data.draw(st.booleans())
    model = model_of(case, symbolic=symbolic, bodies=False)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    shapes = [output.shape for output in kernel_session(model).get_outputs()]
    for shape, expected in zip(shapes, case.expected, strict=True):
        assert len(shape) == expected.ndim
        named = [size for size in shape if isinstance(size, str)]
        assert all(isinstance(size, str) or size == real for size, real in zip(shape, expected.shape, strict=True))
        assert symbolic or not named


def _chain(channels: int) -> onnx.ModelProto:
    """Pack, two convolutions that hand bits on, a pooling, a dense layer, with a batch of any size."""
    generator = np.random.default_rng(channels)

    def weight(*shape: int) -> np.ndarray:
        return weight_bits(generator.random(shape) < 0.5)

    window = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": [1] * 4, "group": 1, "low": -1.0}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2], "dilations": [1, 1], "pads": [0] * 4}
    constants = {
        "zero": np.zeros(1, np.float32),
        "w1": weight(40, channels, 3, 3),
        "t1": generator.integers(-9, 9, 40, dtype=np.int32),
        "w2": weight(33, 40, 3, 3),
        "t2": generator.integers(-9, 9, 33, dtype=np.int32),
        "w3": weight(10, 33),
    }

    def node(op_type: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(op_type, inputs, [output], domain=DOMAIN, **attributes)

    nodes = [
        node("Pack", ["X", "zero"], "a", axis=1),
        node("BinaryConvBits", ["a", "w1", "t1"], "b", channels=[channels], pad_value=0.0, **window),
        node("BinaryMaxPool", ["b"], "c", channels=[40], **pool),
        node("BinaryConvBits", ["c", "w2", "t2"], "d", channels=[40], pad_value=1.0, **window),
        node("BinaryDenseInteger", ["d", "w3"], "Y", channels=[33], low=-1.0),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, ["N", channels, 12, 12])],
        [helper.make_tensor_value_info("Y", onnx.TensorProto.INT32, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, VERSION)]
    bodies = functions({made.op_type for made in nodes})
    return helper.make_model(graph, opset_imports=opsets, functions=bodies, ir_version=9)


@pytest.mark.parametrize("channels", [3, 64])
def test_a_chain_that_exchanges_bits_keeps_the_name_of_its_batch(channels: int) -> None:
    model = _chain(channels)
    session, plain = kernel_session(model, threads=2), plain_session(model)
    assert session.get_outputs()[0].shape == ["N", 6, 6, 10]
    for batch in (1, 0, 3):
        x = np.random.default_rng(batch).normal(size=(batch, channels, 12, 12)).astype(np.float32)
        assert np.array_equal(session.run(None, {"X": x})[0], plain.run(None, {"X": x})[0])


def test_threads_share_a_session_and_sessions_share_the_library() -> None:
    model = _chain(33)
    generator = np.random.default_rng(0)
    feeds = [{"X": generator.normal(size=(1 + i % 3, 33, 12, 12)).astype(np.float32)} for i in range(48)]
    expected = [plain_session(model).run(None, feed)[0] for feed in feeds[:6]]
    expected = [expected[i % 6] if i < 6 else None for i in range(48)]
    sessions = [kernel_session(model, threads=2), kernel_session(model, threads=1)]
    alone = [sessions[1].run(None, feed)[0] for feed in feeds]
    for wanted, found in zip(expected, alone, strict=True):
        assert wanted is None or np.array_equal(wanted, found)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: sessions[i % 2].run(None, feeds[i % 48])[0], range(192)))
    assert all(np.array_equal(alone[i % 48], result) for i, result in enumerate(found))


@settings(max_examples=5, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_bits_that_lie_on_no_word_boundary_are_taken(data: st.DataObject) -> None:
    case = data.draw(cases("BinaryConvInteger"))
    x = case.inputs["X"]
    assume(x.size and case.fed == ("X",))
    storage = np.empty(x.size + 1, np.uint8)
    moved = storage[1:].reshape(x.shape)
    moved[...] = x
    assert moved.ctypes.data % 4
    same(kernel_session(model_of(case)).run(None, {"X": moved}), case.expected)


def test_thresholds_that_are_no_number_leave_every_code_low() -> None:
    x = np.array([[np.inf, 0.0, -np.inf, np.nan]], np.float32)
    case = Case("Pack", {"axis": 1}, {"X": x, "threshold": np.array([np.nan], np.float32)}, (), ("X",))
    expected = (np.zeros((1, 4), np.uint8),)
    model = model_of(Case(case.op_type, case.attributes, case.inputs, expected, case.fed))
    same(kernel_session(model).run(None, {"X": x}), expected)
    same(plain_session(model).run(None, {"X": x}), expected)


def test_the_largest_sums_are_exact() -> None:
    """All codes alike, so that every term has the same sign, with a window of 9 * 4096 terms."""
    attributes = {
        "kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": [1] * 4,
        "group": 1, "channels": [4096], "pad_value": 1.0, "low": -1.0,
    }  # fmt: skip
    x = np.ones((1, 4096, 2, 2), bool)
    w = np.stack([np.ones((4096, 3, 3), bool), np.zeros((4096, 3, 3), bool)])
    z = np.full((1, 2, 2, 2), 9 * 4096, np.int32) * np.array([1, -1], np.int32).reshape(1, 2, 1, 1)
    inputs = {"X": bits_of_map(x), "weight": weight_bits(w)}
    case = Case("BinaryConvInteger", attributes, inputs, (z,), ("X",))
    same(kernel_session(model_of(case)).run(None, case.feeds), case.expected)
