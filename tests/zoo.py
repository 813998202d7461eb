"""Small models of every kind that can be binarized, and every method that has parts for them.

A new method gets the tests of the whole table by being registered; a new kind of model by one entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize import Rule, layer_types
from bnnapps.methods import get_method, methods
from bnnapps.nn import Lookup


class Tokens(nn.Module):
    """A small transformer of PyTorch's own parts."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8, padding_idx=0)
        self.attention = nn.MultiheadAttention(
            8, 2
        )  # not batch-first: PyTorch then has no fused path that rounds differently
        self.norm = nn.LayerNorm(8)
        self.linear1 = nn.Linear(8, 16)
        self.act = nn.GELU()
        self.linear2 = nn.Linear(16, 8)

    def forward(self, indices: Tensor) -> Tensor:
        x = self.norm(self.embedding(indices))
        y = x.transpose(0, 1)
        x = self.norm(x + self.attention(y, y, y, key_padding_mask=indices == 0)[0].transpose(0, 1))
        return x + self.linear2(self.act(self.linear1(x)))


class CrossAttention(nn.Module):
    """Attention whose packed weights cannot be packed."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, add_bias_kv=True)

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result: Tensor = self.attention(x, key, value)[0]
        return result


class Sequences(nn.Module):
    """Bags of tokens, recurrent layers, a cell, and a bilinear layer at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(10, 5)
        self.cell = nn.RNNCell(5, 5)
        self.join = nn.Bilinear(5, 6, 3)

    def forward(self, indices: Tensor) -> Tensor:
        bags = self.bag(indices.flatten(0, 1)).unflatten(0, indices.shape[:2])
        x, _ = self.lstm(bags)
        _, last = self.gru(x.transpose(0, 1))
        joined: Tensor = self.join(self.cell(last[0], last[0].flip(1)), bags.mean(1))
        return joined


def _lookups() -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(6), nn.Hardtanh(), Lookup(6, 8, 3, "learned"), Lookup(8, 6, 2), Lookup(6, 2, 3, "tree")
    )


def _upsampling() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(4, 8, 3, stride=2, groups=2, output_padding=1),
        nn.GroupNorm(2, 8),
        nn.ConvTranspose2d(8, 4, 2, dilation=2, padding=1, bias=False),
        nn.GroupNorm(2, 4),
        nn.Flatten(2),
        nn.ConvTranspose1d(4, 4, 3),
        nn.GroupNorm(2, 4),
        nn.Unflatten(2, (2, -1, 1)),
        nn.ConvTranspose3d(4, 2, 2, padding=(0, 1, 0)),
    )


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 3)
    )


def _images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="circular"),
        nn.GroupNorm(2, 4),
        nn.Conv2d(4, 6, 3, stride=2, dilation=2, groups=2, padding="valid", bias=False),
        nn.Flatten(),
        nn.Linear(24, 2),
    )


def _signals() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 4, 3, padding="same"), nn.GroupNorm(2, 4), nn.Conv1d(4, 4, 3, groups=4))


def _volumes() -> nn.Module:
    return nn.Sequential(nn.Conv3d(2, 4, 2), nn.GroupNorm(2, 4), nn.Conv3d(4, 2, 2, padding=1))


def _shared() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.LayerNorm(6), layer, nn.LayerNorm(6), nn.Linear(6, 2))


