"""mmcv's ConvModule, put together anew around its own convolution."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bnnapps.nn.blocks.lean import normalized
from bnnapps.nn.layers.base import BinaryLayer, Parts, device_dtype
from bnnapps.nn.nonlinearities import make_nonlinearity
from bnnapps.nn.spec.block import BlockSpec


def is_conv_module(module: nn.Module) -> bool:
    """Whether the module is a ConvModule of mmcv that can be rewritten.

    That is one with a norm or a non-linearity, in the usual order, around a plain convolution of two dimensions.
    """
    kind: Any = type(module)
    if (kind.__module__, kind.__qualname__) != ("mmcv.cnn.bricks.conv_module", "ConvModule"):
        return False
    own: Any = module
    plain = own.order == ("conv", "norm", "act") and not own.with_spectral_norm and not own.with_explicit_padding
    plain = plain and own.efficient_conv_bn_eval_forward is None
    return bool(plain and isinstance(own.conv, nn.Conv2d) and (own.with_norm or own.with_activation))


class ConvModuleParts(Parts):
    """What a rewritten module has beyond its own: a `norm`, a `nonlinearity`, or `None`; `adds`: a shortcut."""

    norm: nn.Module | None
    nonlinearity: nn.Module | None

    def __init__(self, spec: BlockSpec, module: nn.Module) -> None:
        super().__init__()
        conv: Any = module._modules["conv"]
        like = device_dtype(conv.weight)
        self.norm = nn.BatchNorm2d(conv.in_channels, **like) if spec.norm == "before" else None
        self.nonlinearity = None
        if spec.nonlinearity != "keep":
            self.nonlinearity = make_nonlinearity(spec.nonlinearity, conv.out_channels, **like)
        spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        keeps = conv.padding != "valid" and (conv.padding == "same" or [2 * p for p in conv.padding] == spans)
        same = keeps and conv.stride == (1, 1) and conv.in_channels == conv.out_channels
        self.adds = spec.shortcut == "conv" and same


class BinaryConvModule(BinaryLayer[BlockSpec]):
    """A ConvModule that follows a `BlockSpec`; `[...]` depends on the record.

        z = [norm](x);  z = conv(z);  z = [norm](z);  z = z + [x];  z = nonlinearity(z)

    With `shortcut: conv` the input is added where the module keeps its shape; elsewhere there is no shortcut, whatever
    `downsample` says. What a record leaves out rests: its Parameters take no gradient until the module is restored.
    """

    binary: ConvModuleParts

    def make_parts(self, spec: BlockSpec) -> ConvModuleParts:
        """New members, where the record asks for them."""
        return ConvModuleParts(spec, self)

    def attach(self, spec: BlockSpec, parts: ConvModuleParts) -> None:  # type: ignore[override]
        """Take on the parts; what is left out rests."""
        super().attach(spec, parts)
        self._float_requires_grad = [p.requires_grad for p in self.resting()]
        for parameter in self.resting():
            parameter.requires_grad_(False)

    def detach(self) -> None:
        """Drop the parts; gradients are as they were."""
        for parameter, flag in zip(self.resting(), self._float_requires_grad, strict=True):
            parameter.requires_grad_(flag)
        del self._float_requires_grad
        super().detach()

    def resting(self) -> list[nn.Parameter]:
        """The Parameters of the module's own norm, where it computes without."""
        own: Any = self
        return list(own.norm.parameters()) if self.binary.norm is not None and own.with_norm else []

    def forward(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        """The rewritten module; `activate` and `norm` as in ConvModule."""
        own, parts, at = (self, self.binary, self.spec.nonlinearity_at)  # type: tuple[Any, ConvModuleParts, str]
        own_act = own.activate if own.with_activation else nn.Identity()
        act: nn.Module = own_act if parts.nonlinearity is None else parts.nonlinearity
        act = act if activate else nn.Identity()
        z: Tensor = own.conv(x if parts.norm is None or not norm else parts.norm(x))
        if at == "before_norm":
            z = act(z)
        if parts.norm is None and own.with_norm and norm:
            z = own.norm(z) if at == "before_norm" else normalized(own.norm, own.conv, z)
        if at == "before_add":
            z = act(z)
        if parts.adds:
            z = z + x
        return act(z) if at == "after_add" else z
