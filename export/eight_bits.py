"""The real layers in 8 bits: an option of the packed dialect that makes files smaller, and what it costs.

What stays real in a 1-bit network (stem, shortcuts, classifier) often fills most of its file. Here ONNX Runtime's
static quantization stores those weights in 8 bits, one scale an output channel, and computes with activations of 8
bits whose ranges come from calibration inputs. Nodes that run on bits are not touched.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from bnnapps.errors import ExportError, UsageError
from bnnapps.export.compare import argmax_agreement, largest_difference
from bnnapps.export.graph.inputs import Tensors
from bnnapps.export.session import run, serialized, session_of

CHOICES = (8, 32)

_OPERATORS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class EightBits:
    """What 8 bits for the real layers save and cost.

    Attributes:
        nodes: how many nodes compute in 8 bits.
        bytes_before, bytes_after: of the file.
        samples: how many calibration inputs (batches) there were, on which the two files were compared.
        max_abs_diff: the largest difference of the outputs.
        argmax_agreement: the share of rows whose largest output is in the same place; `None` for one column.

    """

    nodes: int
    bytes_before: int
    bytes_after: int
    samples: int
    max_abs_diff: float
    argmax_agreement: float | None


def check_bits(real_bits: int, dialect: str) -> None:
    """Whether the option fits.

    Raises:
        UsageError: another number of bits, or another dialect than the packed one.

    """
    if real_bits not in CHOICES:
        raise UsageError(f"real_bits is {real_bits}: real layers take 32 bits, or 8")
    if real_bits == 8 and dialect != "packed":
        raise UsageError(f"real_bits is an option of the packed dialect, not of '{dialect}'")


def with_eight_bits(model: ModelProto, calibration: Sequence[Tensors]) -> tuple[ModelProto, EightBits]:
    """A packed file whose real layers compute in 8 bits, and what that costs.

    Args:
        model: the file, with its function bodies.
        calibration: inputs like those that it will see; their ranges become those of the activations.

    Raises:
        ExportError: there is no real layer to quantize, or ONNX Runtime cannot quantize it.

    """
    constants = {one.name for one in model.graph.initializer}
    names = [n.name for n in model.graph.node if n.domain == "" and n.op_type in _OPERATORS and n.input[1] in constants]
    if not names:
        raise ExportError("real_bits is 8, but the network has no real convolution or linear layer left")
    quantized = _quantized(model, names, calibration)
    before, after = serialized(model), serialized(quantized)
    difference, agreements = 0.0, []
    old, new = session_of(before, "ALL"), session_of(after, "ALL")
    for tensors in calibration:
        pairs = list(zip(run(old, tensors, "ALL").values(), run(new, tensors, "ALL").values(), strict=True))
        difference = max(difference, *(largest_difference(b, a) for a, b in pairs))
        agreement = argmax_agreement(pairs[0][1], pairs[0][0])
        agreements += [] if agreement is None else [agreement]
    mean = sum(agreements) / len(agreements) if agreements else None
    return quantized, EightBits(len(names), len(before), len(after), len(calibration), difference, mean)


def _quantized(model: ModelProto, names: list[str], calibration: Sequence[Tensors]) -> ModelProto:
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Tensors] = iter(calibration)
            self.wanted = {one.name for one in model.graph.input}

        def get_next(self) -> dict[str, Any] | None:
            tensors = next(self.left, None)
            return None if tensors is None else {n: t.numpy() for n, t in tensors.items() if n in self.wanted}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        source.write_bytes(serialized(model))
        try:
            q.quantize_static(
                str(source),
                str(target),
                Reader(),
                quant_format=q.QuantFormat.QDQ,
                activation_type=q.QuantType.QUInt8,
                weight_type=q.QuantType.QInt8,
                per_channel=True,
                nodes_to_quantize=names,
            )
        except Exception as problem:  # its passes raise errors of many kinds
            reason = next(iter(str(problem).strip().splitlines()), type(problem).__name__)
            raise ExportError(f"ONNX Runtime cannot quantize the real layers: {reason}") from None
        found = onnx.load(target)
    found.metadata_props.extend([] if found.metadata_props else model.metadata_props)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that the quantization prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
