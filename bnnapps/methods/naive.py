"""The naive 1-1-1 baseline for transformer encoders: what goes wrong without a method."""

from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import encoder
from bnnapps.nn.spec import ActivationSpec, AttentionSpec, EmbeddingSpec, LinearSpec, MatmulSpec, WeightSpec

_WEIGHT = WeightSpec(transform="centre", over="filter", scale_of="latent")
_LINEAR = LinearSpec(weight=_WEIGHT, activation=ActivationSpec())

NAIVE = register_method(
    Method(
        name="naive",
        title="alpha sign(W), sign(x), and the sign of the softmax, which is always +1",
        reference="the baseline of Qin et al.: BiBERT, ICLR 2022, section 3",
        layers={
            "linear": _LINEAR,
            "embedding": EmbeddingSpec(weight=_WEIGHT),
            "attention": AttentionSpec(
                query=ActivationSpec(),
                key=ActivationSpec(),
                value=ActivationSpec(),
                weights=ActivationSpec(),
                softmax=True,
                projection=_LINEAR,
            ),
            "matmul": MatmulSpec(left=ActivationSpec(), right=ActivationSpec()),
        },
        rules=encoder("naive"),
        keep_first=0,
        training="squared error of hidden states and attention scores, soft cross-entropy of logits",
        tasks=("text",),
    )
)
