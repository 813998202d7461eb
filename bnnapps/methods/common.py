"""One weight and one activation, in every kind of layer that has them."""

from __future__ import annotations

from bnnapps.methods.method import Slot
from bnnapps.nn.spec import (
    ActivationSpec,
    AttentionSpec,
    BlockSpec,
    ConvSpec,
    EmbeddingSpec,
    EstimatorSpec,
    LinearSpec,
    MatmulSpec,
    OutputSpec,
    Spec,
    WeightSpec,
)


def layers_of(
    weight: WeightSpec,
    activation: ActivationSpec,
    output: OutputSpec | None = None,
    gradient_bits: int = 32,
    block: BlockSpec | None = None,
) -> dict[Slot, Spec]:
    """The records of a method that its paper describes for one kind of layer, for all kinds.

    Linear layers and convolutions take all of it; an embedding has the weight alone, without what is learned beside it.
    Products of two activations take plain signs with the method's estimator, and an attention is a Bi-Attention
    (BiBERT, Qin et al., 2022): its weights are 1{score >= 0}, since after a softmax every sign would be +1. `block` is
    how the method puts a residual block together.
    """
    linear = LinearSpec(weight=weight, activation=activation, output=output, gradient_bits=gradient_bits)
    sign = ActivationSpec(estimator=activation.estimator)
    step = ActivationSpec(estimator=activation.estimator, unsigned=True)
    layers: dict[Slot, Spec] = {
        "linear": linear,
        "conv": ConvSpec(weight=weight, activation=activation, output=output, gradient_bits=gradient_bits),
        "embedding": EmbeddingSpec(weight=_of_rows(weight)),
        "attention": AttentionSpec(
            query=sign,
            key=sign,
            value=sign,
            weights=step,
            softmax=False,
            projection=LinearSpec(weight=weight, activation=activation),
        ),
        "matmul": MatmulSpec(left=sign, right=sign),
    }
    if block is not None:
        layers["block"] = block
    return layers


def _of_rows(weight: WeightSpec) -> WeightSpec:
    """The weight of a table: no noise, and nothing that is learned beside it for each row."""
    changes: dict[str, object] = {"noise": False}
    if weight.transform == "search":
        changes["transform"] = "none"
    if weight.scale in ("learned", "amplitude"):
        changes["scale"] = "mean_abs"
    if weight.estimator.name == "lpb":
        changes["estimator"] = EstimatorSpec()
    return weight.model_copy(update=changes)
