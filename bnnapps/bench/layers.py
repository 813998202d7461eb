"""One layer with a batch of inputs for each kind of layer, to be measured.

A kind that is registered with `bnnapps.binarize.register_layer_type` is measured once `register_sample` knows a layer
of it; without, it is left out, and the reason is given.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import BnnappsError
from bnnapps.nn.layers.aggregation import Aggregation
from bnnapps.nn.layers.lookup import Lookup
from bnnapps.nn.layers.matmul import Matmul
from bnnapps.nn.layers.nonlinearity import Rectifier, Squash


class NoSampleError(BnnappsError):
    """A kind of layer cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Size:
    """The measures of sample layers.

    Attributes:
        batch: samples.
        channels: of a map, going in and out.
        edge: positions of a map in each direction; in one dimension edge^2, in three about edge^(2/3).
        width: of a token's vector.
        length: tokens of a sample.
        rows: of an embedding table.

    """

    batch: int
    channels: int
    edge: int
    width: int
    length: int
    rows: int


_SIZES = {
    "small": Size(batch=4, channels=32, edge=16, width=64, length=32, rows=1000),
    "large": Size(batch=8, channels=64, edge=56, width=384, length=128, rows=30000),
}


def sizes() -> tuple[str, ...]:
    """The names of the sizes."""
    return tuple(_SIZES)


@dataclass(frozen=True)
class Sample:
    """A float layer in training mode and what it is called with. Inputs of floats take gradients."""

    layer: nn.Module
    inputs: tuple[Tensor, ...]


Maker = Callable[[Size], Sample]
_MAKERS: dict[str, Maker] = {}


def register_sample(key: str, maker: Maker) -> None:
    """Make known what layer of a kind to measure, and on what; `maker` is called with a size.

    Raises:
        ValueError: the kind has a sample.

    """
    if key in _MAKERS:
        raise ValueError(f"the layer type '{key}' has a sample already")
    _MAKERS[key] = maker


def sample_of(key: str, size: str = "small") -> Sample:
    """A layer of a kind, with random weights and inputs from PyTorch's global generator.

    Raises:
        NoSampleError: no sample is registered, or a package that the layer comes from is missing.

    """
    if key not in _MAKERS:
        raise NoSampleError("no sample layer is registered for this kind")
    found = _MAKERS[key](_SIZES[size])
    for tensor in found.inputs:
        if tensor.is_floating_point():
            tensor.requires_grad_()
    found.layer.train()
    return found


def _maps(dims: int, s: Size) -> Tensor:
    """A random map with about edge^2 positions."""
    edges = {1: (s.edge**2,), 2: (s.edge, s.edge), 3: (max(4, round(s.edge ** (2 / 3))),) * 3}[dims]
    return torch.randn(s.batch, s.channels, *edges)


def _tokens(s: Size) -> Tensor:
    return torch.randn(s.batch, s.length, s.width)


def _indices(s: Size) -> Tensor:
    return torch.randint(s.rows, (s.batch, s.length))


def _register_convolutions() -> None:
    for dims in (1, 2, 3):
        for name in (f"Conv{dims}d", f"ConvTranspose{dims}d"):
            kind: Any = getattr(nn, name)

            def make(s: Size, kind: Any = kind, dims: int = dims) -> Sample:
                return Sample(kind(s.channels, s.channels, 3, padding=1, bias=False), (_maps(dims, s),))

            register_sample(name.lower().replace("convt", "conv_t"), make)


