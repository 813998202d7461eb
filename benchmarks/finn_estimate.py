"""FINN's resource and cycle estimate for a file of `bnnapps export --target finn`, read back.

Needs finn-plus in an environment of its own. No Vivado: the builder asks where it is, and estimates do not use it.

    python benchmarks/finn_estimate.py export/qonnx-finn/model.onnx --fps 1000000
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

WORK = Path(tempfile.mkdtemp())
os.environ.setdefault("FINN_BUILD_DIR", str(WORK))
os.environ.setdefault("XILINX_VIVADO", str(WORK))
simulator: Any = types.ModuleType("finn.xsi")
simulator.SimEngine = object
sys.modules["finn.xsi"] = simulator

from finn.util.settings import initialize_dummy_settings

initialize_dummy_settings()

from finn.builder.build_dataflow import build_dataflow_cfg
from finn.builder.build_dataflow_config import DataflowBuildConfig, DataflowOutputType, estimate_only_dataflow_steps
from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.general import GiveReadableTensorNames, GiveUniqueNodeNames
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.insert_topk import InsertTopK
from qonnx.util.cleanup import cleanup_model


def estimate(path: Path, fps: int, part: str, clock_ns: float) -> dict[str, Any]:
    """Totals of the estimate for one network.

    The builder's first step looks for other operators than BipolarQuant, so FINN's own conversion comes before it.
    """
    model = cleanup_model(ModelWrapper(str(path)))
    steps = (ConvertQONNXtoFINN(), InferShapes(), GiveUniqueNodeNames(), GiveReadableTensorNames(), InsertTopK(1))
    for step in (*steps, InferShapes()):
        model = model.transform(step)
    model.save(str(WORK / "converted.onnx"))
    out = WORK / "estimate"
    config = DataflowBuildConfig(
        output_dir=str(out),
        synth_clk_period_ns=clock_ns,
        target_fps=fps,
        fpga_part=part,
        steps=estimate_only_dataflow_steps,
        generate_outputs=[DataflowOutputType.ESTIMATE_REPORTS],
    )
    if build_dataflow_cfg(str(WORK / "converted.onnx"), config) != 0:
        raise SystemExit(f"FINN did not finish: see {out / 'build_dataflow.log'}")
    total = json.loads((out / "report" / "estimate_layer_resources.json").read_text())["total"]
    speed = json.loads((out / "report" / "estimate_network_performance.json").read_text())
    return {
        "LUT": round(total["LUT"]),
        "BRAM18": round(total["BRAM_18K"]),
        "DSP": round(total["DSP"]),
        "cycles of the slowest layer": speed["max_cycles"],
        "inferences a second": round(speed["estimated_throughput_fps"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--fps", type=int, default=100_000, help="for which the builder folds")
    parser.add_argument("--part", default="xc7z020clg400-1")
    parser.add_argument("--clock-ns", type=float, default=10.0)
    chosen = parser.parse_args()
    start = time.perf_counter()
    found = estimate(chosen.model.resolve(), chosen.fps, chosen.part, chosen.clock_ns)
    facts = ", ".join(f"{name} {value:,}" for name, value in found.items())
    seconds = time.perf_counter() - start
    print(f"{chosen.model} on {chosen.part} at {chosen.clock_ns:g} ns, estimate: {facts} ({seconds:.1f} s)")


if __name__ == "__main__":
    main()
