"""Dense layers and products of two activations on every instruction set."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_calls import Backwards, address, epilogue, pack_last, pack_weight, unpack_last, using, words

from bnnapps.export import runtime
from bnnapps.kernels import structures as c
from bnnapps.kernels.library import check, load_library

ISAS = runtime.available()
SIZES = st.sampled_from((1, 3, 31, 32, 33, 64, 65, 100, 130))
TERMS = st.sampled_from((1, 5, 31, 32, 64, 100, 1025, 2500))


def low_of(codes: int) -> int:
    return -1 if codes == c.SIGNED else 0


@pytest.mark.parametrize("isa", ISAS)
@given(
    rows=SIZES, outputs=SIZES, terms=TERMS, codes=st.sampled_from((c.SIGNED, c.UNSIGNED)), seed=st.integers(0, 2**31)
)
def test_dense_equals_the_product(isa: str, rows: int, outputs: int, terms: int, codes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    high, weight = random.random((rows, terms)) < 0.5, np.where(random.random((outputs, terms)) < 0.5, -1, 1)
    z = np.where(high, 1, low_of(codes)) @ weight.T
    packed, bits, handle = pack_weight(weight), pack_last(high), ctypes.c_void_p()
    library, pool = load_library(), Backwards(threads=3).pointer()
    threshold = random.integers(-9, 9, outputs).astype(np.int32)
    with using(isa):
        check(library.bnn_dense_create(terms, outputs, codes, address(packed), packed.size, ctypes.byref(handle)))
        y, out = np.zeros((rows, outputs), np.int32), np.full((rows, words(outputs)), 7, np.uint32)
        check(library.bnn_dense_run(handle, address(bits), rows, ctypes.byref(epilogue(c.INT32, y)), pool))
        np.testing.assert_array_equal(y, z)
        e = epilogue(c.BITS, out, threshold=threshold)
        check(library.bnn_dense_run(handle, address(bits), rows, ctypes.byref(e), None))
        np.testing.assert_array_equal(unpack_last(out, outputs), z >= threshold)
        library.bnn_dense_destroy(handle)
        once = np.zeros_like(y)
        e = epilogue(c.INT32, once)
        check(
            library.bnn_dense_once(
                terms, outputs, codes, address(packed), packed.size, address(bits), rows, ctypes.byref(e), None
            )
        )
        np.testing.assert_array_equal(once, z)


@pytest.mark.parametrize("isa", ISAS)
@given(
    batch=st.integers(1, 3),
    rows=SIZES,
    columns=SIZES,
    terms=TERMS,
    codes=st.sampled_from((c.SIGNED, c.UNSIGNED)),
    addend=st.sampled_from((None, (0, 0), (0, 1), (1, 0), (1, 1))),
    seed=st.integers(0, 2**31),
)
def test_matmul_equals_the_product(
    isa: str, batch: int, rows: int, columns: int, terms: int, codes: int, addend: tuple[int, int] | None, seed: int
) -> None:
    random = np.random.default_rng(seed)
    a, w = random.random((batch, rows, terms)) < 0.5, random.random((batch, columns, terms)) < 0.5
    z = np.where(a, 1, low_of(codes)) @ np.where(w, 1, -1).swapaxes(1, 2)
    scale, threshold = (np.float32(n) for n in random.standard_normal(2))
    shape = c.MatmulShape(batch, rows, columns, terms, codes, c.INT32, scale, threshold)
    v = z.astype(np.float32) * scale
    if addend is not None:
        extra = random.standard_normal((batch, rows if addend[0] else 1, columns if addend[1] else 1))
        extra = extra.astype(np.float32)
        offsets = np.arange(batch, dtype=np.int64) * extra[0].size
        shape.addend, shape.addend_offsets = address(extra), address(offsets)
        shape.addend_row, shape.addend_column = addend[0] * extra.shape[2], addend[1]
        v = v + extra
    assert v.dtype == np.float32
    packed_a, packed_w = pack_last(a), pack_last(w)
    pool = Backwards(threads=3).pointer() if seed % 2 else None

    def run(output: int, y: np.ndarray) -> np.ndarray:
        shape.output = output
        with using(isa):
            check(
                load_library().bnn_matmul(ctypes.byref(shape), address(packed_a), address(packed_w), address(y), pool)
            )
        return y

    np.testing.assert_array_equal(run(c.INT32, np.full(z.shape, 7, np.int32)), z)
    found = run(c.FLOAT32, np.full(z.shape, np.nan, np.float32))
    np.testing.assert_array_equal(found.view(np.uint32), v.view(np.uint32))
    bits = run(c.BITS, np.full((batch, rows, words(columns)), 7, np.uint32))
    np.testing.assert_array_equal(unpack_last(bits, columns), v >= threshold)
