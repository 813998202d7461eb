"""FINN's own transformations on a file of `bnnapps export --target finn`: XNOR and popcount, with the same classes?

Needs finn-plus in an environment of its own; no Vivado.

    python benchmarks/finn_streamline.py export/qonnx-finn/model.onnx
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("FINN_BUILD_DIR", tempfile.mkdtemp())

from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
from finn.transformation.streamline import Streamline, absorb
from finn.transformation.streamline.reorder import MakeMaxPoolNHWC, MoveScalarLinearPastInvariants
from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.bipolar_to_xnor import ConvertBipolarMatMulToXnorPopcount
from qonnx.transformation.general import GiveReadableTensorNames, GiveUniqueNodeNames, RemoveUnusedTensors
from qonnx.transformation.infer_data_layouts import InferDataLayouts
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.insert_topk import InsertTopK
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
from qonnx.util.cleanup import cleanup_model

NAMES = (GiveUniqueNodeNames, GiveReadableTensorNames)
FRONT = (ConvertQONNXtoFINN, InferShapes, *NAMES, lambda: InsertTopK(1), InferShapes)
DENSE = (
    Streamline,
    ConvertBipolarMatMulToXnorPopcount,
    absorb.AbsorbAddIntoMultiThreshold,
    absorb.AbsorbMulIntoMultiThreshold,
    absorb.AbsorbScalarMulAddIntoTopK,
)
CONVOLUTIONAL = (
    absorb.AbsorbScalarMulAddIntoTopK,
    MoveScalarLinearPastInvariants,
    Streamline,
    LowerConvsToMatMul,
    MakeMaxPoolNHWC,
    absorb.AbsorbTransposeIntoMultiThreshold,
    MakeMaxPoolNHWC,
    absorb.AbsorbConsecutiveTransposes,
    ConvertBipolarMatMulToXnorPopcount,
    Streamline,
    absorb.AbsorbTransposeIntoFlatten,
    absorb.AbsorbTransposeIntoMultiThreshold,
    absorb.AbsorbScalarMulAddIntoTopK,
)
BACK = (RoundAndClipThresholds, InferDataTypes, InferDataLayouts, RemoveUnusedTensors)


def classes(model: Any, codes: np.ndarray) -> np.ndarray:
    """The class that the streamlined network chooses for each row of codes."""
    name = model.graph.input[0].name
    if model.get_tensor_datatype(name) == DataType["BINARY"]:  # FINN counts bits where the file has -1 and +1
        codes = (codes + 1) / 2
    return np.array([int(next(iter(execute_onnx(model, {name: row[None]}).values())).ravel()[0]) for row in codes])


def main(path: Path) -> int:
    """Streamline, compare, print one line."""
    start = time.perf_counter()
    model = cleanup_model(ModelWrapper(str(path)))
    convolutional = any(node.op_type == "Conv" for node in model.graph.node)
    for make in (*FRONT, *(CONVOLUTIONAL if convolutional else DENSE), *BACK):
        model = model.transform(make())
    with np.load(path.with_suffix(".golden.npz")) as golden:
        same = classes(model, golden["codes"]) == golden["classes"]
    kinds = Counter(node.op_type for node in model.graph.node)
    print(f"{path}: {dict(kinds)}; {time.perf_counter() - start:.1f} s; classes equal for {same.sum()} of {same.size}")
    return 0 if same.all() and kinds["XnorPopcountMatMul"] else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
