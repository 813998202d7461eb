"""BiFSMN: plain signs for keyword spotting; what is new is how the network learns."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import spoken
from bnnapps.nn.spec import ActivationSpec, WeightSpec

# The released code has a mean |W| for each pair of output and input; with 1x1 kernels that is |W| itself, so those
# layers stay real there. One scale a filter is what can be deployed; for the depthwise memory it is the same.
# The released gradient has the factor alpha (scale_gradient constant), with which a filter of zeros never learns.
_WEIGHT = WeightSpec(transform="centre", over="layer", scale_gradient="straight")
_ACTIVATION = ActivationSpec()

BIFSMN = register_method(
    Method(
        name="bifsmn",
        title="alpha sign(W), centred over the layer where convolutions run over time; sign(x)",
        reference="Qin, Ma, Ding, Li, Zhang, Tian, Ma, Luo, Liu: BiFSMN, IJCAI 2022",
        layers=layers_of(_WEIGHT, _ACTIVATION),
        rules=spoken("bifsmn"),
        training="a float D-FSMN of the same depth teaches its features with their high frequencies emphasized "
        "(the loss 'high_frequency', 0.01); eight, four and two layers are trained together with the weights 1, 0.5 "
        "and 0.25; SGD 0.005, cosine, 300 epochs, batch 96",
        tasks=("keywords",),
    )
)