def _bert() -> nn.Module:
    from transformers import BertConfig, BertForTokenClassification

    return BertForTokenClassification(
        BertConfig(
            vocab_size=20,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=12,
            initializer_range=0.5,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def _tokens() -> Tensor:
    indices = torch.randint(1, 20, (3, 5))
    indices[1, 3:] = 0
    return indices


def _bert_inputs() -> dict[str, Tensor]:
    indices = _tokens()
    return {"input_ids": indices, "attention_mask": (indices != 0).long()}


@dataclass(frozen=True)
class Zoo:
    """A model, inputs for it, the keys of the layer types that it has, and those without which it is no use."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    keys: tuple[str, ...]
    without: tuple[str, ...] = ()

    @property
    def central(self) -> tuple[str, ...]:
        """The types of which a method has to cover one."""
        return tuple(k for k in self.keys if k not in self.without)


ZOO: dict[str, Zoo] = {
    "mlp": Zoo(_mlp, lambda: torch.randn(5, 6), ("linear",)),
    "images": Zoo(_images, lambda: torch.randn(2, 3, 8, 8), ("conv2d", "linear"), without=("linear",)),
    "signals": Zoo(_signals, lambda: torch.randn(2, 2, 9), ("conv1d",)),
    "volumes": Zoo(_volumes, lambda: torch.randn(2, 2, 4, 4, 4), ("conv3d",)),
    "shared": Zoo(_shared, lambda: torch.randn(5, 6), ("linear",)),
    "tokens": Zoo(Tokens, _tokens, ("embedding", "multihead_attention", "linear", "gelu"), without=("linear",)),
    "cross": Zoo(
        CrossAttention,
        lambda: (torch.randn(5, 2, 8), torch.randn(7, 2, 6), torch.randn(7, 2, 4)),
        ("multihead_attention",),
    ),
    "sequences": Zoo(
        Sequences,
        lambda: torch.randint(0, 20, (3, 5, 4)),
        ("embedding_bag", "lstm", "gru", "rnn_cell", "bilinear"),
        without=("embedding_bag",),
    ),
    "upsampling": Zoo(
        _upsampling, lambda: torch.randn(2, 4, 4, 5), ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    ),
    "lookups": Zoo(_lookups, lambda: torch.randn(5, 6), ("lookup",)),
    "bert": Zoo(_bert, _bert_inputs, ("embedding", "linear", "hf.SelfAttention", "gelu"), without=("linear",)),
}


def covered(method: str, model: str) -> list[str]:
    """The layer types of the model that the method has parts for."""
    slots = get_method(method).layers
    kinds = {key: layer_types()[key] for key in ZOO[model].keys}
    return [k for k, kind in kinds.items() if kind.slot in slots and _has_room(k, slots[kind.slot])]


def _has_room(key: str, spec: Any) -> bool:
    """Whether the layers of a type can follow the record.

    Some have no output scale; and codes of [0, 1] (DoReFa) are all 0 for hidden states, which stay below one half.
    """
    return key not in _RECURRENT_AND_BILINEAR or (
        spec.output is None and getattr(spec.activation, "scale", "") != "unit"
    )


_RECURRENT_AND_BILINEAR = ("lstm", "gru", "rnn_cell", "bilinear")
METHODS = [m.name for m in methods()]
# Methods of convolutional networks share what they make of an attention: one of them stands for all.
_STAND_INS = ("xnor",)
_WITH_ATTENTION = ("tokens", "cross", "bert")
# What differs between methods shows on linear layers and convolutions over images; the other kinds follow a few.
_OTHER_KINDS = ("signals", "volumes", "sequences", "upsampling")
_THOROUGH = ("xnor", "irnet", "adabin", "recu", "bit", "binarybert")
CASES = [
    (method, model)
    for method in METHODS
    for model, zoo in ZOO.items()
    if set(zoo.central) & set(covered(method, model))
    if model not in _WITH_ATTENTION or method in _STAND_INS or "conv" not in get_method(method).layers
    if model not in _OTHER_KINDS or method in _THOROUGH
    if model == "mlp" or get_method(method).tasks != ("graphs",)
]
EXPORTED = [(method, model) for method, model in CASES if model not in ("sequences", "upsampling")]


def rules(method: str, model: str) -> dict[str, Any]:
    """Rules that make everything binary that the method has parts for."""
    return {"rules": [Rule(types=covered(method, model), use=method)], "keep_first": 0, "keep_last": 0}


def example_inputs(model: str) -> Any:
    """Inputs for planning, from a generator of their own, so that asking for them changes no other numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return ZOO[model].inputs()


def binarize(net: nn.Module, method: str, model: str) -> nn.Module:
    """The given net, binarized; random first values of parts are the same each time."""
    torch.manual_seed(2)
    examples = _converted(example_inputs(model), next(net.parameters()).dtype)
    return bnnapps.binarize(net, rules(method, model), example_inputs=examples)


def _converted(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, dict):
        return {k: _converted(v, dtype) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_converted(v, dtype) for v in value)
    return value.to(dtype) if value.is_floating_point() else value


def build(model: str) -> nn.Module:
    torch.manual_seed(0)
    return ZOO[model].build()


def binary(method: str, model: str, calibrated: bool = True) -> nn.Module:
    """The model of the zoo, binarized; learned scales have seen one batch."""
    made = binarize(build(model), method, model)
    if calibrated:
        with torch.no_grad():
            result(made.train(), ZOO[model].inputs())
    return made


def result(model: nn.Module, inputs: Any) -> Tensor:
    """The model's output as one tensor."""
    from bnnapps.forward import call_model

    output: Any = call_model(model, inputs)
    found: Tensor = output if isinstance(output, Tensor) else output[0]
    return found
