"""Attention within shifted windows, as torchvision's Swin Transformers have it: of images and of videos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.nn.layers.attention import AttentionParts
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.layers.operands import LinearParts
from bnnapps.nn.layers.windows import Windows, windows_of
from bnnapps.nn.spec import ActivationSpec, AttentionSpec
from bnnapps.nn.weights import WeightBinarizer

_IMAGES = "torchvision.models.swin_transformer"
_KINDS = {
    (_IMAGES, "ShiftedWindowAttention"),
    (_IMAGES, "ShiftedWindowAttentionV2"),
    ("torchvision.models.video.swin_transformer", "ShiftedWindowAttention3d"),
}
LARGEST_SCALE = math.log(100.0)
"""Where Swin V2 clamps the logarithm of its cosine scale."""


def is_shifted_window_attention(module: nn.Module) -> bool:
    """Whether the module is one of torchvision's three window attentions."""
    return (type(module).__module__, type(module).__name__) in _KINDS


class WindowParts(AttentionParts):
    """Binarizers of the products, and of the two projections `qkv` and `proj`."""

    def __init__(self, spec: AttentionSpec, qkv: nn.Linear, proj: nn.Linear, heads: int) -> None:
        super().__init__(spec, proj.in_features // heads, proj.weight)
        self.projections = nn.ModuleDict(
            {n: LinearParts(spec.projection, m.weight, m.in_features) for n, m in (("qkv", qkv), ("proj", proj))}
        )

    def projection(self, name: str) -> LinearParts:
        """The binarizers of one projection: qkv or proj."""
        parts = self.projections[name]
        assert isinstance(parts, LinearParts)
        return parts

    def project(self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One projection of x, (..., in) -> (..., out)."""
        return self.projection(name).project(x, weight, bias)


class BinaryShiftedWindowAttention(BinaryLayer[AttentionSpec]):
    """A window attention of torchvision whose two projections and two products are binary.

    scores = codes(q) codes(k)^T / sqrt(d) + relative position bias, within each window; see `AttentionParts.attend`.
    Positions that a shift brought into one window from different sides never attend to each other.

    Swin V2 compares directions: scores = cos(q, k) exp(t), with a learned t for each head, at most log 100. Query and
    key are normalized before their binarizers, and a sign without a scale stands for one component of a unit vector,
    +-1 / sqrt(d).

    The class is made for each float class. Shapes: (B, *positions, C) -> the same, channels last.

    """

    binary: WindowParts
    qkv: nn.Linear
    proj: nn.Linear
    window_size: Sequence[int]
    shift_size: Sequence[int]
    num_heads: int
    attention_dropout: float
    dropout: float
    relative_position_index: Tensor
    get_relative_position_bias: Any

    def make_parts(self, spec: AttentionSpec) -> WindowParts:
        """The binarizers for this attention."""
        return WindowParts(spec, self.qkv, self.proj, self.num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """As the float class."""
        windows = windows_of(x.shape[1:-1], self.window_size, self.shift_size, shrink=self._shrinks)
        inside = windows.split(x)  # (B, windows, positions, C)
        inside = self._attended(inside, self._bias(windows))
        inside = F.dropout(inside, p=self.dropout, training=self.training)
        return windows.join(inside)

    @property
    def _shrinks(self) -> bool:
        """Whether a window is never larger than what it looks at (videos)."""
        return len(self.window_size) == 3

    def _bias(self, windows: Windows) -> Tensor:
        """What is added to the scores, (1, windows or 1, H, S, S): the bias, the lowest number where hidden."""
        found: Tensor = self.get_relative_position_bias(*((windows.size,) if self._shrinks else ()))
        bias, hidden = found.unsqueeze(1), windows.hidden(found.device)
        return bias if hidden is None else bias.masked_fill(hidden[None, :, None], torch.finfo(bias.dtype).min)

    def _attended(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, windows, S, C) -> the same."""
        logit_scale: Tensor | None = getattr(self, "logit_scale", None)
        qkv = self.binary.project("qkv", x, self.qkv.weight, self._qkv_bias(logit_scale is not None))
        heads = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)  # (3, B, windows, H, S, d)
        query, key, value = heads.unbind(0)
        scaling: Any = query.shape[-1] ** -0.5
        if logit_scale is not None:
            query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
            units = (_unit(spec, query.shape[-1]) for spec in (self.spec.query, self.spec.key))
            scaling = torch.clamp(logit_scale, max=LARGEST_SCALE).exp() * math.prod(units)
        dropout = self.attention_dropout if self.training else 0.0
        context, _ = self.attend(query, key, value, bias, scaling, dropout)
        merged = context.transpose(2, 3).flatten(3)
        return self.binary.project("proj", merged, self.proj.weight, self.proj.bias)

    def _qkv_bias(self, cosine: bool) -> Tensor | None:
        """The bias of the projection; in cosine attention keys have none."""
        bias: Tensor | None = self.qkv.bias
        if bias is None or not cosine:
            return bias
        query, key, value = bias.chunk(3)
        return torch.cat([query, torch.zeros_like(key), value])

    def attend(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """See `AttentionParts.attend`."""
        return self.binary.attend(*args, **kwargs)

    def constrain(self) -> None:
        """Apply the constraints of the projections and of the learned scales."""
        self.binary.constrain()
        for name, layer in (("qkv", self.qkv), ("proj", self.proj)):
            self.binary.projection(name).constrain(layer.weight)

    def latents(self) -> list[tuple[str, Tensor, WeightBinarizer]]:
        """The weights of both projections."""
        found = self.binary.projection("qkv").latent("qkv.weight", self.qkv.weight)
        return found + self.binary.projection("proj").latent("proj.weight", self.proj.weight)

    def binary_tensors(self) -> dict[str, Tensor]:
        """The projections as deployment has them."""
        return {
            "qkv.weight": self.binary.projection("qkv").deployed(self.qkv.weight),
            "proj.weight": self.binary.projection("proj").deployed(self.proj.weight),
        }

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if any(binarizer.spec.kind == "split" for _, _, binarizer in self.latents()):
            # The children first, since theirs are weights to split; what is wrong with them is reported in their turn.
            for name, child in (("qkv", self.qkv), ("proj", self.proj)):
                child._load_from_state_dict(state_dict, f"{prefix}{name}.", {}, False, [], [], [])
        super()._load_from_state_dict(state_dict, prefix, *args)


def _unit(spec: ActivationSpec | None, features: int) -> float:
    """What makes a vector of plain codes one of length 1; other operands have their own scale."""
    plain = spec is not None and spec.scale == "none"
    return features**-0.5 if plain else 1.0
