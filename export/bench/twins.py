"""The int8 twin of a float file."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from bnnapps.errors import ExportError
from bnnapps.export.bench.feeds import Feeds


def int8_twin(source: Path, target: Path, feeds: Feeds) -> None:
    """Quantize a float file statically, as ONNX Runtime does it: weights of 8 bits with a sign, activations without.

    The calibration sees made-up inputs: they fix the scales, which the latency does not depend on. The accuracy of
    this file means nothing.

    Args:
        source: a float file.
        target: where the int8 file goes.
        feeds: inputs of the float file.

    Raises:
        ExportError: ONNX Runtime cannot quantize the file.

    """
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Once(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Feeds] = iter((feeds,))

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            q.quantize_static(
                str(prepared),
                str(target),
                Once(),
                quant_format=q.QuantFormat.QDQ,
                activation_type=q.QuantType.QUInt8,
                weight_type=q.QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=_operators(prepared),
            )
    except Exception as problem:  # its passes raise errors of many kinds
        reason = next(iter(str(problem).strip().splitlines()), type(problem).__name__)
        raise ExportError(f"ONNX Runtime cannot quantize '{source}': {reason}") from None


def _operators(prepared: Path) -> list[str] | None:
    """What to quantize so that the twin is fast: a network of convolutions whole, of another one its products alone."""
    found = {node.op_type for node in onnx.load_model(prepared, load_external_data=False).graph.node}
    return None if "Conv" in found else ["MatMul", "Gemm"]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that the quantization prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
