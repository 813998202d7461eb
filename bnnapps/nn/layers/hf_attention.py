"""Self-attention of Hugging Face encoders, reached through transformers' own attention-function registry.

Every attention module of transformers 5 looks its attention function up by name: `config._attn_implementation`. A
binarized module gets a copy of its config that names ours, so its neighbours keep theirs.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import BinarizeError
from bnnapps.nn.layers.attention import AttentionParts
from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.nn.spec import AttentionSpec

IMPLEMENTATION = "bnnapps"

PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
)
"""How encoders name their projections."""


def is_hf_attention(module: nn.Module) -> bool:
    """Whether the module computes its attention through transformers' registry."""
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names and hasattr(module, "config")


def projections(module: nn.Module) -> tuple[str, str, str] | None:
    """The names of the module's query, key and value layers."""
    children = dict(module.named_children())
    return next((names for names in PROJECTIONS if all(n in children for n in names)), None)


@functools.cache
def register() -> None:
    """Make our attention function known to transformers (once a process)."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, attention_function)


class BinaryHFSelfAttention(BinaryLayer[AttentionSpec]):
    """A Hugging Face self-attention whose two products are binary; its projections are layers of their own.

    The class is made for each attention class: `BinaryBertSelfAttention(BinaryHFSelfAttention, BertSelfAttention)`.
    """

    probe = "attend"
    binary: AttentionParts
    config: Any
    is_causal: bool

    def make_parts(self, spec: AttentionSpec) -> AttentionParts:
        """The binarizers for this attention."""
        like = next(iter(self.parameters()))
        return AttentionParts(spec, head_size(self), like)

    def attach(self, spec: AttentionSpec, parts: AttentionParts) -> None:  # type: ignore[override]
        """Take on the parts, and a config of its own that names our attention function."""
        super().attach(spec, parts)
        register()
        self._float_config = self.config
        self.config = copy.deepcopy(self.config)
        self.config._attn_implementation = IMPLEMENTATION

    def detach(self) -> None:
        """Drop the parts, and take the shared config back."""
        self.config = self._float_config
        del self._float_config
        super().detach()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the float module; its attention function is ours."""
        register()  # a module that was unpickled may be the first of its process
        return super().forward(*args, **kwargs)

    def attend(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """See `AttentionParts.attend`."""
        return self.binary.attend(*args, **kwargs)

    def constrain(self) -> None:
        """Keep learned scales positive."""
        self.binary.constrain()


def head_size(module: nn.Module) -> int:
    """Features of one head."""
    for name in ("attention_head_size", "head_dim", "attention_head_dim", "key_value_proj_dim"):
        if isinstance(getattr(module, name, None), int):
            return int(getattr(module, name))
    config: Any = module.config
    return int(config.hidden_size // config.num_attention_heads)


_UNSUPPORTED = ("softcap", "s_aux")  # a sliding window comes with the mask, as for sdpa and eager


def attention_function(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """The function that transformers calls: (B, H, L, d) tensors in, context of shape (B, L, H, d) out."""
    assert isinstance(module, BinaryHFSelfAttention)
    for name in _UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise BinarizeError(
                f"{type(module).__name__} uses '{name}', which a binary attention does not compute: keep this module"
            )
    if attention_mask is not None and attention_mask.dim() != 4:
        raise BinarizeError(
            f"{type(module).__name__} got a mask of shape {tuple(attention_mask.shape)} instead of (B, H, L, S): load "
            "the model with attn_implementation='sdpa' or 'eager'"
        )
    if key.shape[1] != query.shape[1]:  # grouped-query attention: fewer keys than queries
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[-2]]
    elif _is_causal(module, kwargs.get("is_causal")) and query.shape[-2] > 1:
        shape = (query.shape[-2], key.shape[-2])
        attention_mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril(shape[1] - shape[0])
    position_bias = kwargs.get("position_bias")  # T5's: it is added to the scores
    if position_bias is not None:
        attention_mask = _biased(position_bias, attention_mask)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    context, weights = module.attend(query, key, value, attention_mask, scaling, dropout)
    return context.transpose(1, 2).contiguous(), weights


def _biased(bias: Tensor, mask: Tensor | None) -> Tensor:
    """A bias of the scores and a mask, as one tensor that is added to them."""
    if mask is None:
        return bias
    return bias.masked_fill(~mask, torch.finfo(bias.dtype).min) if mask.dtype == torch.bool else bias + mask


def _is_causal(module: nn.Module, given: bool | None) -> bool:
    return bool(getattr(module, "is_causal", False) if given is None else given)
