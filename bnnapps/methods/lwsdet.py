"""LWS-Det: signs that are searched for layer by layer, against the directions and amplitudes of a float teacher."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

_WEIGHT = WeightSpec(transform="search", scale="learned")
_ACTIVATION = ActivationSpec(estimator=EstimatorSpec(name="polynomial"))
_BLOCK = BlockSpec(shortcut="conv", nonlinearity="prelu", nonlinearity_at="before_norm", downsample="avgpool")

LWSDET = register_method(
    Method(
        name="lwsdet",
        title="alpha s with alpha learned per filter and s searched for: two logits a weight, their expectation in "
        "training, the likelier sign after; sign(x) with the polynomial gradient",
        reference="Xu, Zhao, Lin, Zhang, Ji, Zhang, Doermann: Layer-wise Searching for 1-bit Detectors, CVPR 2021",
        layers=layers_of(_WEIGHT, _ACTIVATION, block=_BLOCK),
        rules=convolutional("lwsdet"),
        training="a float detector of the same architecture teaches every layer by the losses 'layer_angle' and "
        "'layer_amplitude', and its features near objects by 'feature_imitation'",
    )
)