def _register_rows() -> None:
    register_sample("linear", lambda s: Sample(nn.Linear(s.width, s.width), (_tokens(s),)))
    register_sample("bilinear", lambda s: Sample(nn.Bilinear(s.width, s.width, 8), (_tokens(s), _tokens(s))))
    register_sample("embedding", lambda s: Sample(nn.Embedding(s.rows, s.width), (_indices(s),)))
    register_sample("embedding_bag", lambda s: Sample(nn.EmbeddingBag(s.rows, s.width), (_indices(s),)))
    register_sample("gelu", lambda s: Sample(nn.GELU(), (_tokens(s),)))
    register_sample("squash", lambda s: Sample(Squash(), (_tokens(s),)))
    register_sample("rectifier", lambda s: Sample(Rectifier(), (_tokens(s),)))
    register_sample("aggregation", lambda s: Sample(Aggregation(), (_tokens(s),)))
    register_sample("lookup", lambda s: Sample(Lookup(s.width, s.width, 4), (torch.randn(s.batch, s.width),)))
    register_sample("matmul", lambda s: Sample(Matmul(), (_tokens(s), _tokens(s).transpose(1, 2).contiguous())))
    for name in ("RNN", "LSTM", "GRU"):
        layer: Any = getattr(nn, name)
        cell: Any = getattr(nn, f"{name}Cell")

        def make(s: Size, layer: Any = layer) -> Sample:
            return Sample(layer(s.width, s.width, batch_first=True), (_tokens(s),))

        def make_cell(s: Size, cell: Any = cell) -> Sample:
            return Sample(cell(s.width, s.width), (torch.randn(s.batch, s.width),))

        register_sample(name.lower(), make)
        register_sample(f"{name.lower()}_cell", make_cell)


def _heads(s: Size) -> int:
    return s.width // 32


def _self_attention(s: Size) -> Sample:
    x = _tokens(s)
    return Sample(nn.MultiheadAttention(s.width, _heads(s), batch_first=True), (x, x, x))


def _hf_attention(s: Size) -> Sample:
    config = _of("transformers", "BertConfig")(
        hidden_size=s.width, num_attention_heads=_heads(s), attn_implementation="sdpa"
    )
    return Sample(_of("transformers.models.bert.modeling_bert", "BertSelfAttention")(config), (_tokens(s),))


def _hf_conv1d(s: Size) -> Sample:
    return Sample(_of("transformers.pytorch_utils", "Conv1D")(s.width, s.width), (_tokens(s),))


def _pyg_linear(s: Size) -> Sample:
    return Sample(_of("torch_geometric.nn", "Linear")(s.width, s.width), (_tokens(s),))


def _pyg_aggregation(s: Size) -> Sample:
    index = torch.arange(s.length) // 8
    return Sample(_of("torch_geometric.nn.aggr", "MaxAggregation")(), (torch.randn(s.length, s.width), index))


def _timm_attention(s: Size) -> Sample:
    return Sample(_of("timm.layers", "Attention")(s.width, num_heads=_heads(s)), (_tokens(s),))


def _shifted_window(s: Size) -> Sample:
    kind = _of("torchvision.models.swin_transformer", "ShiftedWindowAttention")
    layer = kind(s.width, window_size=[4, 4], shift_size=[2, 2], num_heads=_heads(s))
    return Sample(layer, (torch.randn(s.batch, s.edge // 4 * 4, s.edge // 4 * 4, s.width),))


def _block(s: Size) -> Sample:
    return Sample(_of("bnnapps.nn.blocks", "BasicBlock")(s.channels, s.channels, 1), (_maps(2, s),))


def _conv_unit(s: Size) -> Sample:
    return Sample(_of("bnnapps.nn.blocks", "ConvUnit")(s.channels, s.channels), (_maps(2, s),))


def _conv_module(s: Size) -> Sample:
    return Sample(
        _of("mmcv.cnn", "ConvModule")(s.channels, s.channels, 3, padding=1, norm_cfg={"type": "BN"}), (_maps(2, s),)
    )


def _of(module: str, name: str) -> Any:
    """A class of another package."""
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as problem:
        package = module.split(".")[0]
        raise NoSampleError(f"needs the package '{package}', which is not installed") from problem


_register_convolutions()
_register_rows()
register_sample("multihead_attention", _self_attention)
register_sample("hf.SelfAttention", _hf_attention)
register_sample("hf.Conv1D", _hf_conv1d)
register_sample("pyg.Linear", _pyg_linear)
register_sample("pyg.Aggregation", _pyg_aggregation)
register_sample("timm.Attention", _timm_attention)
register_sample("torchvision.ShiftedWindowAttention", _shifted_window)
register_sample("residual_block", _block)
register_sample("conv_unit", _conv_unit)
register_sample("conv_module", _conv_module)
