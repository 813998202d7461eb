"""Which layers would run on bits in a packed file, said before anything is trained or traced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnnapps.errors import ExportError
from bnnapps.export.graph.attention import DeployedAttention
from bnnapps.export.graph.freeze import deployed_layer, kind_of, settled, site_of
from bnnapps.export.graph.layers import DeployedEmbedding
from bnnapps.export.graph.product import EXACT_BELOW, Pairwise, Product
from bnnapps.export.graph.quantizer import Quantizer
from bnnapps.nn.layers import BinaryLayer


@dataclass(frozen=True)
class PackableRow:
    """One product of a binary layer, or a layer without one.

    Attributes:
        layer: its dotted name; the products of an attention have theirs behind a slash.
        takes_bits: whether it would run on bits.
        reason: why not; empty where it would.

    """

    layer: str
    takes_bits: bool
    reason: str


def packable(model: nn.Module) -> list[PackableRow]:
    """What the dialect "packed" would make of each binary layer of a model; the model stays as it is.

    Scales, BatchNorms and thresholds are not looked at: whether these become integer comparisons depends on what is
    learned, and shows in the notes of the export.
    """
    own = settled(model)
    rows = []
    for name, layer in list(own.named_modules()):
        if isinstance(layer, BinaryLayer):
            try:
                kind_of(name, layer)
            except ExportError as problem:
                rows.append(PackableRow(site_of(name), False, str(problem)))
            else:
                rows += _rows(site_of(name), deployed_layer(site_of(name), layer))
    return rows


def obstacle(product: Product, operands: Sequence[Quantizer]) -> str | None:
    """Why a product cannot run on bits, whatever the graph around it; `None` where nothing is in the way.

    Args:
        product: a deployed product.
        operands: what quantizes its operands: one, or two for a product of activations.

    """
    for operand in operands:
        if not operand.one_bit:
            return f"'{operand.site}' has {'real values' if operand.spec is None else f'{operand.spec.bits} bits'}"
    if not isinstance(product, Pairwise):
        weight: Tensor = product.weight  # type: ignore[assignment]
        return None if bool(weight.abs().eq(1).all()) else "its weight has codes other than +1 and -1"
    left, right = operands
    if _unsigned(right):
        return "both operands have the codes 1 and 0" if _unsigned(left) else "its right operand has no sign"
    return None


def _rows(site: str, deployed: nn.Module) -> Iterator[PackableRow]:
    if isinstance(deployed, DeployedEmbedding):
        signs = deployed.codes.dtype == torch.int8 and bool(deployed.codes.abs().eq(1).all())
        yield PackableRow(site, signs, "" if signs else "its table has codes other than +1 and -1")
    for product, operands in _products(deployed):
        reason = obstacle(product, operands) or _inexact(product)
        yield PackableRow(product.site, reason is None, reason or "")


def _inexact(product: Product) -> str | None:
    return None if product.exact else f"its sums may reach {EXACT_BELOW:,}, where float32 stops being exact"


def _products(deployed: nn.Module) -> Iterator[tuple[Product, tuple[Quantizer, ...]]]:
    for module in deployed.modules():
        product, activation = getattr(module, "product", None), getattr(module, "activation", None)
        if isinstance(product, Product) and isinstance(activation, Quantizer):
            yield product, (activation,)
            sums = getattr(getattr(module, "offsets", None), "sums", None)
            if isinstance(sums, Product):
                yield sums, (activation,)
        if isinstance(module, DeployedAttention):
            yield module.scores, (module.query, module.key)
            yield module.context, (module.weights, module.value)


def _unsigned(operand: Quantizer) -> bool:
    return operand.spec is not None and operand.spec.unsigned
