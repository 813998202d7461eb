"""Running ONNX graphs in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import ModelProto
from torch import Tensor

from bnnapps.errors import ExportError
from bnnapps.kernels.library import library_path

Arrays = dict[str, npt.NDArray[Any]]

LARGEST_FILE = 2**31 - 1

LEVELS: dict[str, Any] = {
    name.removeprefix("ORT_").removeprefix("ENABLE_"): level
    for name, level in ort.GraphOptimizationLevel.__members__.items()
}
"""The graph-optimisation levels of this ONNX Runtime by name: DISABLE_ALL, BASIC, EXTENDED, (LAYOUT,) ALL."""


def session_of(model: bytes, level: str, kernels: bool = False) -> Any:
    """An inference session on the CPU at the given level, with our kernels if asked for.

    Raises:
        ExportError: ONNX Runtime does not take the graph.

    """
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 3  # errors
    if kernels:
        register(options)
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except REFUSALS as problem:
        raise ExportError(f"ONNX Runtime does not take the exported graph at {level}: {first_line(problem)}") from None


def unfused() -> Any:
    """Options for a session that runs the nodes of a graph as they are."""
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS["DISABLE_ALL"]
    return options


def register(options: Any) -> None:
    """Let a session run the operators of packed files on our kernels.

    Raises:
        ExportError: the library is not installed, or does not fit this ONNX Runtime.

    """
    path = library_path()
    if path is None:
        raise ExportError("the kernels are not installed: see `bnnapps runtime info`")
    try:
        options.register_custom_ops_library(str(path))
    except REFUSALS as problem:
        raise ExportError(f"the kernels do not fit this ONNX Runtime: {first_line(problem)}") from None


def open_session(path: str | bytes, options: Any = None, kernels: bool = False) -> Any:
    """An inference session for a file or its content, on the CPU, with our kernels if asked for.

    Raises:
        ExportError: ONNX Runtime does not take the file.

    """
    options = ort.SessionOptions() if options is None else options
    if kernels:
        register(options)
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except REFUSALS as problem:
        name = "the file" if isinstance(path, bytes) else f"'{path}'"
        raise ExportError(f"ONNX Runtime cannot load {name}: {first_line(problem)}") from None


def run(session: Any, tensors: dict[str, Tensor], level: str = "DISABLE_ALL") -> dict[str, Tensor]:
    """The session's outputs by name. Inputs that the graph has no use for are left out.

    Raises:
        ExportError: ONNX Runtime cannot compute the graph for these inputs.

    """
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    fed: Arrays = {name: np.ascontiguousarray(t.numpy()) for name, t in tensors.items() if name in wanted}
    try:
        results = session.run(names, fed)
    except REFUSALS as problem:
        shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in fed.items())
        raise ExportError(
            f"ONNX Runtime cannot run the exported graph at {level} on {shapes}: {first_line(problem)}"
        ) from None
    return {name: torch.from_numpy(np.asarray(result)) for name, result in zip(names, results, strict=True)}


def probe(model: ModelProto, values: set[str]) -> ModelProto:
    """A copy of the graph that also hands out the given values. Values that are graph inputs are left out."""
    copy = ModelProto()
    copy.CopyFrom(model)
    known = {v.name for v in copy.graph.output} | {v.name for v in copy.graph.input}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(values - known))
    return copy


def serialized(model: ModelProto) -> bytes:
    """The bytes of a file.

    Raises:
        ExportError: they are more than one file of this format can hold.

    """
    size = model.ByteSize()
    if size > LARGEST_FILE:
        raise ExportError(f"the exported model takes {size} bytes; one ONNX file holds at most {LARGEST_FILE}")
    data: bytes = model.SerializeToString()
    return data


def _refusals() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "EPFail",
        "EngineError",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    return tuple(getattr(state, name) for name in names if hasattr(state, name))


REFUSALS = _refusals()
"""What ONNX Runtime raises for a graph, or inputs, that it does not take."""


def first_line(problem: Exception) -> str:
    """What an error says, without what follows."""
    return next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
