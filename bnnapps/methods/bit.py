"""BiT: two sets of codes, learned scales, and several distillations in a row."""

from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import encoder
from bnnapps.nn.spec import (
    ActivationSpec,
    AttentionSpec,
    EmbeddingSpec,
    EstimatorSpec,
    LinearSpec,
    MatmulSpec,
    NonlinearitySpec,
    WeightSpec,
)

_IDENTITY = EstimatorSpec(name="identity")
# The sign is taken around the mean of the whole matrix, for the rows of an embedding too.
_WEIGHT = WeightSpec(
    transform="centre",
    over="layer",
    detach_mean=True,
    scale_of="latent",
    scale_over="layer",
    estimator=_IDENTITY,
)
_ROWS = _WEIGHT.model_copy(update={"scale_over": "filter"})
_SIGNED = ActivationSpec(scale="elastic")
_LINEAR = LinearSpec(weight=_WEIGHT, activation=ActivationSpec(scale="elastic", shift="channel"))

BIT = register_method(
    Method(
        name="bit",
        title="elastic binarization: {-a, +a}, or {0, a} where the input is not negative; GELU becomes ReLU",
        reference="Liu, Oguz, Pappu, Xiao, Yih, Li, Krishnamoorthi, Mehdad: BiT, NeurIPS 2022",
        layers={
            "linear": _LINEAR,
            "embedding": EmbeddingSpec(weight=_ROWS),
            "attention": AttentionSpec(
                query=_SIGNED,
                key=_SIGNED,
                value=_SIGNED,
                weights=ActivationSpec(scale="elastic", unsigned=True),
                softmax=True,
                projection=_LINEAR,
            ),
            "nonlinearity": NonlinearitySpec(becomes="relu"),
            "matmul": MatmulSpec(left=_SIGNED, right=_SIGNED),
        },
        rules=encoder("bit", unsigned_ffn=True, nonlinearity=True),
        keep_first=0,
        training="squared error of hidden states and soft cross-entropy; float, then 1-bit weights with 2-bit "
        "activations (activation_bits: 2), then 1-1-1, each student the next teacher and start",
        tasks=("text",),
    )
)
