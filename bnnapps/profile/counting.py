"""Counting operations: one forward pass is watched, operator by operator.

What an operator costs comes from PyTorch's own table of formulas (`torch.utils.flop_counter`); what is counted here
is who called it, and whether its operands were codes.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bnnapps.forward import run_model
from bnnapps.nn.activations import ActivationBinarizer
from bnnapps.nn.codes import Codes
from bnnapps.nn.weights import WeightBinarizer
from bnnapps.profile.owners import owners

aten = torch.ops.aten


@dataclass
class Cost:
    """What one layer did in a forward pass.

    Attributes:
        flops: multiply-accumulates of products with a real operand.
        binary_macs: multiply-accumulates of products of codes.
        bops: `binary_macs`, each times the bits of its two operands.
        other_ops: output elements of every other float operator.
        shape: of the first output, or `None`.

    """

    flops: int = 0
    binary_macs: int = 0
    bops: int = 0
    other_ops: int = 0
    shape: tuple[int, ...] | None = None


def count(model: nn.Module, example_inputs: Any) -> dict[nn.Module, Cost]:
    """The cost of each module that ran, in the order in which they first ran. Changes nothing.

    The model runs once in eval mode without gradients, with fused paths turned off, so that products are visible.
    What binarizing a latent weight costs is left out: a deployed network has its codes already.
    """
    counter = _Counter(owners(model))
    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(counter.enter, prepend=True))
        handles.append(module.register_forward_hook(counter.leave, always_call=True))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), _plain_operators(), counter:
            run_model(model, example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return counter.costs


@contextlib.contextmanager
def _plain_operators() -> Iterator[None]:
    """Attention, recurrent cells and transformer layers as products and elementwise operators, not as one kernel."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of setting flags that this build does not use
            with (
                sdpa_kernel(SDPBackend.MATH),
                torch.backends.mkldnn.flags(enabled=False),
                torch.backends.cudnn.flags(enabled=False),
            ):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@dataclass
class _Frame:
    """A module at work."""

    module: nn.Module
    bits: dict[int, int] = field(default_factory=dict)  # storage -> bits an element, of the codes made for this layer
    alive: list[Tensor] = field(default_factory=list)  # so that no storage is freed and its address used again


class _Counter(TorchDispatchMode):
    def __init__(self, owner: dict[nn.Module, nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.costs: dict[nn.Module, Cost] = {}
        self._owner = owner
        self._frames: list[_Frame] = []
        self._silent = 0

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module begins."""
        if isinstance(module, (WeightBinarizer, ActivationBinarizer)):
            self._silent += 1
            return
        if self._owner[module] is module:
            self._frames.append(_Frame(module))
            self.costs.setdefault(module, Cost())

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A module is done."""
        if isinstance(module, (WeightBinarizer, ActivationBinarizer)):
            self._silent -= 1
            if output is not None:
                self._binarized(module, args[0], output)
            return
        if self._owner[module] is module:
            self._frames.pop()
            cost = self.costs[module]
            if cost.shape is None:
                cost.shape = _shape(output)

    def _binarized(self, binarizer: WeightBinarizer | ActivationBinarizer, values: Tensor, found: Codes) -> None:
        if isinstance(binarizer, WeightBinarizer):
            self._mark(found.codes, weight_bits(binarizer))
            return
        spec = binarizer.spec
        self._mark(found.codes, spec.bits)
        if spec.scale == "dual" and found.rest is not None and found.rest.rest is not None:
            self._mark(found.rest.rest.codes, 0)
        # The shift, the quantizer, and (a linear layer with K) the mean |x|: one each an element.
        per_element = 1 + (spec.shift != "none") + (spec.scale == "input_map" and binarizer.channel_dim == -1)
        per_element += spec.scale == "dual"  # what the first sign leaves; its own operations the second one counts
        self._cost().other_ops += per_element * values.numel()

    def _mark(self, codes: Tensor, bits: int) -> None:
        frame = self._frames[-1]
        frame.bits[_storage(codes)] = bits
        frame.alive.append(codes)

    def _bits(self, tensor: Tensor) -> int | None:
        return self._frames[-1].bits.get(_storage(tensor))

    def _cost(self) -> Cost:
        return self.costs[self._frames[-1].module]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if self._silent or not self._frames:
            return out
        packet = func._overloadpacket
        if packet in flop_registry:
            self._product(packet, args, kwargs, out)
        elif packet is aten._trilinear:  # the float bilinear layer, which PyTorch's table does not have
            weight = args[1]
            self._cost().flops += args[0].shape[0] * (weight.numel() + weight.shape[0] * weight.shape[1])
        elif packet in MOVES:
            self._moved(args, out)
        elif not func.is_view and _tensors((*args, *kwargs.values())):
            result = _first_float(out)
            self._cost().other_ops += 0 if result is None else result.numel()
        return out

    def _product(self, packet: Any, args: Any, kwargs: Any, out: Any) -> None:
        cost = self._cost()
        macs = flop_registry[packet](*args, **kwargs, out_val=out) // 2
        left, right = args[1:3] if packet in (aten.addmm, aten.baddbmm) else args[0:2]
        bits = self._bits(left), self._bits(right)
        if 0 in bits:  # of constants: a deployed network has the result as a bias
            return
        if bits[0] is None or bits[1] is None:
            cost.flops += macs
        else:
            cost.binary_macs += macs
            cost.bops += macs * bits[0] * bits[1]
        biased = packet in (aten.addmm, aten.baddbmm) or (packet is aten.convolution and args[2] is not None)
        if biased:
            cost.other_ops += out.numel()

    def _moved(self, args: Any, out: Any) -> None:
        """Codes that are copied, cast, padded or joined stay codes."""
        bits = [b for b in map(self._bits, _tensors(args)) if b is not None]
        if bits and isinstance(out, Tensor):
            self._mark(out, max(bits))


def weight_bits(binarizer: WeightBinarizer) -> int:
    """Bits a weight: 1; 2 where it is ternary; 2 where it is split into two of one bit each."""
    return 1 if binarizer.spec.kind == "binary" else 2


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _shape(output: Any) -> tuple[int, ...] | None:
    while isinstance(output, (tuple, list, dict)) and output:
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return tuple(output.shape) if isinstance(output, Tensor) else None


def _first_float(out: Any) -> Tensor | None:
    items = out if isinstance(out, Sequence) else [out]
    return next((t for t in items if isinstance(t, Tensor) and t.is_floating_point()), None)


def _tensors(args: Any) -> list[Tensor]:
    """The tensors among arguments, those in lists included."""
    flat = (item for a in args for item in (a if isinstance(a, (list, tuple)) else [a]))
    return [item for item in flat if isinstance(item, Tensor)]


def _packets(*names: str) -> set[Any]:
    return {getattr(aten, name) for name in names}


MOVES = _packets(
    *("clone", "_to_copy", "copy_", "contiguous", "cat", "stack", "repeat", "roll", "flip", "lift_fresh"),
    *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
    *("index", "index_select", "gather", "embedding", "im2col", "pixel_shuffle", "channel_shuffle"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "index_put", "index_put_", "scatter"),
    *("slice_scatter", "select_scatter", "unsafe_split", "_unsafe_view", "_reshape_alias", "sort", "topk"),
    *("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "new_empty", "new_zeros"),
    *("new_ones", "new_full", "new_empty_strided", "fill_", "fill", "zero_", "bernoulli_", "normal_", "uniform_"),
)
"""Operators that move or make numbers and compute none."""
