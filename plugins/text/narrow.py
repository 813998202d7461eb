"""Encoders of a fraction of the width: the most important heads and inner features stay (DynaBERT, Hou et al., 2020).

BinaryBERT starts from a ternary network of half the width, which its splitting brings back to the full number of
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import RecipeError
from bnnapps.nn.layers.hf_attention import head_size, is_hf_attention, projections

_OUTPUTS = (
    ("attention.output.dense", "intermediate.dense", "output.dense"),
    ("attention.out_lin", "ffn.lin1", "ffn.lin2"),
)
"""In a layer: the attention's output projection, the first and the second layer of the feed-forward block."""


@dataclass(frozen=True)
class _Block:
    attention: nn.Module
    names: tuple[str, str, str]
    output: nn.Linear
    inner: nn.Linear
    outer: nn.Linear


def narrow_encoder(
    model: nn.Module, width: float, batches: Iterable[Any], loss: Callable[[nn.Module, Any], Tensor]
) -> nn.Module:
    """Keep the given fraction of heads and of inner features in every layer, in place.

    The importance of a head is the sum over the batches of |x . dL/dx|, x being its part of what enters the output
    projection: to first order, how much the loss changes without it. Likewise for each inner feature.

    Args:
        model: a float BERT, RoBERTa, ELECTRA or DistilBERT.
        width: in (0, 1]; the number of heads times it must be whole.
        batches: data to measure the importance on; without any, the first heads and features stay.
        loss: the task's loss of a batch.

    Raises:
        RecipeError: another architecture, or a width that does not divide the heads.
    """
    blocks = _blocks(model)
    importance = _importance(model, blocks, batches, loss)
    for block in blocks:
        size = head_size(block.attention)
        heads = block.output.in_features // size
        keep = round(heads * width)
        if keep < 1 or abs(keep - heads * width) > 1e-6:
            raise RecipeError(f"width {width} of {heads} heads is no whole number of heads: choose another width")
    for block in blocks:
        size = head_size(block.attention)
        heads = block.output.in_features // size
        by_head = importance[id(block.output)].view(heads, size).sum(dim=1)
        chosen = _most(by_head, round(heads * width))
        features = (chosen[:, None] * size + torch.arange(size)).reshape(-1)
        for name in block.names:
            _keep_rows(getattr(block.attention, name), features)
        _keep_columns(block.output, features)
        inner = _most(importance[id(block.outer)], round(block.inner.out_features * width))
        _keep_rows(block.inner, inner)
        _keep_columns(block.outer, inner)
        _set_heads(block.attention, round(heads * width), len(features))
    return model


def _blocks(model: nn.Module) -> list[_Block]:
    found = []
    for name, module in model.named_modules():
        names = projections(module)
        if not is_hf_attention(module) or names is None:
            continue
        found.append(_block(model, name, module, names))
    if not found:
        raise RecipeError(f"{type(model).__name__} has no self-attention that could be narrowed: remove 'width'")
    return found


def _block(model: nn.Module, name: str, attention: nn.Module, names: tuple[str, str, str]) -> _Block:
    layer_name = name.split(".attention")[0]
    layer = dict(model.get_submodule(layer_name).named_modules())
    for output, inner, outer in _OUTPUTS:
        parts = [layer.get(n) for n in (output, inner, outer)]
        if all(isinstance(p, nn.Linear) for p in parts):
            return _Block(attention, names, *parts)  # type: ignore[arg-type]
    raise RecipeError(
        f"{type(model).__name__} cannot be narrowed (only BERT-like layers and DistilBERT's): remove 'width'"
    )


def _importance(
    model: nn.Module, blocks: list[_Block], batches: Iterable[Any], loss: Callable[[nn.Module, Any], Tensor]
) -> dict[int, Tensor]:
    layers = [layer for block in blocks for layer in (block.output, block.outer)]
    total = {id(layer): torch.zeros(layer.in_features) for layer in layers}
    inputs: dict[int, Tensor] = {}

    def remember(layer: nn.Module, args: tuple[Any, ...]) -> None:
        args[0].retain_grad()
        inputs[id(layer)] = args[0]

    flags = [(m, m.training) for m in model.modules()]
    handles = [layer.register_forward_pre_hook(remember) for layer in layers]
    model.eval()
    try:
        for batch in batches:
            value = loss(model, batch)
            model.zero_grad(set_to_none=True)
            value.backward()
            for key, x in inputs.items():
                assert x.grad is not None
                total[key] += (x.detach() * x.grad).abs().sum(dim=tuple(range(x.dim() - 1))).cpu()
    finally:
        for handle in handles:
            handle.remove()
        for module, flag in flags:
            module.training = flag
        model.zero_grad(set_to_none=True)
    return total


def _most(importance: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest, in their own order; the first ones where all are equal."""
    order = torch.argsort(importance, descending=True, stable=True)[:count]
    return order.sort().values


@torch.no_grad()
def _keep_rows(layer: nn.Linear, rows: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight[rows].clone())
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[rows].clone())
    layer.out_features = len(rows)


@torch.no_grad()
def _keep_columns(layer: nn.Linear, columns: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight[:, columns].clone())
    layer.in_features = len(columns)


def _set_heads(attention: nn.Module, heads: int, features: int) -> None:
    module: Any = attention
    for name in ("num_attention_heads", "n_heads"):
        if hasattr(module, name):
            setattr(module, name, heads)
    if hasattr(module, "all_head_size"):
        module.all_head_size = features
