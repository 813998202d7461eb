"""Calling the C interface of the kernels with numpy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bnnapps.kernels import structures as c
from bnnapps.kernels.library import check, load_library


def address(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def words(channels: int) -> int:
    return -(-channels // 32)


def pack_last(high: np.ndarray) -> np.ndarray:
    """Bits [..., channels] as uint32 words, channels last."""
    *lead, channels = high.shape
    padded = np.zeros((*lead, words(channels) * 32), np.uint8)
    padded[..., :channels] = high
    return np.ascontiguousarray(np.packbits(padded, axis=-1, bitorder="little")).view("<u4")


def unpack_last(bits: np.ndarray, channels: int) -> np.ndarray:
    """The inverse of `pack_last`; the bits beyond the last channel must be 0."""
    flat = np.unpackbits(np.ascontiguousarray(bits).view(np.uint8), axis=-1, bitorder="little")
    assert not flat[..., channels:].any(), "bits beyond the last channel are not 0"
    return flat[..., :channels]


def pack_weight(weight: np.ndarray) -> np.ndarray:
    """A weight of +1 and -1 as it is stored: one row of whole bytes per first index."""
    return np.packbits(weight.reshape(weight.shape[0], -1) > 0, axis=1, bitorder="little")


def sizes(values: Any) -> Any:
    return c.Sizes(*values, *([1] * (3 - len(values))))


@contextmanager
def using(isa: str) -> Iterator[None]:
    library = load_library()
    check(library.bnn_set_isa(isa.encode()))
    try:
        yield
    finally:
        check(library.bnn_set_isa(b"auto"))


@dataclass
class Backwards:
    """A pool that runs its tasks last first: results must not depend on the order."""

    threads: int = 2
    calls: int = 0
    pool: c.Pool = field(init=False)

    def __post_init__(self) -> None:
        def run(_pool: int, count: int, task: Any, context: int) -> None:
            self.calls += 1
            for i in reversed(range(count)):
                task(context, i)

        self.pool = c.Pool(c.Run(run), None, self.threads)

    def pointer(self) -> Any:
        return ctypes.byref(self.pool)


@dataclass
class Steps:
    """The parameters of a float epilogue."""

    scale: np.ndarray | None = None
    bias: np.ndarray | None = None
    residual: np.ndarray | None = None
    before: np.ndarray | None = None
    slope: np.ndarray | None = None
    after: np.ndarray | None = None
    next: np.ndarray | None = None


def epilogue(
    output: int,
    y: np.ndarray,
    layout: int = c.CHANNELS_LAST,
    threshold: np.ndarray | None = None,
    steps: Steps | None = None,
    bits: np.ndarray | None = None,
) -> c.Epilogue:
    e = c.Epilogue(output=output, layout=layout, y=address(y), threshold=address(threshold), bits=address(bits))
    steps = steps if steps is not None else Steps()
    for name, count in (
        ("scale", "scales"),
        ("bias", "biases"),
        ("before", "befores"),
        ("slope", "slopes"),
        ("after", "afters"),
        ("next", "nexts"),
    ):
        values = getattr(steps, name)
        setattr(e, name, address(values))
        setattr(e, count, 0 if values is None else values.size)
    e.residual = address(steps.residual)
    return e


@dataclass
class Layer:
    """A convolution or, with `transposed`, its gradient with respect to the input."""

    weight: np.ndarray  # of +1 and -1
    groups: int = 1
    stride: tuple[int, ...] = (1,)
    dilation: tuple[int, ...] = (1,)
    pad_begin: tuple[int, ...] = (0,)
    pad_end: tuple[int, ...] = (0,)
    pad_value: int = 0
    codes: int = c.SIGNED
    transposed: bool = False
    output_pad: tuple[int, ...] = (0,)

    @property
    def channels(self) -> int:
        return self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups

    @property
    def outputs(self) -> int:
        return self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]

    @property
    def rank(self) -> int:
        return self.weight.ndim - 2

    def shape(self) -> Any:
        kind = c.TransposedShape if self.transposed else c.ConvShape
        shape = kind(
            rank=self.rank,
            channels=self.channels,
            outputs=self.outputs,
            groups=self.groups,
            kernel=sizes(self.weight.shape[2:]),
            stride=sizes(self.stride),
            dilation=sizes(self.dilation),
            pad_begin=sizes(self.pad_begin),
            pad_end=sizes(self.pad_end),
            codes=self.codes,
        )
        if self.transposed:
            shape.output_pad = sizes(self.output_pad)
        else:
            shape.pad_value = self.pad_value
        return shape

    @contextmanager
    def handle(self) -> Iterator[tuple[Any, str]]:
        library, kind = load_library(), "transposed" if self.transposed else "conv"
        packed, handle = pack_weight(self.weight), ctypes.c_void_p()
        check(
            getattr(library, f"bnn_{kind}_create")(
                ctypes.byref(self.shape()), address(packed), packed.size, ctypes.byref(handle)
            )
        )
        try:
            yield handle, kind
        finally:
            getattr(library, f"bnn_{kind}_destroy")(handle)

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        with self.handle() as (handle, kind):
            given, result = np.array(size, np.int64), np.zeros(self.rank, np.int64)
            check(getattr(load_library(), f"bnn_{kind}_output_size")(handle, address(given), address(result)))
        return tuple(int(n) for n in result)

    def run(self, bits: np.ndarray, e: c.Epilogue, pool: Any = None) -> None:
        """`bits` [batch, size..., words]."""
        size = np.array(bits.shape[1:-1], np.int64)
        with self.handle() as (handle, kind):
            check(
                getattr(load_library(), f"bnn_{kind}_run")(
                    handle, address(bits), bits.shape[0], address(size), ctypes.byref(e), pool
                )
            )
