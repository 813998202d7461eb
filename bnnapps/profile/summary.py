"""Operations and sizes of a network, layer by layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from bnnapps.nn.layers.base import PARTS, BinaryLayer, Parts
from bnnapps.nn.spec import ActivationSpec, AttentionSpec, EmbeddingSpec, LinearSpec, MatmulSpec, Spec, WeightSpec
from bnnapps.profile.counting import Cost, count
from bnnapps.profile.owners import layer_type_of, owners
from bnnapps.profile.sizes import Size, sizes


@dataclass(frozen=True)
class LayerRow:
    """One layer of a summary.

    Attributes:
        name: its dotted name ("" for the model itself).
        type: the key of its layer type; "container" for other modules with children; else its class in lower case.
        kind: its class.
        shape: of its first output, or `None`: it did not run on the example inputs.
        weight_bits: bits a weight: 1; 2 if ternary, or split into two of one bit; 32 if real; `None`: it has none.
        activation_bits: bits of the input that meets the weights (of the widest operand of an attention), 32 if real;
            `None` where there are no products.
        macs: multiply-accumulates of all its products.
        float_macs: those of them that the float network has too: none in what binarizing added (the further bases of
            Group-Net).
        bops: those of codes, each times the bits of both operands.
        flops: those with a real operand.
        other_ops: output elements of every other float operator.
        params_1bit, params_2bit, params_float: as in `Summary`.
        packed_bytes, float_bytes: as in `Summary`.
        binary: whether its products run on codes (an embedding: whether its table is codes).

    """

    name: str
    type: str
    kind: str
    shape: tuple[int, ...] | None
    weight_bits: int | None
    activation_bits: int | None
    macs: int
    float_macs: int
    bops: int
    flops: int
    other_ops: int
    params_1bit: int
    params_2bit: int
    params_float: int
    packed_bytes: int
    float_bytes: int
    binary: bool

    @property
    def params(self) -> int:
        """All parameters, as they are deployed."""
        return self.params_1bit + self.params_2bit + self.params_float


@dataclass(frozen=True)
class Summary:
    """What a network costs on the example inputs (the whole batch). Prints as a table.

    One multiply-accumulate counts as one operation, as in the papers of this field.

    Attributes:
        model: its class.
        flops: multiply-accumulates of linear layers, convolutions and attention with a real operand.
        bops: multiply-accumulates of codes, {0, 1} and +-1 alike, each times the bits of both operands: 1 for 1-bit
            weights and activations, 2 for 2-bit activations; a weight that is split in two, or ternary, counts 2.
        ops_paper: flops + bops / 64, the convention of Bi-Real Net (2018) and its successors.
        ops_all: ops_paper and one operation for each output element of every other float operator (bias, scale,
            quantizer, norm, softmax, pooling, activation function, residual).
        params_1bit: weights of one bit; a split weight counts twice, once for each of its binary weights.
        params_2bit: ternary weights.
        params_float: real parameters, and the scales of binary weights. Tied parameters count once; buffers do not.
        packed_bytes: params_1bit / 8 (rounded up for each tensor) + params_2bit / 4 + 4 params_float.
        float_bytes: 4 for each parameter of the float model.
        layers: one row for each layer that ran or holds parameters, in the order in which they ran.

    """

    model: str
    flops: int
    bops: int
    ops_paper: float
    ops_all: float
    params_1bit: int
    params_2bit: int
    params_float: int
    packed_bytes: int
    float_bytes: int
    layers: tuple[LayerRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"layers": [asdict(row) for row in self.layers]}

    def __str__(self) -> str:
        from bnnapps.profile.table import summary_table
        from bnnapps.text import render

        return render(summary_table(self))


def summarize(model: nn.Module, example_inputs: Any) -> Summary:
    """Count operations and bytes by running the model once, in eval mode and without gradients; it stays as it is.

    Args:
        model: float or binarized.
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments. Operations are those
            of this whole batch: give a batch of one for the usual figures.

    """
    costs, stored = count(model, example_inputs), sizes(model)
    names = {module: name for name, module in model.named_modules()}
    owner = owners(model)
    idle = [m for m in model.modules() if owner[m] is m and m not in costs]
    added = {m for parts in model.modules() if isinstance(parts, Parts) for m in parts.modules()}
    rows = [_row(names[m], m, costs.get(m, Cost()), stored.get(m, Size()), m in added) for m in [*costs, *idle]]
    rows = [r for r in rows if r.macs or r.other_ops or r.params]
    flops, bops = sum(r.flops for r in rows), sum(r.bops for r in rows)
    paper = flops + bops / 64
    return Summary(
        model=type(model).__name__,
        flops=flops,
        bops=bops,
        ops_paper=paper,
        ops_all=paper + sum(r.other_ops for r in rows),
        params_1bit=sum(r.params_1bit for r in rows),
        params_2bit=sum(r.params_2bit for r in rows),
        params_float=sum(r.params_float for r in rows),
        packed_bytes=sum(r.packed_bytes for r in rows),
        float_bytes=sum(size.float_bytes for size in stored.values()),
        layers=tuple(rows),
    )


def _row(name: str, module: nn.Module, cost: Cost, size: Size, added: bool) -> LayerRow:
    kind = layer_type_of(module)
    weight_bits, activation_bits = _bits(module, cost)
    if kind is not None:
        label = kind.key
    else:
        label = "container" if any(True for _ in module.children()) else type(module).__name__.lower()
    is_table = weight_bits is not None and weight_bits < 32 and kind is not None and kind.spec is EmbeddingSpec
    return LayerRow(
        name=name,
        type=label,
        kind=type(module).__name__,
        shape=cost.shape,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        macs=cost.flops + cost.binary_macs,
        float_macs=0 if added else cost.flops + cost.binary_macs,
        bops=cost.bops,
        flops=cost.flops,
        other_ops=cost.other_ops,
        params_1bit=size.one_bit,
        params_2bit=size.two_bit,
        params_float=size.real,
        packed_bytes=size.packed_bytes,
        float_bytes=size.float_bytes,
        binary=cost.bops > 0 or is_table,
    )


def _bits(module: nn.Module, cost: Cost) -> tuple[int | None, int | None]:
    """Bits of the weights and of the activations that meet them."""
    spec: Spec | None = module.spec if isinstance(module, BinaryLayer) else None
    if isinstance(spec, AttentionSpec):
        widest = max(_activation(s) for s in (spec.query, spec.key, spec.value, spec.weights))
        return (_weight(spec.projection.weight) if _projects(module) else None), widest
    if isinstance(spec, MatmulSpec):
        return None, max(_activation(s) for s in (spec.left, spec.right))
    if isinstance(spec, EmbeddingSpec):
        return _weight(spec.weight), None
    if isinstance(spec, LinearSpec):
        return _weight(spec.weight), _activation(spec.activation)
    return (32 if _holds_weights(module) else None), (32 if cost.flops else None)


def _holds_weights(module: nn.Module) -> bool:
    return any(p.dim() > 1 for p in module.parameters(recurse=False))


def _projects(module: nn.Module) -> bool:
    """Whether a binary attention holds its projections itself."""
    return hasattr(module._modules[PARTS], "projections")


def _weight(spec: WeightSpec | None) -> int:
    return 32 if spec is None else 1 if spec.kind == "binary" else 2


def _activation(spec: ActivationSpec | None) -> int:
    return 32 if spec is None else spec.bits
