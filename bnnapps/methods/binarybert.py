"""BinaryBERT: 1-bit weights by splitting a ternary network of half the width; activations keep 8 or 4 bits."""

from typing import Literal

from bnnapps.methods.method import Method, Slot, register_method
from bnnapps.methods.targets import encoder
from bnnapps.nn.spec import (
    ActivationSpec,
    AttentionSpec,
    EmbeddingSpec,
    EstimatorSpec,
    LinearSpec,
    MatmulSpec,
    NonlinearitySpec,
    Spec,
    WeightSpec,
)

_IDENTITY = EstimatorSpec(name="identity")
_Kind = Literal["ternary", "split"]


def _method(name: str, kind: _Kind, activation: ActivationSpec, title: str) -> Method:
    matrix = WeightSpec(kind=kind, scale_over="layer", estimator=_IDENTITY)
    rows = WeightSpec(kind=kind, scale_over="filter", estimator=_IDENTITY)
    linear = LinearSpec(weight=matrix, activation=activation)
    layers: dict[Slot, Spec] = {
        "linear": linear,
        "embedding": EmbeddingSpec(weight=rows),
        "attention": AttentionSpec(
            query=activation,
            key=activation,
            value=activation,
            weights=activation.model_copy(update={"unsigned": True}),
            softmax=True,
            projection=linear,
        ),
        "matmul": MatmulSpec(left=activation, right=activation),
    }
    four_bits = activation.bits == 4
    if four_bits:
        layers["nonlinearity"] = NonlinearitySpec(becomes="relu")
    return Method(
        name=name,
        title=title,
        reference="Bai, Zhang, Hou, Shang, Jin, Jiang, Liu, Lyu, King: BinaryBERT, ACL 2021",
        layers=layers,
        rules=encoder(name, unsigned_ffn=True, nonlinearity=four_bits),
        keep_first=0,
        training="train the half-width ternary network, split it, fine-tune; each time squared error of hidden states "
        "and attention scores, then soft cross-entropy",
        tasks=("text",),
    )


_EIGHT = ActivationSpec(bits=8, scale="uniform")
_FOUR = ActivationSpec(bits=4, scale="elastic")

BINARYBERT_TERNARY = register_method(
    _method(
        "binarybert_ternary", "ternary", _EIGHT, "the ternary network that BinaryBERT starts from, 8-bit activations"
    )
)
BINARYBERT = register_method(
    _method("binarybert", "split", _EIGHT, "two binary weights for each ternary one, 8-bit activations")
)
BINARYBERT_TERNARY_A4 = register_method(
    _method(
        "binarybert_ternary_a4", "ternary", _FOUR, "the same start with 4-bit activations of learned step, and ReLU"
    )
)
BINARYBERT_A4 = register_method(
    _method("binarybert_a4", "split", _FOUR, "BinaryBERT with 4-bit activations of learned step, and ReLU")
)
