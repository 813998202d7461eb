"""Bi-Real-18 built from OpenVINO's BinaryConvolution, beside our packed file of the same network, in turns.

Weights are random: latency does not depend on them. Needs `pip install openvino`.

    python benchmarks/runtime.py --out runs/runtime --nets bireal18 --export-only
    python benchmarks/openvino_network.py --packed runs/runtime/bireal18/packed.onnx
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import openvino as ov  # type: ignore[import-not-found]
from openvino import opset1 as op

from bnnapps.export.session import register

WIDTHS = (64, 128, 256, 512)
_RNG = np.random.default_rng(0)


def _real_conv(x: Any, outputs: int, kernel: int, stride: int) -> Any:
    """A float convolution with the scale and shift of a BatchNorm."""
    inputs = x.get_output_partial_shape(0)[1].get_length()
    weight = _RNG.standard_normal((outputs, inputs, kernel, kernel)).astype(np.float32)
    pad = [kernel // 2] * 2
    return _affine(op.convolution(x, weight, [stride] * 2, pad, pad, [1, 1]), outputs)


def _binary_conv(x: Any, outputs: int, stride: int) -> Any:
    """Sign, 3x3 convolution of signs with zero padding, scale and shift."""
    inputs = x.get_output_partial_shape(0)[1].get_length()
    low, high, limit = (np.array(v, np.float32) for v in (0.0, 1.0, 0.0))
    codes = op.fake_quantize(x, limit, limit, low, high, levels=2)
    tensor = ov.Tensor(ov.Type.u1, ov.Shape([outputs, inputs, 3, 3]))
    bits = (_RNG.random(outputs * inputs * 9) < 0.5).astype(np.uint8)
    tensor.data[:] = np.packbits(bits, bitorder="little")
    y = op.binary_convolution(codes, ov.op.Constant(tensor), [stride] * 2, [1, 1], [1, 1], [1, 1], "xnor-popcount", 0.0)
    return _affine(y, outputs)


def _affine(x: Any, channels: int) -> Any:
    scale, shift = (_RNG.random((1, channels, 1, 1)).astype(np.float32) for _ in range(2))
    return op.add(op.multiply(x, scale), shift)


def bireal18(batch: int) -> ov.Model:
    """The network at 224 x 224: float stem, shortcuts and classifier, sixteen binary convolutions."""
    x = image = op.parameter([batch, 3, 224, 224], np.float32)
    y = op.max_pool(op.relu(_real_conv(x, 64, 7, 2)), [2, 2], [1, 1], [1, 1], [3, 3])
    width = 64
    for number, channels in enumerate(WIDTHS):
        for block in range(2):
            stride = 2 if number and not block else 1
            short = y
            if stride == 2 or width != channels:
                short = _real_conv(op.avg_pool(y, [2, 2], [0, 0], [0, 0], [2, 2], True), channels, 1, 1)
            y = op.add(_binary_conv(y, channels, stride), short)
            y = op.add(_binary_conv(y, channels, 1), y)
            width = channels
    mean = op.reduce_mean(y, np.array([2, 3]), False)
    return ov.Model([op.matmul(mean, _RNG.standard_normal((512, 1000)).astype(np.float32), False, False)], [image])


def openvino_call(batch: int, threads: int) -> Callable[[], Any]:
    """One inference of OpenVINO's build."""
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(bireal18(batch), "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(_RNG.standard_normal((batch, 3, 224, 224)).astype(np.float32)))
    return lambda: request.infer()


def packed_call(path: Path, batch: int, threads: int) -> Callable[[], Any]:
    """One inference of our file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    register(options)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = _RNG.standard_normal((batch, 3, 224, 224)).astype(np.float32)
    return lambda: session.run(None, {session.get_inputs()[0].name: x})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--packed", type=Path, required=True, help="the packed file of Bi-Real-18")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args(arguments)
    print("| threads | batch | packed ms | OpenVINO ms | OpenVINO / packed |\n|---:|---:|---:|---:|---:|")
    for threads in options.threads:
        for batch in options.batches:
            calls = {"packed": packed_call(options.packed, batch, threads), "OpenVINO": openvino_call(batch, threads)}
            times: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(options.rounds):
                for name, call in calls.items():
                    call()
                    began = time.perf_counter()
                    call()
                    times[name].append(1e3 * (time.perf_counter() - began))
            ours, theirs = (statistics.median(times[name]) for name in ("packed", "OpenVINO"))
            print(f"| {threads} | {batch} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.2f}x |", flush=True)


if __name__ == "__main__":
    main()
