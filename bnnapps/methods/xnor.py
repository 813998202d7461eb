"""XNOR-Net: analytic scales for weights and inputs."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, WeightSpec

# alpha = mean |W| of each filter, and its product rule: dL/dW = alpha m(W) G + sign(W) mean(G sign(W)).
_WEIGHT = WeightSpec(scale_gradient="full", constraint="centre_clip")
# K: the mean |x| around each output position. The authors' code leaves it out: activation.scale none.
_ACTIVATION = ActivationSpec(scale="input_map")

XNOR = register_method(
    Method(
        name="xnor",
        title="alpha sign(W), K sign(x); weights centred and clipped after each step",
        reference="Rastegari, Ordonez, Redmon, Farhadi: XNOR-Net, ECCV 2016",
        layers=layers_of(_WEIGHT, _ACTIVATION, block=BlockSpec(norm="before", nonlinearity="none")),
        rules=convolutional("xnor"),
        training="Adam 1e-3, 55 epochs, stepped (ImageNet); BatchNorm before each sign",
    )
)
