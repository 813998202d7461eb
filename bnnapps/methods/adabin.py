"""AdaBin: two levels that each filter and each layer place freely."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

# The progressive estimator of the released code; t_min 0.1 throughout would be close to the identity.
_EDE = EstimatorSpec(name="ede", t_min=0.001, t_max=10.0)
_WEIGHT = WeightSpec(scale="affine", estimator=_EDE)
_ACTIVATION = ActivationSpec(scale="affine", estimator=EstimatorSpec(name="polynomial"))
_BLOCK = BlockSpec(shortcut="conv", nonlinearity="maxout", downsample="avgpool")

ADABIN = register_method(
    Method(
        name="adabin",
        title="mean(W) +- deviation(W) for each filter; beta +- alpha, learned, for the activations of a layer",
        reference="Tu, Chen, Ren, Wang: AdaBin, ECCV 2022",
        layers=layers_of(_WEIGHT, _ACTIVATION, block=_BLOCK),
        rules=convolutional("adabin"),
        training="SGD 0.1, momentum 0.9, weight decay 1e-4, cosine, 400 epochs, batch 128 (CIFAR-10)",
    )
)
