"""From the integer form of a network, an ONNX graph of the operators of docs/runtime.md, to hardware layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from bnnapps.errors import ExportError
from bnnapps.export.fpga.graph import Chain, apply, elementwise, facts
from bnnapps.export.fpga.layers import Array, Codes, Conv, Dense, Head, Input, Integers, Layer, Network, Pool
from bnnapps.export.fpga.thresholds import merge, ranks, reachable
from bnnapps.export.ir.bits import unpack_weight
from bnnapps.export.ir.operators import DOMAIN

_LOW, _HIGH = -128, 127


def read_network(model: ModelProto, name: str) -> tuple[Network, Chain, int]:
    """The hardware layers of a packed graph.

    Returns:
        The network; the graph's chain; how many of its nodes make the input codes.

    Raises:
        ExportError: something that the flow cannot take; the layer and what to change are named.

    """
    reader = _Reader(Chain(_inferred(model), name))
    return reader.network(Path(name).stem), reader.chain, reader.front


def input_codes(chain: Chain, front: int, x: Array) -> Array:
    """The codes that stream into the hardware for inputs of the network: int8, shaped like a map or like rows."""
    head = chain.nodes[:front]
    packs = bool(head) and head[-1].op_type == "Pack"
    values = apply(chain, head[:-1] if packs else head, np.asarray(x, np.float32))
    if packs:
        threshold = chain.constant(head[-1], 1).reshape(-1)
        axis = facts(head[-1])["axis"]
        high = np.moveaxis(values, int(axis), -1) >= threshold
        values = np.where(np.moveaxis(high, -1, int(axis)), 1, -1)
    return np.asarray(values).astype(np.int8)


def _inferred(model: ModelProto) -> ModelProto:
    return onnx.shape_inference.infer_shapes(model)


class _Reader:
    """Walks the chain once."""

    def __init__(self, chain: Chain) -> None:
        self.chain, self.nodes = chain, chain.nodes
        self.at = 0
        self.front = 0
        self.shape: tuple[int, ...] = ()
        self.order: Integers | None = None  # of a flattened map: where each of its features streams

    def network(self, name: str) -> Network:
        source = self._input()
        layers: list[Layer] = []
        while True:
            node = self._next("the network ends without a last layer on bits")
            if node.domain == DOMAIN and node.op_type == "BinaryMaxPool":
                layers.append(self._pool(node))
            elif _is_dense(node) and self._ends():
                layers.append(self._dense(node, None))
                return Network(name, source, tuple(layers), self._head(node))
            elif _is_dense(node) or _is_conv(node) or node.op_type == "Conv":
                layers += self._layer(node, 1 if node.domain == DOMAIN else source.bits)
            elif node.op_type in ("Reshape", "Flatten"):
                self._flatten(node)
            else:
                raise ExportError(self._refusal(node))

    # The front

    def _input(self) -> Input:
        """What is in front of the first layer: a Pack, or a quantizer of 8 bits that ends in its Clip."""
        shape = self.chain.input_shape()
        for index, node in enumerate(self.nodes):
            if node.op_type in ("Reshape", "Flatten") and node.domain != DOMAIN:
                shape = (int(np.prod(shape)),)
            elif node.op_type == "Pack":
                self.at = self.front = index + 1
                self.shape = shape
                return Input(shape, 1)
            elif node.op_type == "Conv":
                bounds = self._bounds(self.nodes[index - 1] if index else None)
                if bounds is None:
                    break
                if bounds[0] < _LOW or bounds[1] > _HIGH:
                    raise ExportError(
                        f"layer '{_layer_name(node)}' takes codes from {bounds[0]:g} to {bounds[1]:g}; the FPGA flow "
                        f"takes {_LOW} to {_HIGH}"
                    )
                self.at = self.front = index
                self.shape = shape
                return Input(shape, 8)
            elif not elementwise(node):
                raise ExportError(self._refusal(node))
        raise ExportError(self._refusal(self.nodes[min(index, len(self.nodes) - 1)]))

    def _bounds(self, node: NodeProto | None) -> tuple[float, float] | None:
        if node is None or node.op_type != "Clip" or len(node.input) != 3:
            return None
        low, high = (self.chain.constants[name] for name in node.input[1:])
        return float(low), float(high)

    # Layers

    def _layer(self, node: NodeProto, bits: int) -> list[Layer]:
        """A layer, what follows it up to its bits, and a pool on the way."""
        if node.op_type in ("BinaryConvBits", "BinaryDenseBits"):
            limits = np.asarray(self.chain.constant(node, 2), np.int64)
            made = self._dense(node, limits) if _is_dense(node) else self._conv(node, self._signs(node), limits, bits)
            return [made]
        between, pool, position = self._until_pack(node)
        weight = self._signs(node)
        terms = int(np.prod(weight.shape[1:]))
        zeros = node.op_type != "BinaryDenseFloat" and any(facts(node).get("pads", ())) and _pad(node) == 0
        sums = reachable(terms, 1 if bits == 1 else -_LOW, 1 if zeros or bits > 1 else 2)
        pack = self.nodes[self.at - 1]
        threshold = self._pack_threshold(pack, len(weight))

        def high(z: Array) -> Array:
            x = z[:, :, None, None] if weight.ndim == 4 else z
            first = apply(self.chain, between[:position], x)
            return np.asarray(apply(self.chain, between[position:], first).reshape(z.shape) >= threshold)

        name = _layer_name(node)
        if pool is not None:
            self._window(pool)
            self._rises_behind(name, between, position, weight, sums)
        turned, limits = merge(name, weight, sums, high)
        if _is_dense(node):
            return [self._dense(node, limits, turned)]
        conv = self._conv(node, turned, limits, bits)
        found: list[Layer] = [conv]
        if pool is not None:
            found.append(self._pool(pool))
        for skipped in self.nodes[self.at - 2 : self.at - 1]:
            if skipped.op_type in ("Reshape", "Flatten"):
                self._flatten(skipped)
        return found

    def _rises_behind(
        self, name: str, between: Sequence[NodeProto], position: int, weight: Codes, sums: Integers
    ) -> None:
        """What is behind a pool must rise, so that the largest value gives the largest bit."""
        z = np.repeat(sums[:, None], len(weight), axis=1)[:, :, None, None].astype(np.float32)
        front = np.sort(apply(self.chain, between[:position], z), axis=0)
        behind = apply(self.chain, between[position:], front)
        falling = np.flatnonzero((np.diff(behind, axis=0) < 0).any(axis=(0, 2, 3)))
        if len(falling):
            raise ExportError(
                f"layer '{name}': channel {falling[0]} has a BatchNorm of negative weight behind the pool: put "
                "BatchNorm and activation in front of the pool"
            )

    def _until_pack(self, node: NodeProto) -> tuple[list[NodeProto], NodeProto | None, int]:
        """The nodes that compute between the sums and the next Pack; a pool among them, and how many are before it."""
        between = [node] if node.domain == DOMAIN and not node.op_type.endswith("Integer") else []
        pool, position = None, 0
        while True:
            step = self._next(f"nothing makes bits of what layer '{_layer_name(node)}' computes")
            if step.op_type == "Pack":
                return between, pool, position if pool is not None else len(between)
            if step.op_type == "MaxPool" and pool is None:
                pool, position = step, len(between)
            elif step.op_type in ("Reshape", "Flatten"):
                continue
            elif elementwise(step):
                between.append(step)
            else:
                raise ExportError(self._refusal(step))

    def _pack_threshold(self, pack: NodeProto, outputs: int) -> Array:
        threshold = self.chain.constant(pack, 1).reshape(-1)
        if len(threshold) in (1, outputs):
            return threshold
        by_channel = threshold.reshape(outputs, -1) if len(threshold) % outputs == 0 else None
        if by_channel is None or (by_channel != by_channel[:, :1]).any():
            raise ExportError(f"'{pack.name}' has a threshold for each position; the FPGA flow takes one for a channel")
        return by_channel[:, 0]

    def _signs(self, node: NodeProto) -> Codes:
        """The codes of a weight, (outputs, terms) or (outputs, channels, rows, columns)."""
        a = facts(node)
        raw = self.chain.constant(node, 1)
        if node.op_type == "Conv":
            if not np.isin(raw, (-1, 1)).all():
                raise ExportError(self._refusal(node))
            if a.get("group", 1) != 1 or set(a.get("dilations", [1])) != {1} or raw.ndim != 4:
                raise ExportError(_geometry_refusal(node))
            return raw.astype(np.int8)
        if a["low"] != -1:
            raise ExportError(
                f"layer '{_layer_name(node)}' takes codes 0 and 1; the FPGA flow takes -1 and +1: set activation."
                "unsigned to false"
            )
        channels = int(a["channels"][0])
        if _is_dense(node):
            return unpack_weight(raw, (len(raw), channels))
        if a["group"] != 1 or set(a["dilations"]) != {1} or len(a["kernel_shape"]) != 2:
            raise ExportError(_geometry_refusal(node))
        return unpack_weight(raw, (len(raw), channels, *a["kernel_shape"]))

    def _dense(self, node: NodeProto, threshold: Integers | None, weight: Codes | None = None) -> Dense:
        codes = self._signs(node) if weight is None else weight
        if len(self.shape) == 3:
            raise ExportError(f"layer '{_layer_name(node)}' takes a map as it is: flatten it first")
        if self.order is not None:
            codes, self.order = codes[:, self.order], None
        self.shape = (len(codes),)
        return Dense(_layer_name(node), np.ascontiguousarray(codes), threshold)

    def _conv(self, node: NodeProto, weight: Codes, threshold: Integers, bits: int) -> Conv:
        a = facts(node)
        pads = [int(p) for p in a.get("pads", (0, 0, 0, 0))]
        stride = a.get("strides", (1, 1))
        conv = Conv(
            name=_layer_name(node),
            weight=np.ascontiguousarray(np.moveaxis(weight, 1, -1)),
            threshold=threshold,
            size=(self.shape[1], self.shape[2]),
            stride=(int(stride[0]), int(stride[1])),
            pads=(pads[0], pads[1], pads[2], pads[3]),
            pad_value=_pad(node),
            bits=bits,
        )
        self.shape = (conv.outputs, *conv.out_size)
        return conv

    def _pool(self, node: NodeProto) -> Pool:
        window = self._window(node)
        pool = Pool(node.name, self.shape[0], (self.shape[1], self.shape[2]), window)
        self.shape = (pool.channels, *pool.out_size)
        return pool

    def _window(self, node: NodeProto) -> tuple[int, int]:
        a = facts(node)
        window = tuple(int(k) for k in a["kernel_shape"])
        steps = tuple(int(s) for s in a.get("strides", [1] * len(window)))
        plain = set(a.get("dilations", [1])) == {1} and not any(a.get("pads", (0,))) and not a.get("ceil_mode", 0)
        if window != steps or not plain or len(window) != 2:
            raise ExportError(
                f"pool '{node.name}' has windows of {window} in steps of {steps}; the FPGA flow takes windows that "
                "touch, without padding: MaxPool2d(2)"
            )
        return window[0], window[1]

    def _flatten(self, node: NodeProto) -> None:
        """Torch counts features of a flattened map by channel first; they stream with the channels last."""
        if len(self.shape) == 3:
            index = np.arange(int(np.prod(self.shape)), dtype=np.int64).reshape(self.shape)
            self.order = np.moveaxis(index, 0, -1).reshape(-1)
            self.shape = (len(self.order),)

    # The end

    def _ends(self) -> bool:
        """Whether nothing but float arithmetic on the scores follows."""
        return all(elementwise(node) for node in self.nodes[self.at :])

    def _head(self, node: NodeProto) -> Head:
        outputs, terms = len(self.chain.constant(node, 1)), int(facts(node)["channels"][0])
        z = np.repeat(reachable(terms, 1, 2)[:, None], outputs, axis=1).astype(np.float32)
        own = [] if node.op_type.endswith("Integer") else [node]
        values = apply(self.chain, [*own, *self.nodes[self.at :]], z).T
        if not np.isfinite(values).all():
            raise ExportError(f"layer '{_layer_name(node)}' has scores that are not finite numbers")
        alike = bool((values == values[:1]).all()) and bool((np.diff(values[0]) > 0).all())
        return Head(outputs, terms, None if alike else ranks(values))

    # Steps and words

    def _next(self, otherwise: str) -> NodeProto:
        if self.at >= len(self.nodes):
            raise ExportError(f"{self.chain.source}: {otherwise}")
        self.at += 1
        return self.nodes[self.at - 1]

    def _refusal(self, node: NodeProto) -> str:
        name = _layer_name(node)
        hints: dict[str, str] = {
            "Conv": "it computes on real numbers; give its input 8 bits: a rule {match: NAME, use: {method: bnn, "
            "activation.bits: 8, activation.scale: elastic}} and keep_first: 0",
            "Gemm": "it computes on real numbers: set keep_last: 0, or a rule that makes it binary",
            "MatMul": "it computes on real numbers: set keep_last: 0, or a rule that makes it binary",
            "GlobalAveragePool": "take the mean out: flatten the map in front of the last layer",
            "ReduceMean": "take the mean out: flatten the map in front of the last layer",
        }
        hint = hints.get(node.op_type, "the FPGA flow has no unit for it: see docs/fpga.md for what it takes")
        return f"layer '{name}' ({node.op_type}) cannot become hardware: {hint.replace('NAME', name)}"


def _is_dense(node: NodeProto) -> bool:
    return node.domain == DOMAIN and node.op_type in ("BinaryDenseInteger", "BinaryDenseBits", "BinaryDenseFloat")


def _is_conv(node: NodeProto) -> bool:
    return node.domain == DOMAIN and node.op_type in ("BinaryConvInteger", "BinaryConvBits", "BinaryConvFloat")


def _pad(node: NodeProto) -> int:
    a: dict[str, Any] = facts(node)
    return int(a.get("pad_value", 0))


def _layer_name(node: NodeProto) -> str:
    """The layer in the network that a node comes from; a real one is known by its weight."""
    if node.domain != DOMAIN and len(node.input) > 1 and node.input[1].endswith(".weight"):
        return str(node.input[1]).removesuffix(".weight").removesuffix(".product")
    return str(node.name.rpartition("/")[0] or node.name or node.output[0])


def _geometry_refusal(node: NodeProto) -> str:
    return (
        f"layer '{_layer_name(node)}' is grouped, dilated or not 2-dimensional; the FPGA flow takes plain Conv2d layers"
    )
