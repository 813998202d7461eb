"""Residual blocks of torchvision, timm and our own models, put together anew around their own convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnnapps.errors import BinarizeError
from bnnapps.nn.blocks.lean import AvgPool2d, normalized
from bnnapps.nn.blocks.shortcut import PadShortcut
from bnnapps.nn.layers.base import PARTS, BinaryLayer, Parts, device_dtype
from bnnapps.nn.layers.bases import Geometry, dilated, keeps_size, make_base, start_base, undilated
from bnnapps.nn.nonlinearities import make_nonlinearity
from bnnapps.nn.spec.block import BlockSpec

KINDS = (
    ("torchvision.models.resnet", "BasicBlock"),
    ("torchvision.models.resnet", "Bottleneck"),
    ("timm.models.resnet", "BasicBlock"),
    ("timm.models.resnet", "Bottleneck"),
    ("mmdet.models.backbones.resnet", "BasicBlock"),
    ("mmdet.models.backbones.resnet", "Bottleneck"),
    ("bnnapps.nn.blocks.residual", "BasicBlock"),
)
"""The classes that can be rewritten, by module and name. A subclass may compute something else and is none of them."""

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)

Added = Literal["nothing", "branch", "input"]
"""What is added behind a convolution: nothing, the block's shortcut branch, or the convolution's own input."""


def is_residual_block(module: nn.Module) -> bool:
    """Whether the module is a residual block that can be rewritten."""
    if (type(module).__module__, type(module).__qualname__) not in KINDS:
        return False
    # Blocks of mmdet may have plugins, deformable convolutions or norms of other names, which a rewritten one has not.
    more = any(getattr(module, flag, False) for flag in ("with_plugins", "with_dcn"))
    return not more and len(convolutions(module)) == len(norms(module))


class BlockParts(Parts):
    """The members that a rewritten block has beyond its own.

    `norms` and `nonlinearities` hold one for each convolution, or none where the block's own ones serve; `pool` is
    the average pooling of the shortcut branch, or `None`. Of K bases `bases` holds all but the block's own branch,
    `scales` (K,) what each is multiplied with, and `gates` (convolutions - 1, K), if asked for, how far each goes on
    alone behind a convolution, before the sigmoid.
    """

    pool: nn.AvgPool2d | None
    scales: nn.Parameter | None
    gates: nn.Parameter | None

    def __init__(self, spec: BlockSpec, block: nn.Module) -> None:
        super().__init__()
        convs = convolutions(block)
        like = device_dtype(convs[0].weight)
        self.norms, self.nonlinearities = nn.ModuleList(), nn.ModuleList()
        if spec.norm == "before":
            self.norms.extend(_norm_like(n, c.in_channels, like) for n, c in zip(norms(block), convs, strict=True))
        if spec.nonlinearity != "keep":
            self.nonlinearities.extend(make_nonlinearity(spec.nonlinearity, c.out_channels, **like) for c in convs)
        self.pool = None
        head = branch_head(block)
        if spec.downsample == "avgpool" and head is not None:
            size = _pair(head.stride)
            if size != (1, 1):
                # An odd last row is averaged alone, so that sizes agree with a strided 3x3 convolution.
                self.pool = AvgPool2d(size, size, ceil_mode=True, count_include_pad=False)
        self.added = added(block, spec)
        self.bases = nn.ModuleList(make_base(block, ResidualBlock, spec, k) for k in range(1, spec.bases))
        self.scales = self.gates = None
        if spec.bases > 1:
            self.scales = nn.Parameter(torch.full((spec.bases,), 1 / spec.bases, **like))
        if spec.gates:
            self.gates = nn.Parameter(torch.zeros(len(convs) - 1, spec.bases, **like))


class ResidualBlock(BinaryLayer[BlockSpec]):
    """A block of two convolutions, or a bottleneck of three, that follows a `BlockSpec`.

    For the i-th convolution with input y, where `[...]` depends on the record:

        z = [norm](y);  z = conv(z);  z = [nonlinearity](z);  z = [norm](z);  z = [nonlinearity](z);
        z = z + [shortcut];  z = [nonlinearity](z)

    The class is made for each block class: `BinaryBasicBlock(ResidualBlock, BasicBlock)`. Convolutions, BatchNorms and
    the shortcut branch keep their names and Parameters. Members that a record leaves out rest: their Parameters take no
    gradient until the block is restored. timm's further members stay in their places: drop block and anti-aliasing
    behind the last convolution but one, channel attention behind the last, drop path in each branch that is added to.

    With `shortcut: conv` a bottleneck gets one more shortcut, around its 3x3 convolution where that neither strides nor
    widens; the 1x1 convolutions change the number of channels, so they have none.

    With K `bases` the branch stands there K times, the block's own convolutions and norms in the first and copies with
    weights of their own (`bnnapps.nn.layers.bases`) in the others; all read x, and the block puts out
    sum_k s_k z_k (Group-Net, Zhuang et al., CVPR 2019). With `gates`, base k goes on behind each convolution but the
    last with t_k z_k + (1 - t_k) sum_i s_i z_i, t_k = sigmoid(g_k). The paper also lets bases run on through several
    blocks; here a block always ends in one map, so that blocks stay what their network takes them for.
    """

    binary: BlockParts
    downsample: nn.Module | None
    _float_geometry: list[Geometry]

    @staticmethod
    def check_spec(name: str, module: nn.Module, spec: BlockSpec) -> None:
        """Raise `BinarizeError` where the block cannot follow the record."""
        for norm in norms(module) if spec.norm == "before" else ():
            if type(norm) not in _NORMS:
                raise BinarizeError(
                    f"'{name}' normalises by {type(norm).__name__}, but norm 'before' puts a BatchNorm before each "
                    "sign: use norm 'after', or keep this block"
                )
        for conv in convolutions(module) if spec.dilations is not None else ():
            if not keeps_size(conv):
                raise BinarizeError(
                    f"'{name}' has a {conv.kernel_size[0]}x{conv.kernel_size[1]} convolution with padding "
                    f"{conv.padding}, which changes the size of its map, so dilations cannot keep it: drop dilations "
                    "for this block, or keep it"
                )

    def make_parts(self, spec: BlockSpec) -> BlockParts:
        """New BatchNorms and non-linearities, where the record asks for them."""
        return BlockParts(spec, self)

    def attach(self, spec: BlockSpec, parts: BlockParts) -> None:  # type: ignore[override]
        """Take on the parts; what is left out rests, and a pooled branch strides no more."""
        super().attach(spec, parts)
        self._float_requires_grad = [p.requires_grad for p in self.resting()]
        for parameter in self.resting():
            parameter.requires_grad_(False)
        if parts.pool is not None:
            head: Any = branch_head(self)
            self._float_stride = head.stride
            head.stride = 1 if isinstance(head.stride, int) else (1, 1)
        if spec.dilations is not None:
            self._float_geometry = [dilated(conv, spec.dilations[0]) for conv in _spatial(self)]

    def detach(self) -> None:
        """Drop the parts; gradients and stride are as they were."""
        for parameter, flag in zip(self.resting(), self._float_requires_grad, strict=True):
            parameter.requires_grad_(flag)
        del self._float_requires_grad
        if self.binary.pool is not None:
            head: Any = branch_head(self)
            head.stride = self._float_stride
            del self._float_stride
        if self.spec.dilations is not None:
            for conv, before in zip(_spatial(self), self._float_geometry, strict=True):
                undilated(conv, before)
            del self._float_geometry
        super().detach()

    def resting(self) -> list[nn.Parameter]:
        """The Parameters of the block's own BatchNorms and non-linearities that it computes without."""
        unused = [*(norms(self) if self.binary.norms else ()), *(_own_acts(self) if self.binary.nonlinearities else ())]
        return list(dict.fromkeys(p for module in unused for p in module.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """The rewritten block; see the class."""
        branches: list[ResidualBlock] = [self, *self.binary.bases]
        shared: list[Tensor] = []

        def shortcut() -> Tensor:
            if not shared:
                shared.append(self._branch(x))
            return shared[0]

        maps, last = [x] * len(branches), len(self.binary.added) - 1
        for i in range(last + 1):
            maps = [branch.step(i, y, shortcut) for branch, y in zip(branches, maps, strict=True)]
            if self.binary.gates is not None and i < last:
                alone, together = torch.sigmoid(self.binary.gates[i]), self._fused(maps)
                maps = [t * y + (1 - t) * together for t, y in zip(alone, maps, strict=True)]
        return self._fused(maps)

    def _fused(self, maps: list[Tensor]) -> Tensor:
        """sum_k s_k maps_k; a single map as it is."""
        scales = self.binary.scales
        if scales is None:
            return maps[0]
        total = scales[0] * maps[0]
        for scale, y in zip(scales[1:], maps[1:], strict=True):
            total = total + scale * y
        return total

    def step(self, i: int, y: Tensor, shortcut: Callable[[], Tensor]) -> Tensor:
        """What stands behind the i-th convolution of the branch, from what came before it."""
        spec, kind, act = self.spec, self.binary.added[i], self._acts()[i]
        conv, own_norm, last = convolutions(self)[i], norms(self)[i], len(self.binary.added) - 1
        z = conv(self.binary.norms[i](y) if spec.norm == "before" else y)
        if spec.nonlinearity_at == "before_norm":
            z = act(z)
        if spec.norm == "after":
            z = own_norm(z) if spec.nonlinearity_at == "before_norm" else normalized(own_norm, conv, z)
        if i == last - 1:
            z = _optional(self, "drop_block")(z)
        behind_add = kind != "nothing" and spec.nonlinearity_at == "after_add"
        if not behind_add and spec.nonlinearity_at != "before_norm":
            z = act(z)
        z = _optional(self, "aa" if i == last - 1 else "se" if i == last else "")(z)
        if kind != "nothing":
            z = _optional(self, "drop_path")(z)
            z = z + (y if kind == "input" else shortcut())
        return act(z) if behind_add else z

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if any(key.startswith(f"{prefix}{PARTS}.") for key in state_dict):
            return
        own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        for number, base in enumerate(self.binary.bases, 1):  # a float checkpoint
            start_base(base, own, number, self.spec)

    def _acts(self) -> list[nn.Module]:
        return list(self.binary.nonlinearities) if self.binary.nonlinearities else _own_acts(self)

    def _branch(self, x: Tensor) -> Tensor:
        if self.downsample is None:
            return x
        out: Tensor = self.downsample(x if self.binary.pool is None else self.binary.pool(x))
        return out


def convolutions(block: nn.Module) -> list[nn.Conv2d]:
    """The two or three convolutions of the block's branch."""
    return list(_members(block, "conv"))


def _spatial(block: nn.Module) -> list[nn.Conv2d]:
    """Those of the branch's convolutions that are larger than 1x1."""
    return [conv for conv in convolutions(block) if conv.kernel_size != (1, 1)]


def norms(block: nn.Module) -> list[nn.Module]:
    """The block's own normalisation behind each convolution."""
    return list(_members(block, "bn"))


def _own_acts(block: nn.Module) -> list[nn.Module]:
    """The block's own non-linearity behind each convolution; torchvision has one module for all."""
    found: list[nn.Module] = list(_members(block, "act"))
    own: Any = block
    return found if found else [own.relu] * len(convolutions(block))


def _members(block: nn.Module, stem: str) -> Iterator[Any]:
    for number in (1, 2, 3):
        member = block._modules.get(f"{stem}{number}")
        if member is not None:
            yield member


def added(block: nn.Module, spec: BlockSpec) -> tuple[Added, ...]:
    """What the record adds behind each convolution of the block."""
    convs = convolutions(block)
    plain: tuple[Added, ...] = ("nothing", "branch") if len(convs) == 2 else ("nothing", "nothing", "branch")
    if spec.shortcut == "block":
        return plain
    if len(convs) == 3:
        return ("nothing", "input" if _keeps_shape(block, convs[1]) else "nothing", "branch")
    return ("branch", "input") if _keeps_shape(block, convs[1]) else plain


def _keeps_shape(block: nn.Module, conv: nn.Conv2d) -> bool:
    """Whether the convolution's input can be added to its output."""
    pooled = conv is not convolutions(block)[-1] and not isinstance(_optional(block, "aa"), nn.Identity)
    spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    padding = conv.padding
    padded = padding == "same" or [2 * int(p) for p in padding] == spans
    return conv.in_channels == conv.out_channels and _pair(conv.stride) == (1, 1) and padded and not pooled


def branch_head(block: nn.Module) -> nn.Conv2d | PadShortcut | None:
    """What strides first in the shortcut branch: a 1x1 convolution or a subsampling; `None` for anything else."""
    branch = block._modules.get("downsample")
    first = next(branch.children(), None) if isinstance(branch, nn.Sequential) else branch
    if isinstance(first, PadShortcut):
        return first
    if isinstance(first, nn.Conv2d) and first.kernel_size == (1, 1) and first.padding in ((0, 0), "valid"):
        return first
    return None


def _optional(block: nn.Module, name: str) -> Callable[[Tensor], Tensor]:
    """A member that only some blocks have; an identity where it is missing."""
    member = block._modules.get(name)
    return nn.Identity() if member is None else member


def _norm_like(norm: nn.Module, channels: int, like: dict[str, Any]) -> nn.Module:
    own: Any = norm
    made: nn.Module = type(own)(channels, own.eps, own.momentum, own.affine, own.track_running_stats, **like)
    return made


def _pair(stride: Any) -> tuple[int, int]:
    return (stride, stride) if isinstance(stride, int) else (int(stride[0]), int(stride[1]))
