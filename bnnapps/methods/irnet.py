"""IR-Net: balanced weights and a gradient that sharpens with the training."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

_EDE = EstimatorSpec(name="ede", t_min=0.1, t_max=10.0)
_WEIGHT = WeightSpec(transform="standardize", scale="power_of_two", scale_gradient="constant", estimator=_EDE)
_ACTIVATION = ActivationSpec(estimator=_EDE)

IRNET = register_method(
    Method(
        name="irnet",
        title="2^s sign of the standardized weight; sign(x); both with the error-decay estimator",
        reference="Qin, Gong, Liu, Shen, Wei, Yu, Song: Forward and Backward Information Retention, CVPR 2020",
        layers=layers_of(_WEIGHT, _ACTIVATION, block=BlockSpec(shortcut="conv", nonlinearity="hardtanh")),
        rules=convolutional("irnet"),
        training="SGD 0.1, momentum 0.9, weight decay 1e-4, cosine, 400 epochs, batch 128 (CIFAR-10 ResNet-20). The "
        "released ResNet code starts at estimator.t_min 0.001",
    )
)
