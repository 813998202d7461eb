"""The structures and functions of `export/runtime/native/include/bnn.h` for ctypes."""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_void_p,
)
from typing import Any

OK, INVALID_ARGUMENT, OUT_OF_MEMORY, UNSUPPORTED = range(4)
SIGNED, UNSIGNED = range(2)
CHANNELS_FIRST, CHANNELS_LAST = range(2)
INT32, FLOAT32, BITS = range(3)

Sizes = c_int64 * 3

Task = CFUNCTYPE(None, c_void_p, c_size_t)
Run = CFUNCTYPE(None, c_void_p, c_size_t, Task, c_void_p)


class Pool(Structure):
    """`bnn_pool`: how the library spreads work over threads."""

    _fields_ = (("run", Run), ("pool", c_void_p), ("threads", c_int32))


class ConvShape(Structure):
    """`bnn_conv_shape`."""

    _fields_ = (
        ("rank", c_int32),
        ("channels", c_int64),
        ("outputs", c_int64),
        ("groups", c_int64),
        ("kernel", Sizes),
        ("stride", Sizes),
        ("dilation", Sizes),
        ("pad_begin", Sizes),
        ("pad_end", Sizes),
        ("pad_value", c_int32),
        ("codes", c_int),
    )


class TransposedShape(Structure):
    """`bnn_transposed_shape`."""

    _fields_ = (
        ("rank", c_int32),
        ("channels", c_int64),
        ("outputs", c_int64),
        ("groups", c_int64),
        ("kernel", Sizes),
        ("stride", Sizes),
        ("dilation", Sizes),
        ("pad_begin", Sizes),
        ("pad_end", Sizes),
        ("output_pad", Sizes),
        ("codes", c_int),
    )


class Epilogue(Structure):
    """`bnn_epilogue`."""

    _fields_ = (
        ("output", c_int),
        ("layout", c_int),
        ("y", c_void_p),
        ("threshold", c_void_p),
        ("scale", c_void_p),
        ("bias", c_void_p),
        ("before", c_void_p),
        ("slope", c_void_p),
        ("after", c_void_p),
        ("next", c_void_p),
        ("scales", c_size_t),
        ("biases", c_size_t),
        ("befores", c_size_t),
        ("slopes", c_size_t),
        ("afters", c_size_t),
        ("nexts", c_size_t),
        ("residual", c_void_p),
        ("bits", c_void_p),
    )


class MatmulShape(Structure):
    """`bnn_matmul_shape`."""

    _fields_ = (
        ("batch", c_int64),
        ("rows", c_int64),
        ("columns", c_int64),
        ("terms", c_int64),
        ("codes", c_int),
        ("output", c_int),
        ("scale", c_float),
        ("threshold", c_float),
        ("addend", c_void_p),
        ("addend_offsets", c_void_p),
        ("addend_row", c_int64),
        ("addend_column", c_int64),
    )


class PoolShape(Structure):
    """`bnn_pool_shape`."""

    _fields_ = (
        ("rank", c_int32),
        ("channels", c_int64),
        ("kernel", Sizes),
        ("stride", Sizes),
        ("dilation", Sizes),
        ("pad_begin", Sizes),
        ("pad_end", Sizes),
    )


_STATUS = c_int
_POOL = POINTER(Pool)

SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "bnn_pool_create": (_STATUS, [c_int32, c_void_p, POINTER(_POOL)]),
    "bnn_pool_destroy": (None, [_POOL]),
    "bnn_version": (c_int32, []),
    "bnn_last_error": (c_char_p, []),
    "bnn_available": (c_char_p, []),
    "bnn_isa": (c_char_p, []),
    "bnn_set_isa": (_STATUS, [c_char_p]),
    "bnn_bound": (_STATUS, [POINTER(c_double)]),
    "bnn_words": (c_size_t, [c_size_t]),
    "bnn_pack": (
        _STATUS,
        [c_void_p, c_size_t, c_size_t, c_size_t, c_void_p, c_size_t, c_void_p, _POOL],
    ),
    "bnn_unpack": (_STATUS, [c_void_p, c_size_t, c_size_t, c_size_t, c_float, c_void_p, _POOL]),
    "bnn_conv_create": (_STATUS, [POINTER(ConvShape), c_void_p, c_size_t, POINTER(c_void_p)]),
    "bnn_conv_destroy": (None, [c_void_p]),
    "bnn_conv_output_size": (_STATUS, [c_void_p, c_void_p, c_void_p]),
    "bnn_conv_run": (_STATUS, [c_void_p, c_void_p, c_int64, c_void_p, POINTER(Epilogue), _POOL]),
    "bnn_dense_create": (_STATUS, [c_int64, c_int64, c_int, c_void_p, c_size_t, POINTER(c_void_p)]),
    "bnn_dense_destroy": (None, [c_void_p]),
    "bnn_dense_run": (_STATUS, [c_void_p, c_void_p, c_int64, POINTER(Epilogue), _POOL]),
    "bnn_conv2d": (
        _STATUS,
        [POINTER(ConvShape), c_void_p, c_size_t, c_void_p, c_int64, c_void_p, POINTER(Epilogue), _POOL],
    ),
    "bnn_dense_once": (
        _STATUS,
        [c_int64, c_int64, c_int, c_void_p, c_size_t, c_void_p, c_int64, POINTER(Epilogue), _POOL],
    ),
    "bnn_transposed_create": (_STATUS, [POINTER(TransposedShape), c_void_p, c_size_t, POINTER(c_void_p)]),
    "bnn_transposed_destroy": (None, [c_void_p]),
    "bnn_transposed_output_size": (_STATUS, [c_void_p, c_void_p, c_void_p]),
    "bnn_transposed_run": (_STATUS, [c_void_p, c_void_p, c_int64, c_void_p, POINTER(Epilogue), _POOL]),
    "bnn_matmul": (_STATUS, [POINTER(MatmulShape), c_void_p, c_void_p, c_void_p, _POOL]),
    "bnn_maxpool_output_size": (_STATUS, [POINTER(PoolShape), c_void_p, c_void_p]),
    "bnn_maxpool": (_STATUS, [POINTER(PoolShape), c_void_p, c_int64, c_void_p, c_void_p, _POOL]),
}
"""By function: what it returns and what it takes."""


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Gives every function of the library its types."""
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
