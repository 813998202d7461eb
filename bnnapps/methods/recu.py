"""ReCU: weights far from zero are pulled back into reach of a flip."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, OutputSpec, WeightSpec

_WEIGHT = WeightSpec(transform="recu", scale="none", estimator=EstimatorSpec(name="identity"))
_ACTIVATION = ActivationSpec(standardize="sample", estimator=EstimatorSpec(name="polynomial"))
_ALPHA = OutputSpec(scale="channel", initial="uniform")
# As in the released ResNet-20; the released ResNet-18 for CIFAR has one shortcut around both convolutions.
_BLOCK = BlockSpec(shortcut="conv", nonlinearity="hardtanh", downsample="avgpool")

RECU = register_method(
    Method(
        name="recu",
        title="sign of the standardized weight, clamped to its quantile; sign(x) with the polynomial gradient",
        reference="Xu, Lin, Liu, Chen, Shao, Gao, Tian, Ji: ReCU, ICCV 2021",
        layers=layers_of(_WEIGHT, _ACTIVATION, _ALPHA, block=_BLOCK),
        rules=convolutional("recu"),
        training="SGD 0.1, momentum 0.9, weight decay 5e-4, cosine after 5 epochs of warm-up, 600 epochs, batch 256 "
        "(CIFAR-10)",
    )
)
