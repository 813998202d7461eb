"""Bi-Real Net: a closer gradient for the sign of activations."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

# The released gradient of the weight, without the factor alpha; the paper's has it: scale_gradient constant.
_WEIGHT = WeightSpec(scale_gradient="straight")
_ACTIVATION = ActivationSpec(estimator=EstimatorSpec(name="polynomial"))
_BLOCK = BlockSpec(shortcut="conv", nonlinearity="none", downsample="avgpool")

BIREAL = register_method(
    Method(
        name="bireal",
        title="alpha sign(W); sign(x) with the polynomial gradient",
        reference="Liu, Wu, Luo, Yang, Liu, Cheng: Bi-Real Net, ECCV 2018",
        layers=layers_of(_WEIGHT, _ACTIVATION, block=_BLOCK),
        rules=convolutional("bireal"),
        training="label smoothing 0.1, Adam 1e-3 linear to 0, 256 epochs, batch 512 (ImageNet); a shortcut around "
        "each convolution",
    )
)
