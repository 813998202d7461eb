"""Exporting a model, and loading what was exported."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from bnnapps.errors import ExportError, MissingExtraError, UsageError
from bnnapps.export.detectors import as_graph, images_of, is_detector
from bnnapps.export.dialects import get_dialect
from bnnapps.export.graph.exportable import check_exportable
from bnnapps.export.graph.freeze import settled
from bnnapps.export.graph.inputs import one_row, read_inputs

if TYPE_CHECKING:
    import onnxruntime

    from bnnapps.export.eight_bits import EightBits
    from bnnapps.export.flow import StepResult
    from bnnapps.export.parity import Parity

OPSET = 18
"""The version of ONNX's operator set: the one that PyTorch's exporter writes by itself."""

NEWEST_OPSET = 23

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportResult:
    """A finished export.

    Attributes:
        path: the file.
        dialect: its form.
        parity: how it compares with the model; also beside the file, as JSON.
        steps: the steps that led to it, and what their checks found.
        dynamic: the axes whose size is free, by input name.
        notes: what a user should know.
        eight_bits: what 8 bits for the real layers save and cost, where they were asked for.

    """

    path: Path
    dialect: str
    parity: Parity
    steps: tuple[StepResult, ...]
    dynamic: dict[str, dict[int, str]]
    notes: tuple[str, ...] = ()
    eight_bits: EightBits | None = None

    @property
    def parity_path(self) -> Path:
        """The JSON file with the parity record."""
        return parity_path(self.path)


def export(
    model: nn.Module,
    example_inputs: Any,
    path: str | os.PathLike[str],
    dialect: str = "portable",
    dynamic_batch: bool = True,
    *,
    opset: int = OPSET,
    seed: int = 0,
    real_bits: int = 32,
    calibration: Sequence[Any] | None = None,
    target: str | None = None,
) -> ExportResult:
    """Write a model as ONNX, and prove that the file computes what the model computes.

    The model stays as it is; it is exported in eval mode, from the CPU. The file appears under its name only when every
    check has passed; beside it stands the parity record, `model.parity.json` for `model.onnx`.

    Args:
        model: a model that `binarize` made binary, or a float one.
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
        path: where the file goes.
        dialect: its form, see `list_steps`.
        dynamic_batch: the size of axis 0, which all inputs must share, is free. For a dict of inputs the length of
            2-dimensional integer ones (token numbers and masks) is free too, where the model allows it.
        opset: the version of ONNX's operator set, 18 to 23.
        seed: of the further random inputs that the file is checked with.
        real_bits: 8 for a smaller packed file: what stays real computes in 8 bits, at a cost that the result reports.
            The comparison with the model is made before, with 32.
        calibration: inputs in the form of `example_inputs`, from which the ranges for 8 bits come; without them, the
            example.
        target: who reads a file of the dialect "qonnx": "finn" or "hls4ml". Such a file takes the codes that a first
            quantizer would make; `model.golden.npz` beside it holds inputs, codes, sums, scores and classes.

    Raises:
        UsageError: an unknown dialect, target, opset or number of bits, or example inputs without a tensor.
        ExportError: the model cannot be exported, or the file would disagree with it; layer and level are named.
        MissingExtraError: a package of the extra "export" is not installed.

    """
    require_packages()
    chosen = get_dialect(dialect)
    if not OPSET <= opset <= NEWEST_OPSET:
        raise UsageError(f"opset is {opset}: PyTorch's exporter writes {OPSET} to {NEWEST_OPSET}")
    from bnnapps.export.eight_bits import check_bits, with_eight_bits

    check_bits(real_bits, dialect)
    path_to = _target(path)
    if target is not None:
        from bnnapps.export.qonnx.target import check_target

        check_target(target, dialect)
    problems = check_exportable(model)
    if problems:
        raise ExportError("this model cannot be exported: " + "; ".join(problems))

    import onnx_ir as ir

    from bnnapps.export.flow import begin, carry_out
    from bnnapps.export.passes.packed.carry import carry_functions
    from bnnapps.export.session import serialized

    own = settled(model)
    if is_detector(own):
        example_inputs = as_graph(own, example_inputs)
        calibration = None if calibration is None else [images_of(one) for one in calibration]
    if target is not None:
        from bnnapps.export.qonnx.target import for_target, start

        made = for_target(start(own, read_inputs(own, example_inputs, True), opset, seed), target, Path(path).stem)
        result = ExportResult(path_to, dialect, made.parity, made.steps, {}, made.notes)
        _write(result, serialized(made.model), made.golden)
        return result
    inputs = read_inputs(own, example_inputs, dynamic_batch or chosen.exchange)
    if chosen.exchange:
        inputs = one_row(inputs)
    work, results = carry_out(chosen.steps, begin(own, inputs, opset, dialect, seed))
    proto = carry_functions(ir.to_proto(work.onnx))
    parity = chosen.prove(proto, work)
    if chosen.exchange:
        del proto.functions[:]
    axes = {name: axis for name, axis in inputs.axes(work.sequence).items() if axis}
    cost = None
    if real_bits == 8:
        given = [example_inputs] if calibration is None else calibration
        proto, cost = with_eight_bits(proto, [read_inputs(own, one, dynamic_batch).tensors for one in given])
    result = ExportResult(path_to, dialect, parity, results, axes, work.notes, cost)
    _write(result, serialized(proto))
    return result


def list_steps(dialect: str = "portable") -> list[tuple[str, str]]:
    """The steps of a dialect in order: name, and what it does.

    Raises:
        UsageError: an unknown dialect.
        MissingExtraError: a package of the extra "export" is not installed.

    """
    require_packages()
    return [(step.name, step.does) for step in get_dialect(dialect).steps]


def load(
    path: str | os.PathLike[str],
    sess_options: onnxruntime.SessionOptions | None = None,
    *,
    kernels: bool | None = None,
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session for an exported file, on the CPU.

    A packed file runs on our kernels where they are installed, and else, with the same numbers, on the function bodies
    that it carries. QONNX's operators get bodies as the file is
    loaded, and without options its nodes are run one by one, as QONNX's executor does: fused, sums at a threshold may
    take the other side.

    Args:
        path: the file.
        sess_options: ONNX Runtime's options; without them, its own defaults. Kernels are registered in them.
        kernels: `None`: where they are installed; `False`: never; `True`: or raise.

    Raises:
        ExportError: the file is missing, damaged, no ONNX file, or was written by a newer version; or kernels that were
            asked for are not installed.
        MissingExtraError: a package of the extra "export" is not installed.

    """
    require_packages()

    from bnnapps.export.file import packed_version, read_model
    from bnnapps.export.passes.packed.carry import carry_functions
    from bnnapps.export.qonnx import domain as qonnx
    from bnnapps.export.session import open_session, serialized, unfused
    from bnnapps.kernels.library import library_path

    model = read_model(path)
    packed = packed_version(model)
    if kernels is None:
        kernels = packed > 0 and library_path() is not None
    if any(node.domain == qonnx.DOMAIN for node in model.graph.node):
        sess_options = unfused() if sess_options is None else sess_options
        return open_session(serialized(carry_functions(model)), sess_options, kernels)
    return open_session(os.fspath(path), sess_options, kernels)


