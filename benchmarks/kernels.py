"""Single binary layers in ONNX Runtime on our kernels, beside float32, int8, OpenVINO and Larq, in turns.

OpenVINO and Larq take part where they are installed (Larq 0.16 needs TensorFlow 2.15, numpy 1 and an environment of its
own).

Bits go in and come out of the packed layer, as between the layers of a network; the peers get and give their own type
(OpenVINO: floats, which it quantizes itself), and so does the packed layer of the column "floats in and out".
`--sweep` measures how the time grows with channels, pixels and threads, and draws it.

    python benchmarks/kernels.py --threads 1 2 --batches 1 8
    python benchmarks/kernels.py --threads 1 --isa avx2
    python benchmarks/kernels.py --sweep docs/results/runtime_sweep.svg
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from bnnapps.export.bench.bound import popcount_bound
from bnnapps.export.ir.bits import WORD, pack_weight, words
from bnnapps.export.runtime.functions import DOMAIN, VERSION, functions
from bnnapps.export.session import register
from bnnapps.kernels.library import isa, set_isa


@dataclass(frozen=True)
class Shape:
    """A convolution over a square map; a product of matrices is one of 1x1 with a pixel a row."""

    name: str
    pixels: int
    channels: int
    outputs: int
    kernel: int

    def size(self) -> tuple[int, int]:
        """Height and width."""
        return (self.pixels, self.pixels) if self.kernel > 1 or self.pixels < 100 else (self.pixels, 1)

    def macs(self, batch: int) -> int:
        """Multiply-adds, padded taps included."""
        height, width = self.size()
        return batch * height * width * self.channels * self.outputs * self.kernel**2


SHAPES = (
    Shape("3x3 56x56 64", 56, 64, 64, 3),
    Shape("3x3 28x28 128", 28, 128, 128, 3),
    Shape("3x3 14x14 256", 14, 256, 256, 3),
    Shape("3x3 7x7 512", 7, 512, 512, 3),
    Shape("1x1 14x14 256-512", 14, 256, 512, 1),
    Shape("128x768x768", 128, 768, 768, 1),
    Shape("128x768x3072", 128, 768, 3072, 1),
    Shape("128x3072x768", 128, 3072, 768, 1),
)

Call = Callable[[], None]


def packed_call(shape: Shape, batch: int, threads: int) -> Call:
    """The packed layer: bits in, bits out."""
    rng = np.random.default_rng(0)
    codes = np.where(rng.random((shape.outputs, shape.channels * shape.kernel**2)) < 0.5, 1, -1)
    constants = {"w": pack_weight(codes), "t": np.zeros(shape.outputs, np.int32)}
    height, width = shape.size()
    pad = shape.kernel // 2
    node = helper.make_node(
        "BinaryConvBits",
        ["x", "w", "t"],
        ["y"],
        domain=DOMAIN,
        kernel_shape=[shape.kernel] * 2,
        strides=[1, 1],
        dilations=[1, 1],
        pads=[pad] * 4,
        group=1,
        channels=[shape.channels],
        pad_value=0.0,
        low=-1.0,
    )
    x = rng.integers(0, 256, (batch, height, width, WORD * words(shape.channels)), dtype=np.uint8)
    out = [batch, height, width, WORD * words(shape.outputs)]
    return _session([node], constants, x, TensorProto.UINT8, out, threads, kernels=True)


def real_call(shape: Shape, batch: int, threads: int) -> Call:
    """The packed layer with floats on both sides, channels first: what a float layer would be replaced by alone."""
    rng = np.random.default_rng(0)
    codes = np.where(rng.random((shape.outputs, shape.channels * shape.kernel**2)) < 0.5, 1, -1)
    vectors = {"s": rng.random(shape.outputs).astype(np.float32), "b": rng.random(shape.outputs).astype(np.float32)}
    neutral = {"zero": np.zeros(1, np.float32), "one": np.ones(1, np.float32)}
    height, width = shape.size()
    geometry = {
        "kernel_shape": [shape.kernel] * 2,
        "strides": [1, 1],
        "dilations": [1, 1],
        "pads": [shape.kernel // 2] * 4,
        "group": 1,
        "channels": [shape.channels],
        "pad_value": 0.0,
        "low": -1.0,
    }
    names = ["p", "w", "s", "b", "zero", "zero", "one", "zero"]
    nodes = [
        helper.make_node("Pack", ["x", "zero"], ["p"], domain=DOMAIN, axis=1),
        helper.make_node("BinaryConvFloat", names, ["y"], domain=DOMAIN, **geometry),
    ]
    x = rng.standard_normal((batch, shape.channels, height, width)).astype(np.float32)
    constants = {"w": pack_weight(codes), **vectors, **neutral}
    return _session(nodes, constants, x, TensorProto.FLOAT, [batch, shape.outputs, height, width], threads, True)


def float_call(shape: Shape, batch: int, threads: int) -> Call:
    """The same layer in float32."""
    rng = np.random.default_rng(0)
    height, width = shape.size()
    weight = rng.standard_normal((shape.outputs, shape.channels, shape.kernel, shape.kernel)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[shape.kernel // 2] * 4)
    x = rng.standard_normal((batch, shape.channels, height, width)).astype(np.float32)
    return _session([node], {"w": weight}, x, TensorProto.FLOAT, [batch, shape.outputs, height, width], threads)


def int8_call(shape: Shape, batch: int, threads: int) -> Call:
    """The same layer in 8 bits: unsigned activations, signed weights, as ONNX Runtime is fastest."""
    rng = np.random.default_rng(0)
    height, width = shape.size()
    weight = rng.integers(-127, 128, (shape.outputs, shape.channels, shape.kernel, shape.kernel)).astype(np.int8)
    zero, one = np.uint8(0), np.float32(0.01)
    constants = {"w": weight, "s": one, "z": zero, "zw": np.int8(0)}
    names = ["x", "s", "z", "w", "s", "zw", "s", "z"]
    node = helper.make_node("QLinearConv", names, ["y"], pads=[shape.kernel // 2] * 4)
    x = rng.integers(0, 256, (batch, shape.channels, height, width)).astype(np.uint8)
    return _session([node], constants, x, TensorProto.UINT8, [batch, shape.outputs, height, width], threads)


def _session(
    nodes: list[Any],
    constants: dict[str, Any],
    x: Any,
    output: int,
    shape: list[int],
    threads: int,
    kernels: bool = False,
) -> Call:
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", kind, list(x.shape))],
        [helper.make_tensor_value_info("y", output, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(DOMAIN, VERSION)] if kernels else [])]
    model = helper.make_model(
        graph, opset_imports=opsets, functions=functions({n.op_type for n in nodes}) if kernels else []
    )
    model.ir_version = 9
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if kernels:
        register(options)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu")
    return lambda: session.run_with_iobinding(binding)


def openvino_call(shape: Shape, batch: int, threads: int) -> Call | None:
    """OpenVINO's BinaryConvolution of the same layer, its input quantized from floats; `None` where not installed."""
    try:
        import openvino as ov  # type: ignore[import-not-found]
        from openvino import opset1 as op
    except ImportError:
        return None
    rng = np.random.default_rng(0)
    height, width = shape.size()
    x = op.parameter([batch, shape.channels, height, width], np.float32)
    low, high, limit = (np.array(v, np.float32) for v in (0.0, 1.0, 0.0))
    codes = op.fake_quantize(x, limit, limit, low, high, levels=2)
    bits = (rng.random((shape.outputs, shape.channels, shape.kernel, shape.kernel)) < 0.5).astype(np.uint8)
    tensor = ov.Tensor(ov.Type.u1, ov.Shape(list(bits.shape)))
    tensor.data[:] = np.packbits(bits.reshape(-1), bitorder="little")
    weight = ov.op.Constant(tensor)
    pad = [shape.kernel // 2] * 2
    y = op.binary_convolution(codes, weight, [1, 1], pad, pad, [1, 1], "xnor-popcount", 0.0)
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(ov.Model([y], [x]), "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(rng.standard_normal((batch, shape.channels, height, width)).astype(np.float32)))
    return lambda: request.infer()


def larq_call(shape: Shape, batch: int, threads: int) -> Call | None:
    """Larq Compute Engine's layer, floats in and out, by its indirect kernel (the default one is far slower)."""
    try:
        import larq  # type: ignore[import-not-found]
        import larq_compute_engine as lce  # type: ignore[import-not-found]
        import tensorflow as tf  # type: ignore[import-not-found]
        from larq_compute_engine.tflite.python.interpreter import Interpreter  # type: ignore[import-not-found]
    except ImportError:
        return None
    tf.keras.utils.set_random_seed(0)
    height, width = shape.size()
    layer = larq.layers.QuantConv2D(
        shape.outputs,
        shape.kernel,
        padding="same",
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        use_bias=False,
    )
    inputs = tf.keras.Input((height, width, shape.channels), batch_size=batch)
    model = tf.keras.Model(inputs, tf.keras.layers.BatchNormalization()(layer(inputs)))
    interpreter = Interpreter(lce.convert_keras_model(model), num_threads=threads, use_indirect_bgemm=True)
    x = np.random.default_rng(0).standard_normal((batch, height, width, shape.channels)).astype(np.float32)
    return lambda: interpreter.predict(x)


PEERS: dict[str, Callable[[Shape, int, int], Call | None]] = {
    "packed": packed_call,
    "packed, floats": real_call,
    "float32": float_call,
    "int8": int8_call,
    "OpenVINO": openvino_call,
    "Larq": larq_call,
}


IN_A_ROW = 8
"""Calls that are timed together, with weights and inputs in the cache; one more goes before them."""


def measure(shape: Shape, batch: int, threads: int, rounds: int, names: Sequence[str]) -> dict[str, float]:
    """The median time of a call in microseconds, by name; all are called in turns, some calls in a row."""
    made = {name: PEERS[name](shape, batch, threads) for name in names}
    calls = {name: call for name, call in made.items() if call is not None}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            began = time.perf_counter()
            for _ in range(IN_A_ROW):
                call()
            times[name].append(1e6 * (time.perf_counter() - began) / IN_A_ROW)
    return {name: statistics.median(found) for name, found in times.items()}


def table(options: argparse.Namespace) -> None:
    """Print a Markdown table, a row as soon as it is measured."""
    bound = popcount_bound()
    print(f"instruction set: {isa()}")
    print(f"popcount bound of a thread: {'not known' if bound is None else f'{bound / 1e12:.2f} TMAC/s'}")
    print(
        "| layer | batch | threads | packed µs | of the bound | floats in and out | float32 | int8 | OpenVINO | Larq |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for threads in options.threads:
        for batch in options.batches:
            for shape in SHAPES:
                found = measure(shape, batch, threads, options.rounds, list(PEERS))
                ours = found["packed"]
                share = "" if bound is None else f"{shape.macs(batch) / (ours * 1e-6) / (bound * threads):.2f}"
                cells = [f"{found[n]:.0f} ({found[n] / ours:.1f}x)" if n in found else "" for n in list(PEERS)[1:]]
                print(
                    f"| {shape.name} | {batch} | {threads} | {ours:.1f} | {share} | {' | '.join(cells)} |", flush=True
                )


def sweep(options: argparse.Namespace) -> None:
    """Draw time against channels, pixels and threads."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    channels, pixels = (32, 64, 96, 128, 192, 256, 384, 512), (7, 10, 14, 20, 28, 40, 56)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for threads in options.threads:
        shapes = [Shape("", 14, c, c, 3) for c in channels]
        times = [measure(s, 1, threads, options.rounds, ["packed"])["packed"] for s in shapes]
        left.loglog([s.macs(1) / 1e6 for s in shapes], times, marker="o", label=f"{threads} thread{'s'[: threads - 1]}")
        shapes = [Shape("", p, 128, 128, 3) for p in pixels]
        times = [measure(s, 1, threads, options.rounds, ["packed"])["packed"] for s in shapes]
        right.loglog(
            [s.macs(1) / 1e6 for s in shapes], times, marker="o", label=f"{threads} thread{'s'[: threads - 1]}"
        )
    left.set(title="3x3, 14x14, channels from 32 to 512", xlabel="million multiply-adds", ylabel="µs")
    right.set(title="3x3, 128 channels, 7x7 to 56x56", xlabel="million multiply-adds")
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    figure.savefig(options.sweep, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, or draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--sweep", type=Path, help="draw time against work into this file instead")
    parser.add_argument("--isa", help="our kernels for another instruction set, such as avx2; the peers keep their own")
    options = parser.parse_args(arguments)
    if options.isa is not None:
        set_isa(options.isa)
    if options.sweep is not None:
        sweep(options)
    else:
        table(options)


if __name__ == "__main__":
    main()
