"""Parallel copies of the branch of a residual block: the binary bases of Group-Net."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.nn.layers.base import PARTS, Twin, parts_of_twin, to_binary
from bnnapps.nn.layers.conv import BinaryConv2d
from bnnapps.nn.layers.conv_same import BinaryConv2dSame, is_conv2d_same
from bnnapps.nn.spec.block import BlockSpec

Geometry = tuple[Any, Any, Any]


def offset(number: int, bases: int) -> float:
    """u of a base: 0 for the first, then -s, +s, -2s, +2s ... up to 1, so that all lie evenly in [-1, 1].

    The shifts of ABC-Net (Lin, Zhao, Pan, NeurIPS 2017), in the order of their size.

    Example:
        >>> [offset(k, 5) for k in range(5)]
        [0.0, -0.5, 0.5, -1.0, 1.0]

    """
    pairs = bases // 2
    rank = (number + 1) // 2
    return 0.0 if number == 0 else (-1.0 if number % 2 else 1.0) * rank / pairs


@torch.no_grad()
def begun(weight: Tensor, number: int, bases: int, start: str) -> Tensor:
    """The first weight of the `number`-th base, made of the block's own weight W, (O, I, h, w), and nothing else.

    `shifted`: W + u std(W), u = `offset`; `shuffled`: the weights of each filter in an order that follows from W and
    the number. The same W gives the same weights on every machine.
    """
    if start == "shifted":
        return weight + offset(number, bases) * weight.std(correction=0)
    flat = weight.flatten(1)
    bits = flat.detach().to("cpu", torch.float32).contiguous().view(torch.int32)
    seed = (int(bits.to(torch.int64).sum()) * 131 + number) % 2**63
    order = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    return flat[:, order.to(flat.device)].reshape(weight.shape)


def make_base(block: nn.Module, twin: Twin, spec: BlockSpec, number: int) -> nn.Module:
    """The `number`-th base of a float block: a copy of it without shortcut branch, put together as `spec` says.

    Its convolutions follow `spec.convs`. Its state dict has the block's own names.
    """
    base = copy.deepcopy(block, {id(block._modules.get("downsample")): None})
    for module in base.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            hooks.clear()
    start_base(base, block.state_dict(), number, spec)
    records = (None,) * 3 if spec.convs is None else spec.convs
    convs = [base._modules.get(f"conv{i}") for i in (1, 2, 3)]
    for conv, record in zip([c for c in convs if c is not None], records, strict=False):
        if record is not None:
            kind: Twin = BinaryConv2dSame if is_conv2d_same(conv) else BinaryConv2d
            to_binary(conv, kind, record, parts_of_twin(kind, conv, record))
    dilations = None if spec.dilations is None else (spec.dilations[number],)
    own = spec.model_copy(update={"bases": 1, "dilations": dilations, "gates": False, "convs": None})
    to_binary(base, twin, own, parts_of_twin(twin, base, own))
    return base


@torch.no_grad()
def start_base(base: nn.Module, tensors: Mapping[str, Tensor], number: int, spec: BlockSpec) -> None:
    """Bring a base to what it begins with: norms as the block's own, weights as `begun` makes them of the block's.

    Args:
        base: the base, float or binary.
        tensors: of the block, by their names in it.
        number: of the base; 0 is the block itself.
        spec: of the block.
    """
    for name, target in base.state_dict(keep_vars=True).items():
        value = tensors.get(name)
        if f".{PARTS}." in f".{name}" or value is None or value.shape != target.shape:
            continue
        target.copy_(begun(value.to(target), number, spec.bases, spec.start) if target.dim() == 4 else value)


def dilated(conv: nn.Conv2d, dilation: int) -> Geometry:
    """Give a convolution another dilation and the padding that keeps its size; returns what it had before."""
    before: Geometry = (conv.dilation, conv.padding, conv._reversed_padding_repeated_twice)
    sizes = [dilation * (k - 1) for k in conv.kernel_size]
    conv.dilation = (dilation, dilation)
    if not isinstance(conv.padding, str):
        conv.padding = (sizes[0] // 2, sizes[1] // 2)
    borders = [(size // 2, size - size // 2) for size in reversed(sizes)]
    conv._reversed_padding_repeated_twice = [side for pair in borders for side in pair]
    return before


def undilated(conv: nn.Conv2d, before: Geometry) -> None:
    """Take back what `dilated` did."""
    conv.dilation, conv.padding, conv._reversed_padding_repeated_twice = before


def keeps_size(conv: nn.Conv2d) -> bool:
    """Whether padding makes up for the kernel, so that stride alone changes the size."""
    spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    return conv.padding == "same" or [2 * int(p) for p in conv.padding] == spans
