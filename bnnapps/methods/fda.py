"""FDA-BNN: the gradient of the sign from its Fourier series, and a noise that fades."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

_FOURIER = EstimatorSpec(name="fourier")
_WEIGHT = WeightSpec(estimator=_FOURIER, noise=True)
_ACTIVATION = ActivationSpec(estimator=_FOURIER, noise=True)
_BLOCK = BlockSpec(nonlinearity="prelu", nonlinearity_at="before_norm")

FDA = register_method(
    Method(
        name="fda",
        title="alpha sign(W), sign(x); both with the Fourier gradient, and in training with a learned noise",
        reference="Xu, Han, Xu, Tao, Gao, Xu, Wang: Learning Frequency Domain Approximation for BNNs, NeurIPS 2021",
        layers=layers_of(_WEIGHT, _ACTIVATION, block=_BLOCK),
        rules=convolutional("fda"),
        training="SGD 0.1, cosine, 400 epochs (CIFAR-10). The noise is not part of the network that is evaluated",
    )
)
