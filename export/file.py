"""Reading an exported file: what is wrong with it is said in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto

import bnnapps
from bnnapps.errors import ExportError
from bnnapps.export.ir.operators import DOMAIN
from bnnapps.export.ir.operators import VERSION as OPERATORS_VERSION
from bnnapps.export.passes.metadata import VERSION


def read_model(path: str | os.PathLike[str]) -> ModelProto:
    """An ONNX file, checked to be one that this version understands. Data in files beside it is not read.

    Raises:
        ExportError: the file is missing, damaged, no ONNX file, or was written by a newer version.

    """
    file = Path(path)
    if file.is_dir():
        raise ExportError(f"'{file}' is a folder: name a file in it")
    if not file.is_file():
        raise ExportError(f"there is no file '{file}': export a model to it first")
    try:
        model = onnx.load_model(file, load_external_data=False)
    except DecodeError:
        raise ExportError(f"'{file}' is damaged, or no ONNX file: export the model again") from None
    written_by = metadata_of(model).get(VERSION)
    if written_by is not None and _numbers(written_by) > _numbers(bnnapps.__version__):
        raise ExportError(
            f"'{file}' was written by bnnapps {written_by}, and this is {bnnapps.__version__}: update bnnapps"
        )
    if not model.graph.node or not model.opset_import:
        raise ExportError(f"'{file}' holds no ONNX graph: export the model again")
    packed = packed_version(model)
    if packed > OPERATORS_VERSION:
        raise ExportError(
            f"'{file}' has operators of version {packed} of the domain '{DOMAIN}', and this is version "
            f"{OPERATORS_VERSION}: update bnnapps"
        )
    return model


def metadata_of(model: ModelProto) -> dict[str, str]:
    """What a file says about itself."""
    return {item.key: item.value for item in model.metadata_props}


def packed_version(model: ModelProto) -> int:
    """The version of the operators on bits that a file uses, 0 where it uses none."""
    return next((one.version for one in model.opset_import if one.domain == DOMAIN), 0)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
