"""ASDA: real and binary weights that share one learned amplitude."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

_WEIGHT = WeightSpec(scale="amplitude")
_ACTIVATION = ActivationSpec(estimator=EstimatorSpec(name="polynomial"))
_BLOCK = BlockSpec(shortcut="conv", nonlinearity="prelu", downsample="avgpool")

ASDA = register_method(
    Method(
        name="asda",
        title="0.02 |a| sign(W), a learned per filter and shared with the real W; sign(x) with the polynomial gradient",
        reference="Xu, Zhang et al.: Amplitude Suppression and Direction Activation in Networks for 1-bit Faster "
        "R-CNN, EMDL 2020; the gradient is that of the code that the same group released with IDa-Det (ECCV 2022)",
        layers=layers_of(_WEIGHT, _ACTIVATION, block=_BLOCK),
        rules=convolutional("asda"),
        training="the detector's own losses; the pull between real and binary weight (1e-4) is part of the gradient. "
        "IDa-Det trains the same layers with the loss 'proposal_discrepancy' beside, SGD 0.004, batch 4",
    )
)
