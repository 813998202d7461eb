"""What becomes of the sums: integers, bits, or floats with their epilogue."""

from __future__ import annotations

from collections.abc import Callable

from onnx import TensorProto

from bnnapps.export.runtime.functions.bits import channels_last, packed
from bnnapps.export.runtime.functions.body import Body

STEPS = ("scale", "bias", "residual", "before", "slope", "after")


def integers(body: Body, sums: str) -> str:
    """The sums as int32: exact, and a barrier that keeps optimizers from folding the epilogue into the weight."""
    return body.cast(sums, TensorProto.INT32)


def floats(body: Body, integer: str, shaped: Callable[[str], str]) -> str:
    """The float epilogue of docs/runtime.md; `shaped` makes a vector of one entry per output broadcast."""
    value = body.cast(integer, TensorProto.FLOAT)
    value = body.op("Mul", value, shaped("scale"))
    value = body.op("Add", value, shaped("bias"))
    value = body.op("Add", value, "residual")
    value = body.op("Add", value, shaped("before"))
    negative = body.op("Less", value, body.constant(value_float=0.0))
    value = body.op("Where", negative, body.op("Mul", value, shaped("slope")), value)
    return body.op("Add", value, shaped("after"))


def as_they_are(vector: str) -> str:
    """Vectors of outputs broadcast against a tensor whose last axis is the outputs."""
    return vector


def outputs_of(body: Body, sums: str, kind: str, per_map: Callable[[str], str] | None) -> dict[str, str]:
    """The outputs of an operator by name, from float sums.

    `kind` is one of Integer, Bits, Float, FloatBits, FloatLast and FloatBitsLast. The outputs of the layer are the
    last axis if `per_map` is None; else they are axis 1, and it makes a vector broadcast along that.
    """
    integer = integers(body, sums)
    if kind == "Integer":
        return {"Y": integer}
    last = integer if per_map is None else channels_last(body, integer)
    if kind == "Bits":
        return {"bits": packed(body, body.op("GreaterOrEqual", last, "threshold"))}
    if per_map is None or kind.endswith("Last"):
        value = moved = floats(body, last, as_they_are)
    else:
        value = floats(body, integer, per_map)
        moved = channels_last(body, value) if "Bits" in kind else value
    if "Bits" not in kind:
        return {"Y": value}
    return {"Y": value, "bits": packed(body, body.op("GreaterOrEqual", moved, "next"))}


def inputs_of(kind: str) -> list[str]:
    """The inputs of an operator of that kind."""
    if kind == "Integer":
        return ["X", "weight"]
    if kind == "Bits":
        return ["X", "weight", "threshold"]
    return ["X", "weight", *STEPS] + (["next"] if "Bits" in kind else [])
