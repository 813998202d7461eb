"""BiFSMNv2: signs whose gradient has a learned window, and two of them for each activation."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, EstimatorSpec, WeightSpec

_LPB = EstimatorSpec(name="lpb")
# As in BiFSMN here: one scale a filter, and a gradient without it. The released code has a scale for each pair of
# output and input, which a 1x1 kernel makes a real weight, and for the second sign one a channel, which only depthwise
# layers can take out of their sums: here it is one a row, or a sample.
_WEIGHT = WeightSpec(estimator=_LPB, scale_gradient="straight")
_ACTIVATION = ActivationSpec(scale="dual", shift="channel", estimator=_LPB)

BIFSMNV2 = register_method(
    Method(
        name="bifsmnv2",
        title="alpha sign(W); sign(x + t0) + s sign(rest + t1) + t2; signs with the gradient of clip(a x), a learned",
        reference="Qin, Ma, Ding, Li, Zhang, Ma, Wang, Luo, Liu: BiFSMNv2, IEEE TNNLS 2023",
        layers=layers_of(_WEIGHT, _ACTIVATION),
        rules=convolutional("bifsmnv2"),
        training="a float D-FSMN of the same depth teaches low and high frequencies of its features apart (the loss "
        "'frequency_independent', 0.01) and its logits ('logit_mse', 0.01); depths together as in BiFSMN; SGD 0.005, a "
        "tenth of it for shifts and slopes, cosine, 300 epochs, batch 96",
        tasks=("keywords",),
    )
)
