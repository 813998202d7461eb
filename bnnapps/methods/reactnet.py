"""ReActNet: a learned shift before each sign."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

_WEIGHT = WeightSpec(scale_gradient="straight")
_RSIGN = ActivationSpec(shift="channel", estimator=EstimatorSpec(name="polynomial"))
_BLOCK = BlockSpec(shortcut="conv", nonlinearity="rprelu", downsample="avgpool")

REACTNET = register_method(
    Method(
        name="reactnet",
        title="alpha sign(W); RSign, sign(x + b) with b learned per channel and the polynomial gradient",
        reference="Liu, Shen, Savvides, Cheng: ReActNet, ECCV 2020",
        layers=layers_of(_WEIGHT, _RSIGN, block=_BLOCK),
        rules=convolutional("reactnet"),
        training="soft cross-entropy with a float teacher, Adam, linear to 0; first binary activations alone, then "
        "weights too; RPReLU (bnnapps.nn.RPReLU) after each block",
    )
)
