"""Sessions of ONNX Runtime with our kernels."""

from __future__ import annotations

import onnx
import onnxruntime as ort

from bnnapps.kernels import library

LEVELS = (
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
)


def kernel_session(
    model: onnx.ModelProto | bytes,
    level: ort.GraphOptimizationLevel = LEVELS[-1],
    threads: int = 1,
    optimized: str = "",
) -> ort.InferenceSession:
    """A session that runs the operators of the model on the kernels."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.optimized_model_filepath = optimized
    path = library.library_path()
    assert path is not None, "the kernels were not built"
    options.register_custom_ops_library(str(path))
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def plain_session(
    model: onnx.ModelProto, level: ort.GraphOptimizationLevel = LEVELS[-1], optimized: str = ""
) -> ort.InferenceSession:
    """A session that knows nothing of the kernels, and so runs the functions of the model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.optimized_model_filepath = optimized
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
