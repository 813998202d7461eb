"""BiDet: the binary trunk of a detector, without shortcuts (as published) and with them (as released)."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, ConvSpec, EstimatorSpec, WeightSpec

# The released weight: mean |W| times sign(W); the sign has gradient 1 everywhere, and the mean its own gradient.
_WEIGHT = WeightSpec(estimator=EstimatorSpec(name="identity"), scale_gradient="full")
_ACTIVATION = ActivationSpec(estimator=EstimatorSpec(name="polynomial"))
# The released code pads the binarized map with -1, so that the border is no third level.
_CONV = ConvSpec(weight=_WEIGHT, activation=_ACTIVATION, pad_value=-1)
_REFERENCE = "Wang, Wu, Lu, Zhou: BiDet: An Efficient Binarized Object Detector, CVPR 2020"
_LOSSES = (
    "from the first drop of the learning rate on: bidet_bottleneck 0.1 and bidet_prior 0.2 (SSD); 0.02 and 0.05, "
    "bidet_rpn_bottleneck 0.5 and bidet_rpn_prior 0.01 (Faster R-CNN); Adam 1e-3, stepped (SSD)"
)

BIDET = register_method(
    Method(
        name="bidet",
        title="alpha sign(W), sign(x); BatchNorm before each sign, no further shortcuts",
        reference=_REFERENCE,
        layers=layers_of(_WEIGHT, _ACTIVATION, block=BlockSpec(norm="before", nonlinearity="none")) | {"conv": _CONV},
        rules=convolutional("bidet"),
        training=_LOSSES,
    )
)
"""The order of XNOR-Net. Only the variant with shortcuts was released, and its binarizers serve here too."""

BIDET_SC = register_method(
    Method(
        name="bidet_sc",
        title="alpha sign(W), sign(x); a shortcut around each convolution",
        reference=_REFERENCE,
        layers=layers_of(
            _WEIGHT, _ACTIVATION, block=BlockSpec(shortcut="conv", nonlinearity="none", downsample="avgpool")
        )
        | {"conv": _CONV},
        rules=convolutional("bidet_sc"),
        training=_LOSSES,
    )
)
"""BiDet (SC), the variant of the released code: blocks as in Bi-Real Net."""