def parity_path(path: Path) -> Path:
    """Where the parity record of a file is."""
    return path.with_suffix(".parity.json")


def golden_path(path: Path) -> Path:
    """Where a file for one importer has what it was held against."""
    return path.with_suffix(".golden.npz")


def require_packages() -> None:
    """Raise `MissingExtraError` if a package that exporting needs is not installed."""
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "export", "exporting to ONNX")


def _target(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"'{target}' is a folder: name a file, such as '{target / 'model.onnx'}'")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder '{target.parent}' to write '{target.name}' to: make it first")
    return target


def _write(result: ExportResult, data: bytes, golden: dict[str, Any] | None = None) -> None:
    """All files, or none: they are written under other names first."""
    record = {
        "file": result.path.name,
        "dialect": result.dialect,
        **result.parity.to_dict(),
        "steps": [asdict(step) for step in result.steps],
        "dynamic_axes": {name: list(axes.values()) for name, axes in result.dynamic.items()},
        "notes": list(result.notes),
        "real_bits": None if result.eight_bits is None else asdict(result.eight_bits),
    }
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    with contextlib.ExitStack() as files:
        files.enter_context(_whole(result.path)).write_bytes(data)
        files.enter_context(_whole(result.parity_path)).write_text(text, encoding="utf-8")
        if golden is not None:
            with files.enter_context(_whole(golden_path(result.path))).open("wb") as file:
                np.savez_compressed(file, **golden)


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A path to write to; the file takes its real name when the block ends well, and is gone when it does not."""
    part = target.with_name(target.name + ".part")
    try:
        yield part
        part.replace(target)
    except OSError as problem:
        raise ExportError(f"cannot write '{target}': {problem.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
