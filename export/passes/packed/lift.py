"""Lifting: every product of two operands of one bit becomes an operator on bits.

The deployed model says what each site is: its weight, its geometry, its threshold. The graph says what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes import common

from bnnapps.export.graph.bisect import first_high
from bnnapps.export.graph.freeze import Frozen
from bnnapps.export.graph.packable import obstacle
from bnnapps.export.graph.product import Convolution, Dense, Pairwise, Product, TransposedConvolution
from bnnapps.export.graph.quantizer import Quantizer
from bnnapps.export.ir.bits import pack_weight
from bnnapps.export.ir.operators import DOMAIN, VERSION
from bnnapps.export.passes.packed.bits import PackedSite
from bnnapps.export.passes.packed.build import constant, insert, rank_of
from bnnapps.export.passes.packed.moves import bits_order
from bnnapps.export.passes.sites import Site


@dataclass
class Lifted:
    """What lifting did.

    Attributes:
        packed: the quantizers whose codes are bits now.
        layers: the sites of the products that became operators on bits.
        kept: why a product was left as it is, by site.

    """

    packed: dict[str, PackedSite] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def lift(model: ir.Model, sites: Sequence[Site], frozen: Frozen) -> Lifted:
    """Replace products of one-bit codes by operators on bits, in place.

    Args:
        model: a clean portable graph.
        sites: its quantizers and products.
        frozen: the deployed model.

    """
    worker = _Lifter(model, sites, frozen)
    for site in sites:
        if site.role == "product":
            worker.product(site)
    common.RemoveUnusedNodesPass()(model)
    if worker.lifted.layers:
        model.graph.opset_imports[DOMAIN] = VERSION
    return worker.lifted


class _Lifter:
    def __init__(self, model: ir.Model, sites: Sequence[Site], frozen: Frozen) -> None:
        self.graph = model.graph
        self.values = _values(model)
        self.products = frozen.products()
        self.quantizers = frozen.quantizers()
        self.by_codes = {site.result: site for site in sites if site.role == "quantizer"}
        self.bits: dict[tuple[str, int], ir.Value] = {}
        self.lifted = Lifted()

    def product(self, site: Site) -> None:
        """Replace one product, or note why not."""
        product = self.products[_base(site.name)]
        node = self.values[site.source].producer()
        assert node is not None
        left = node.inputs[0]
        assert left is not None
        reason = self._obstacle(product, node)
        if reason is not None:
            self.lifted.kept[site.name] = reason
            return
        if isinstance(product, Dense):
            new = self._dense(site.name, product, left, node)
        elif isinstance(product, Convolution):
            new = self._convolution(site.name, product, left, node)
        elif isinstance(product, TransposedConvolution):
            new = self._transposed(site.name, product, left, node)
        else:
            assert isinstance(product, Pairwise)
            new = self._pairwise(site.name, product, node)
        old = self.values[site.result]
        new.outputs[0].shape, new.outputs[0].dtype = old.shape, ir.DataType.INT32
        old.replace_all_uses_with(new.outputs[0])
        old.name, new.outputs[0].name = f"{old.name}/before", old.name
        self.lifted.layers.append(site.name)

    def _obstacle(self, product: Product, node: ir.Node) -> str | None:
        """Why a product cannot run on bits, or `None`."""
        operands = [self._quantizer(value) for value in node.inputs[: 2 if isinstance(product, Pairwise) else 1]]
        known = [operand for operand in operands if operand is not None]
        if len(known) < len(operands):
            return "an operand is not made by a quantizer of this graph"
        reason = obstacle(product, known)
        if reason is not None or not isinstance(product, Pairwise):
            return reason
        ranks = [rank_of(value) for value in node.inputs[:2]]
        if None in ranks or ranks[0] != ranks[1]:
            return "its operands have another number of dimensions"
        if low_of(known[0]) == -1.0 and _terms(product, node) is None:
            return "its signed codes are summed over a length that is not fixed"
        return None

    def _quantizer(self, value: ir.Value | None) -> Quantizer | None:
        """The quantizer whose codes a value holds, moved or padded."""
        while value is not None and value.name not in self.by_codes:
            producer = value.producer()
            value = None if producer is None else producer.inputs[0]
        return None if value is None else self.quantizers[_base(self.by_codes[str(value.name)].name)]

    def _dense(self, name: str, product: Dense, left: ir.Value, node: ir.Node) -> ir.Node:
        rank = rank_of(left)
        assert rank is not None
        quantizer = self._quantizer(left)
        assert quantizer is not None
        codes = product.weight.t()
        weight = self._weight(name, codes.numpy())
        attributes = {"channels": [codes.shape[1]], "low": low_of(quantizer)}
        return self._new("BinaryDenseInteger", name, [self._packed(left, rank - 1), weight], attributes, node)

    def _convolution(self, name: str, product: Convolution, left: ir.Value, node: ir.Node) -> ir.Node:
        quantizer = self._quantizer(left)
        assert quantizer is not None
        rank = product.weight.dim() - 2
        pads, border = [0] * (2 * rank), product.border
        if product.padding_mode == "zeros":
            pads = [*product.sides[0::2][::-1], *product.sides[1::2][::-1]]  # torch names the last dimension first
            producer = left.producer()
            if border != 0 and any(pads) and producer is not None and producer.op_type == "Pad":
                assert producer.inputs[0] is not None
                left = producer.inputs[0]
        stride, dilation, groups = product.geometry
        attributes: dict[str, Any] = {
            "kernel_shape": list(product.weight.shape[2:]),
            "strides": list(stride),
            "dilations": list(dilation),
            "pads": pads,
            "group": groups,
            "channels": [product.weight.shape[1] * groups],
            "pad_value": float(border),
            "low": low_of(quantizer),
        }
        weight = self._weight(name, product.weight.numpy())
        return self._new("BinaryConvInteger", name, [self._packed(left, 1), weight], attributes, node)

    def _transposed(self, name: str, product: TransposedConvolution, left: ir.Value, node: ir.Node) -> ir.Node:
        quantizer = self._quantizer(left)
        assert quantizer is not None
        rank = product.weight.dim() - 2
        longer = node.attributes["output_padding"].as_ints() if "output_padding" in node.attributes else [0] * rank
        attributes: dict[str, Any] = {
            "kernel_shape": list(product.weight.shape[2:]),
            "strides": list(product.stride),
            "dilations": list(product.dilation),
            "pads": [*product.padding, *product.padding],
            "output_padding": list(longer),
            "group": product.groups,
            "channels": [product.weight.shape[0]],
            "outputs": [product.outputs],
            "low": low_of(quantizer),
        }
        weight = self._weight(name, product.weight.numpy())
        return self._new("BinaryConvTransposeInteger", name, [self._packed(left, 1), weight], attributes, node)

    def _pairwise(self, name: str, product: Pairwise, node: ir.Node) -> ir.Node:
        left, right = node.inputs
        assert left is not None
        assert right is not None
        rank = rank_of(left)
        assert rank is not None
        quantizer = self._quantizer(left)
        assert quantizer is not None
        low = low_of(quantizer)
        attributes = {"channels": [_terms(product, node) if low else 0], "low": low}
        operands = [self._packed(left, rank - 1), self._packed(right, rank - 2)]
        return self._new("BinaryMatMulInteger", name, operands, attributes, node)

    def _packed(self, value: ir.Value, axis: int) -> ir.Value:
        """The bits of a value that holds codes, packed along an axis; transpositions are done on the bits."""
        key = str(value.name), axis
        if key in self.bits:
            return self.bits[key]
        site = self.by_codes.get(str(value.name))
        producer = value.producer()
        assert producer is not None
        if site is not None:
            bits = self._pack(site, axis)
        elif producer.op_type == "Transpose" and producer.inputs[0] is not None:
            source, moved = bits_order(list(producer.attributes["perm"].as_ints()), axis)
            bits = inner = self._packed(producer.inputs[0], source)
            if moved != sorted(moved):
                node = ir.node("Transpose", [inner], attributes={"perm": moved}, name=f"{inner.name}/moved")
                bits = insert(self.graph, producer, node, f"{value.name}/bits", ir.DataType.UINT8)
        else:  # codes that were moved in another way: their bits are what lies above the middle
            node = ir.node(
                "Pack",
                [value, constant(self.graph, "half", np.full(1, 0.5, np.float32))],
                attributes={"axis": axis},
                domain=DOMAIN,
                name=f"{value.name}/pack{axis}",
            )
            bits = insert(self.graph, producer, node, f"{value.name}/bits{axis}", ir.DataType.UINT8)
        self.bits[key] = bits
        return bits

    def _pack(self, site: Site, axis: int) -> ir.Value:
        quantizer = self.quantizers[_base(site.name)]
        threshold = exact_threshold(quantizer)
        source = self.values[site.source]
        codes = self.values[site.result]
        shape = source.shape
        if threshold.numel() > 1 and not _lies_along(threshold, axis, shape):
            return self._packed_codes(site, codes, axis)
        array = threshold.reshape(-1).numpy().astype(np.float32)
        node = ir.node(
            "Pack",
            [source, constant(self.graph, f"{site.name}/threshold", array)],
            attributes={"axis": axis},
            domain=DOMAIN,
            name=f"{site.name}/pack{axis}",
        )
        producer = codes.producer()
        assert producer is not None
        name = f"{site.name}/bits" if site.name not in self.lifted.packed else f"{site.name}/bits{axis}"
        bits = insert(self.graph, producer, node, name, ir.DataType.UINT8, before=True)
        if site.name not in self.lifted.packed:
            self.lifted.packed[site.name] = PackedSite(site.name, name, axis, low_of(quantizer), threshold)
        return bits

    def _packed_codes(self, site: Site, codes: ir.Value, axis: int) -> ir.Value:
        """Bits along another axis than that of the thresholds: from the codes."""
        producer = codes.producer()
        assert producer is not None
        half = constant(self.graph, "half", np.full(1, 0.5, np.float32))
        node = ir.node("Pack", [codes, half], attributes={"axis": axis}, domain=DOMAIN, name=f"{site.name}/pack{axis}")
        return insert(self.graph, producer, node, f"{site.name}/bits{axis}", ir.DataType.UINT8)

    def _weight(self, name: str, codes: Any) -> ir.Value:
        return constant(self.graph, f"{_base(name)}/weight", pack_weight(codes))

    def _new(
        self, op_type: str, name: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any], old: ir.Node
    ) -> ir.Node:
        node = ir.node(op_type, list(inputs), attributes=dict(attributes), domain=DOMAIN, name=f"{name}/{op_type}")
        self.graph.insert_before(old, node)
        return node


@torch.no_grad()
def exact_threshold(quantizer: Quantizer) -> torch.Tensor:
    """The smallest float32 input whose code is high: the shape of the shift, or (1,)."""
    shape = (1,) if quantizer.shift is None else tuple(quantizer.shift.shape)
    return first_high(lambda x: torch.gt(quantizer(x), 0.5), shape)


def low_of(quantizer: Quantizer) -> float:
    """The low code of a quantizer of one bit."""
    assert quantizer.spec is not None
    return 0.0 if quantizer.spec.unsigned else -1.0


def _terms(product: Pairwise, node: ir.Node) -> int | None:
    """How many products a sum has, where that is fixed."""
    if product.terms is not None:
        return product.terms
    left = node.inputs[0]
    assert left is not None
    size = None if left.shape is None else left.shape[-1]
    return size if isinstance(size, int) else None


def _lies_along(threshold: torch.Tensor, axis: int, shape: ir.Shape | None) -> bool:
    """Whether the one long dimension of the thresholds, counted from the end, is the axis."""
    if shape is None:
        return False
    long = [i - threshold.dim() for i, size in enumerate(threshold.shape) if size > 1]
    return long == [axis - len(shape)]


def _base(name: str) -> str:
    return name.partition("#")[0]


def _values(model: ir.Model) -> dict[str, ir.Value]:
    found = {str(value.name): value for value in (*model.graph.inputs, *model.graph.initializers.values())}
    for node in model.graph:
        found |= {str(value.name): value for value in node.outputs}
    return found
