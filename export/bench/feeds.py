"""Inputs for a file, made from the shapes that it states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from bnnapps.errors import UsageError, nearest

DEFAULT_SIZE = 128
"""Of a free size that nobody gave, such as the length of a text."""

Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Input:
    """An input of a file: its sizes are numbers where they are fixed, and else names."""

    name: str
    dtype: int
    sizes: tuple[int | str, ...]


def inputs_of(model: ModelProto) -> tuple[Input, ...]:
    """The inputs of a file that are no constants.

    Raises:
        UsageError: an input is no tensor.

    """
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        if value.name in constants:
            continue
        if not value.type.HasField("tensor_type"):
            raise UsageError(f"input '{value.name}' is no tensor, so there is nothing to feed it with")
        tensor = value.type.tensor_type
        sizes = tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param or f"{value.name}.{axis}"
            for axis, d in enumerate(tensor.shape.dim)
        )
        found.append(Input(value.name, tensor.elem_type, sizes))
    return tuple(found)


def batch_name(inputs: Sequence[Input]) -> str | None:
    """The name of the free size on axis 0, or `None` where the batch size is fixed."""
    first = [one.sizes[0] for one in inputs if one.sizes]
    return next((size for size in first if isinstance(size, str)), None)


def batches_of(inputs: Sequence[Input], wanted: Sequence[int] | None) -> tuple[int, ...]:
    """The batch sizes to measure.

    Raises:
        UsageError: other ones are wanted than the file takes.

    """
    if batch_name(inputs) is not None:
        return tuple(wanted) if wanted else (1,)
    fixed = next((one.sizes[0] for one in inputs if one.sizes), 1)
    assert isinstance(fixed, int)
    if wanted and tuple(wanted) != (fixed,):
        raise UsageError(f"--batch: the batch size of this file is fixed at {fixed}")
    return (fixed,)


def sizes_of(inputs: Sequence[Input], given: Mapping[str, int]) -> dict[str, int]:
    """Every free size but the batch: what was given, else the default.

    Raises:
        UsageError: a name that no free size has.

    """
    batch = batch_name(inputs)
    free = list(dict.fromkeys(s for one in inputs for s in one.sizes if isinstance(s, str) and s != batch))
    for name in given:
        if name not in free:
            what = f"; the nearest are {nearest(name, free)}" if free else ": all sizes but the batch are fixed"
            raise UsageError(f"--size: this file has no free size '{name}'{what}")
    return {name: given.get(name, DEFAULT_SIZE) for name in free}


def feeds_for(inputs: Sequence[Input], batch: int, sizes: Mapping[str, int], seed: int = 0) -> Feeds:
    """Inputs of one batch: floats are normal, integers 0 or 1, masks all 1.

    Token numbers of 0 and 1 exist in every vocabulary, and how long a look-up takes does not depend on them.

    Raises:
        UsageError: an input of another type.

    """
    random = np.random.default_rng(seed)
    known = dict(sizes)
    name = batch_name(inputs)
    if name is not None:
        known[name] = batch
    return {
        one.name: _values(one, [known[s] if isinstance(s, str) else s for s in one.sizes], random) for one in inputs
    }


def _values(one: Input, shape: list[int], random: np.random.Generator) -> npt.NDArray[Any]:
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(one.dtype))
    except (KeyError, TypeError):
        dtype = np.dtype(object)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if dtype.kind == "b" or (dtype.kind in "iu" and "mask" in one.name):
        return np.ones(shape, dtype)
    if dtype.kind in "iu":
        return random.integers(0, 2, shape).astype(dtype)
    raise UsageError(f"input '{one.name}' has the type {TensorProto.DataType.Name(one.dtype)}, which cannot be made up")
