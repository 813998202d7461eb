"""A small writer of ONNX function bodies: nodes with fresh names, attributes that are references, shapes as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper

DOMAIN = "bnnapps"
VERSION = 1
OPSET = 18  # the oldest that will do: the first one with BitwiseAnd

BITS_OF_A_BYTE = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Ref:
    """An attribute of a node in the body that is an attribute of the function: its name there and its kind."""

    name: str
    kind: AttributeProto.AttributeType


def ints(name: str) -> Ref:
    """A reference to a list of integers."""
    return Ref(name, AttributeProto.INTS)


def integer(name: str) -> Ref:
    """A reference to one integer."""
    return Ref(name, AttributeProto.INT)


def real(name: str) -> Ref:
    """A reference to one float."""
    return Ref(name, AttributeProto.FLOAT)


class Body:
    """Collects nodes. Every value is the name of a tensor in the body."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._known: dict[tuple[object, ...], str] = {}

    def op(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """Append a node with one output and return the name of that."""
        plain = {name: value for name, value in attributes.items() if not isinstance(value, Ref)}
        output = f"{op_type.lower()}_{len(self._nodes)}"
        node = helper.make_node(op_type, list(inputs), [output], **plain)
        for name, value in attributes.items():
            if isinstance(value, Ref):
                node.attribute.append(AttributeProto(name=name, type=value.kind, ref_attr_name=value.name))
        self._nodes.append(node)
        return output

    def split(self, value: str, parts: int) -> list[str]:
        """The equal parts of a vector."""
        outputs = [f"split_{len(self._nodes)}_{part}" for part in range(parts)]
        self._nodes.append(helper.make_node("Split", [value], outputs, axis=0, num_outputs=parts))
        return outputs

    def constant(self, **value: object) -> str:
        """A constant tensor: value_int, value_ints, value_float, value_floats (each may be a Ref), or value."""
        ((name, content),) = value.items()
        key = (name, tuple(content) if isinstance(content, list) else content)
        if name == "value":  # a tensor: not hashable
            return self.op("Constant", value=content)
        if key not in self._known:
            self._known[key] = self.op("Constant", **value)
        return self._known[key]

    def vector(self, *values: int) -> str:
        """A constant int64 vector."""
        return self.constant(value_ints=list(values))

    def join(self, *parts: str) -> str:
        """Vectors one behind the other."""
        return self.op("Concat", *parts, axis=0)

    def product(self, sizes: str) -> str:
        """The product of a vector as a vector of one element; 1 for an empty one."""
        return self.op("ReduceProd", self.join(self.vector(1), sizes), keepdims=1)

    def reshape(self, value: str, *shape: str) -> str:
        """Reshape to the sizes in these vectors. Sizes of 0 stay 0, and none is -1: a batch may be empty."""
        return self.op("Reshape", value, self.join(*shape) if len(shape) > 1 else shape[0], allowzero=1)

    def cast(self, value: str, to: TensorProto.DataType) -> str:
        """Cast to another element type."""
        return self.op("Cast", value, to=int(to))

    def function(
        self,
        op_type: str,
        about: str,
        inputs: Sequence[str],
        outputs: dict[str, str],
        attributes: Sequence[str],
    ) -> FunctionProto:
        """The function whose outputs (name: value) are these values."""
        names = {value: name for name, value in outputs.items()}
        for node in self._nodes:
            node.input[:] = [names.get(value, value) for value in node.input]
            node.output[:] = [names.get(value, value) for value in node.output]
        return helper.make_function(
            DOMAIN,
            op_type,
            list(inputs),
            list(outputs),
            self._nodes,
            [helper.make_opsetid("", OPSET)],
            attributes=list(attributes),
            doc_string=about,
        )
