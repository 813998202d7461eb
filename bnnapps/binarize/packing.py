"""Widths that leave bits of a packed file unused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from bnnapps.nn.spec import EmbeddingSpec, LinearSpec

if TYPE_CHECKING:
    from bnnapps.binarize.plan import Entry


def packing_warnings(model: nn.Module, entries: Sequence[Entry]) -> list[str]:
    """One line for each width of binary weights that does not fill whole bytes.

    Weights are packed row by row, a row being what is contiguous in a product: the input features of a linear layer,
    the input channels (of one group) at each tap of a convolution, the features of an embedding. Eight weights make
    a byte; the last byte of a row is filled up with zeros.
    """
    modules = dict(model.named_modules())
    by_width: dict[int, list[str]] = {}
    for entry in entries:
        for width in _widths(entry, modules[entry.name]):
            if width % 8:
                by_width.setdefault(width, []).append(entry.name)
    return [_line(width, by_width[width]) for width in sorted(by_width)]


def _widths(entry: Entry, module: Any) -> Iterator[int]:
    if not isinstance(entry.spec, (LinearSpec, EmbeddingSpec)) or entry.spec.weight is None:
        return
    if isinstance(module, _ConvNd):
        yield module.in_channels // module.groups
    elif isinstance(module, nn.Bilinear):
        yield module.in2_features
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        yield module.embedding_dim
    elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        yield from sorted({module.input_size, module.hidden_size})
    elif isinstance(module, nn.Linear):
        yield module.in_features


def _line(width: int, names: Sequence[str]) -> str:
    size = -(-width // 8)
    unused = 8 * size - width
    shown = ", ".join(f"'{n}'" for n in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    bits, what = f"{width} bit" + "s" * (width > 1), f"{size} byte" + "s" * (size > 1)
    return (
        f"{shown}: rows of {bits} are packed into {what}, of which {unused} bits ({100 * unused / (8 * size):.0f} %) "
        "are wasted: a width that is a multiple of 8 packs without waste"
    )
