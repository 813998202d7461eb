"""BinaryBERT: 1-bit weights by splitting a ternary network of half the width; activations keep 8 or 4 bits."""

from typing import Literal

from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import encoder
from bnnapps.nn.spec import (
    ActivationSpec,
    AttentionSpec,
    EmbeddingSpec,
    EstimatorSpec,
    LinearSpec,
    WeightSpec,
)

_IDENTITY = EstimatorSpec(name="identity")
_SIGNED = ActivationSpec(bits=8, scale="uniform")


def _method(name: str, kind: Literal["ternary", "split"], title: str) -> Method:
    matrix = WeightSpec(kind=kind, scale_over="layer", estimator=_IDENTITY)
    rows = WeightSpec(kind=kind, scale_over="filter", estimator=_IDENTITY)
    linear = LinearSpec(weight=matrix, activation=_SIGNED)
    return Method(
        name=name,
        title=title,
        reference="Bai, Zhang, Hou, Shang, Jin, Jiang, Liu, Lyu, King: BinaryBERT, ACL 2021",
        layers={
            "linear": linear,
            "embedding": EmbeddingSpec(weight=rows),
            "attention": AttentionSpec(
                query=_SIGNED,
                key=_SIGNED,
                value=_SIGNED,
                weights=ActivationSpec(bits=8, scale="uniform", unsigned=True),
                softmax=True,
                projection=linear,
            ),
        },
        rules=encoder(name, unsigned_ffn=True),
        keep_first=0,
        training="train the half-width ternary network, split it, fine-tune; each time squared error of hidden states "
        "and attention scores, then soft cross-entropy. Four bits: activation.bits 4 with activation.scale elastic",
        tasks=("text",),
    )


BINARYBERT_TERNARY = register_method(
    _method("binarybert_ternary", "ternary", "the ternary network that BinaryBERT starts from")
)
BINARYBERT = register_method(
    _method("binarybert", "split", "two binary weights for each ternary one, with the same sum")
)
