"""BNN: sign on weights and activations, nothing else."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

_WEIGHT = WeightSpec(estimator=EstimatorSpec(name="identity"), scale="none", constraint="clip")
_ACTIVATION = ActivationSpec(estimator=EstimatorSpec(name="clip"))

BNN = register_method(
    Method(
        name="bnn",
        title="sign(W), sign(x); latent weights clipped to [-1, 1] after each step",
        reference="Hubara, Courbariaux, Soudry, El-Yaniv, Bengio: Binarized Neural Networks, NeurIPS 2016",
        layers=layers_of(_WEIGHT, _ACTIVATION, block=BlockSpec(nonlinearity="hardtanh")),
        rules=convolutional("bnn"),
        training="squared hinge loss, Adam 1e-3 to 3e-7 over 500 epochs (CIFAR-10); BatchNorm before each sign. As "
        "published first and last layers are binary too: keep_first 0, keep_last 0",
    )
)
