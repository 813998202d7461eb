"""From the deployed form to ONNX, with PyTorch's own exporter."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
import torch
from onnxscript.optimizer import optimize_ir
from torch import Tensor, nn

from bnnapps.errors import ExportError
from bnnapps.export.detectors import suppression
from bnnapps.export.graph.inputs import Inputs
from bnnapps.export.graph.mark import translation

PREFIX = "model."
"""What the names of parameters start with in a traced graph."""


class _Flat(nn.Module):
    """Tensors in, tensors out: the form that a graph has."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model = model
        self._inputs = inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self._inputs.tensors, tensors, strict=True))
        return tuple(outputs_of(self._inputs.call(self.model, named)).values())


def outputs_of(output: Any) -> dict[str, Tensor]:
    """The tensors of a model's output by name: the keys of a mapping, "output" for a single tensor."""
    leaves, _ = torch.utils._pytree.tree_flatten_with_path(output)
    found: dict[str, Tensor] = {}
    for path, leaf in leaves:
        if isinstance(leaf, Tensor):
            name = "_".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
            found[name if name and not name.isdigit() else f"output_{name}" if name else "output"] = leaf
    return found


def trace(model: nn.Module, inputs: Inputs, opset: int, sequence: bool) -> ir.Model:
    """The ONNX graph of a deployed model, with its marks, simplified by onnxscript's optimizer.

    Args:
        model: in eval mode.
        inputs: the example; its first rows are what the model is traced with.
        opset: the version of the operator set.
        sequence: whether the sequence axis is dynamic, beside the batch axis.

    Raises:
        ExportError: PyTorch's exporter cannot express the model; its reason is named.

    """
    example = inputs.tensors
    if inputs.batch:
        # Sizes of 1 would become constants, and two dynamic axes of one size could be taken for the same.
        batch = 3 if inputs.sequence == 2 else 2
        length = max(inputs.sequence, 4) if sequence and inputs.sequence else None
        example = inputs.sample(batch, length)
    with torch.no_grad():
        outputs = list(outputs_of(inputs.call(model, example)))
    names = [f"{name}_out" if name in example else name for name in outputs]
    axes = inputs.axes(sequence)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                _Flat(model, inputs).eval(),
                tuple(example.values()),
                input_names=list(example),
                output_names=names,
                opset_version=opset,
                dynamo=True,
                dynamic_shapes=(tuple(axes.values()),) if inputs.batch else None,
                custom_translation_table=translation() | suppression.translation(),
                optimize=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as problem:
        raise ExportError(f"PyTorch cannot export this model: {_reason(problem)}") from problem
    assert program is not None
    graph: ir.Model = program.model
    with _quiet():
        optimize_ir(graph, should_fold=_folds)
    return graph


def _folds(node: ir.Node) -> bool | None:
    """Leave a constant that repeats rows of a smaller one: the file stays small, and a runtime folds it as it loads."""
    if node.op_type != "Gather" or node.inputs[0] is None or node.inputs[0].const_value is None:
        return None
    table, shape = node.inputs[0].const_value, node.outputs[0].shape
    if shape is None or not shape.is_static():
        return None
    return False if math.prod(shape.numpy()) > 2 * table.size else None


def _reason(problem: BaseException) -> str:
    """The first line of what went wrong first."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0] if lines else ''}"


_NOISE = (
    (".isinstance.treespec, LeafSpec.", FutureWarning),
    ("# The axis name: .* will not be used", UserWarning),
)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress and hints; the fused path of encoder layers, which has no ONNX form, is off."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message, category in _NOISE:
                warnings.filterwarnings("ignore", message=message, category=category)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
