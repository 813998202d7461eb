"""Whether layers compute on bits: the switch, the rule, and packed weights that are kept while they do not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from bnnapps.kernels.library import RuntimeLibraryError, isa
from bnnapps.nn.functional.on_bits import pack_filters
from bnnapps.nn.weights import WeightBinarizer

LEAST_TERMS = 32
"""Sums of fewer terms than this are left to PyTorch: a word of bits holds 32."""
LEAST_PRODUCTS = 1 << 20
"""Layers with fewer products of codes than this in a call are too: calling the kernels takes longer."""
MOST_TERMS = 1 << 24
"""Sums of fewer terms are exact in float32."""
SAMPLE = 1 << 12
"""So many elements of a weight are compared before its packed form is used again."""

_on = True


class kernels:  # noqa: N801 - used like a function
    """Turns the kernels on or off for binary layers, from now on or, with `with`, for a while; they start turned on.

    Results are equal to the last bit; without the kernels codes are multiplied as floats.

    Example:
        >>> with kernels(False):
        ...     print(kernels_on())
        False

    """

    def __init__(self, on: bool) -> None:
        self._before = kernels_on()
        _turn(on)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *args: object) -> None:
        _turn(self._before)


def kernels_on() -> bool:
    """Whether they are turned on."""
    return _on


def _turn(on: bool) -> None:
    global _on
    _on = on


def takes(x: Tensor, weight: Tensor, terms: int, products: int) -> bool:
    """Whether the kernels take operands of these kinds: float32 on a CPU that has vector kernels, and enough to do.

    Not under autocast, in a transform of `torch.func` or while a graph is traced for export, which stay with
    PyTorch's own operators.

    Args:
        x: the activation.
        weight: the latent weight.
        terms: of one sum.
        products: of the whole layer.

    """
    return (
        _on
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and LEAST_TERMS <= terms < MOST_TERMS
        and products >= LEAST_PRODUCTS
        and all(type(t) in (Tensor, nn.Parameter) for t in (x, weight))
        and not torch.is_autocast_enabled("cpu")
        and not _elsewhere()
        and has_vector_kernels()
    )


def _elsewhere() -> bool:
    """Whether PyTorch is doing something that knows its own operators only."""
    if torch.compiler.is_compiling():
        # The flag behind torch.compiler.is_exporting(), which the tracer of torch.compile takes for true at all times.
        return bool(getattr(torch.compiler, "_is_exporting_flag", False))
    return (
        torch._C._get_tracing_state() is not None
        or torch.onnx.is_in_onnx_export()
        or torch._C._are_functorch_transforms_active()
    )


def _vector_kernels() -> bool:
    try:
        return isa() != "portable"
    except RuntimeLibraryError:
        return False


has_vector_kernels: Callable[[], bool] = torch.compiler.assume_constant_result(_vector_kernels)
"""Whether the library is there and knows the vector instructions of this CPU."""


class PackedWeight(NamedTuple):
    """The signs of a weight, one bit each (`pack_filters`), and their scale."""

    bits: Tensor
    scale: Tensor | None


class _Kept(NamedTuple):
    versions: tuple[tuple[int, int], ...]
    storages: tuple[StorageWeakRef, ...]
    sample: Tensor
    weight: PackedWeight

    def holds(self, tensors: tuple[Tensor, ...]) -> bool:
        """Whether these tensors are those that it was made of, and unchanged."""
        # A storage that is gone may have left its address to another.
        return (
            _versions(tensors) == self.versions
            and not any(storage.expired() for storage in self.storages)
            and torch.equal(_sample(tensors[0]), self.sample)
        )


_kept: WeakKeyDictionary[WeightBinarizer, _Kept] = WeakKeyDictionary()


@torch.no_grad()
def packed_weight(binarizer: WeightBinarizer, weight: Tensor) -> tuple[PackedWeight, bool]:
    """What the binarizer makes of the weight, and whether it is kept for the next call.

    It is made again when an operator of PyTorch has changed the weight or the binarizer's tensors, or another weight
    is given. What changes the weight behind PyTorch's back, such as `weight.data.mul_(-1)`, shows in a comparison of
    its elements: of all up to `SAMPLE`, of so many spread over a larger weight, where a change of single elements can
    be missed. What is kept belongs to neither module: copies, pickles and state dicts do not have it.
    """
    if torch.compiler.is_compiling():
        return _pack(binarizer, weight), False
    tensors = (weight, *binarizer.parameters(), *binarizer.buffers())
    if any(t.is_inference() for t in tensors):  # these do not count their changes
        return _pack(binarizer, weight), False
    found = _kept.get(binarizer)
    if found is None or not found.holds(tensors):
        storages = tuple(StorageWeakRef(t.untyped_storage()) for t in tensors)
        found = _kept[binarizer] = _Kept(
            _versions(tensors), storages, _sample(weight).clone(), _pack(binarizer, weight)
        )
    return found.weight, True


def _pack(binarizer: WeightBinarizer, weight: Tensor) -> PackedWeight:
    codes = binarizer(weight)
    return PackedWeight(pack_filters(codes.codes), codes.scale)


def _sample(weight: Tensor) -> Tensor:
    """Elements spread over the memory of a weight, as bits: so a NaN is equal to itself. A view where it is dense."""
    strides = weight.stride()
    order = sorted(range(weight.dim()), key=lambda dim: -strides[dim])
    flat = weight.detach().permute(order).reshape(-1)
    return flat[:: max(1, -(-flat.numel() // SAMPLE))].view(torch.int32)


def _versions(tensors: tuple[Tensor, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((t.data_ptr(), t._version) for t in tensors)
