"""DoReFa-Net: weights with one scale a layer, activations 0 and 1, gradients of few bits."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, EstimatorSpec, WeightSpec

_IDENTITY = EstimatorSpec(name="identity")
_WEIGHT = WeightSpec(estimator=_IDENTITY, scale_over="layer")
_LEVELS = ActivationSpec(unsigned=True, scale="unit", estimator=EstimatorSpec(name="clip"))

DOREFA = register_method(
    Method(
        name="dorefa",
        title="E sign(W) with E the mean |W| of the layer; 1{x >= 1/2}, the levels of clip(x, 0, 1)",
        reference="Zhou, Wu, Ni, Zhou, Wen, Zou: DoReFa-Net, arXiv 1606.06160, 2016",
        layers=layers_of(_WEIGHT, _LEVELS),
        rules=convolutional("dorefa"),
        training="Adam 2e-4, divided by 5 after epochs 60 and 75 of 90 (AlexNet, ImageNet); gradient_bits 6 or 4 "
        "rounds the gradient, activation_bits 2 has four levels",
    )
)

# What BiBench benchmarks under the name of DoReFa.
DOREFA_SIGN = register_method(
    Method(
        name="dorefa_sign",
        title="mean|W| sign(W) for each filter; sign(x); both with the clipped gradient",
        reference="the variant that Qin et al. benchmark as DoReFa: BiBench, ICML 2023",
        layers=layers_of(WeightSpec(), ActivationSpec()),
        rules=convolutional("dorefa_sign"),
        training="Adam 1e-3 or SGD 0.1, cosine, 200 to 400 epochs (CIFAR-10)",
    )
)
