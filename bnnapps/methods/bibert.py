"""BiBERT: Bi-Attention, and distillation that matches directions."""

from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import encoder
from bnnapps.nn.spec import ActivationSpec, AttentionSpec, EmbeddingSpec, LinearSpec, MatmulSpec, WeightSpec

# The scale measures the weight as it is, the sign the weight minus the mean of its row.
_WEIGHT = WeightSpec(transform="centre", over="filter", scale_of="latent")
_LINEAR = LinearSpec(weight=_WEIGHT, activation=ActivationSpec())

BIBERT = register_method(
    Method(
        name="bibert",
        title="alpha sign(W), sign(x), and attention weights 1{score >= 0} without a softmax",
        reference="Qin, Ding, Zhang, Yan, Liu, Dang, Liu, Liu: BiBERT, ICLR 2022",
        layers={
            "linear": _LINEAR,
            "embedding": EmbeddingSpec(weight=_WEIGHT),
            "attention": AttentionSpec(
                query=ActivationSpec(),
                key=ActivationSpec(),
                value=ActivationSpec(),
                weights=ActivationSpec(unsigned=True),
                softmax=False,
                projection=_LINEAR,
            ),
            "matmul": MatmulSpec(left=ActivationSpec(), right=ActivationSpec()),
        },
        rules=encoder("bibert"),
        keep_first=0,
        training="direction matching of query, key, value relations and hidden states, soft cross-entropy and half the "
        "label loss; Adam, linear with 10 % warm-up, learning rate and epochs for each GLUE task",
        tasks=("text",),
    )
)
