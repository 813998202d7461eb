"""Bop: no latent weights, an optimizer that flips signs."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

_WEIGHT = WeightSpec(estimator=EstimatorSpec(name="identity"), scale="none")

BOP = register_method(
    Method(
        name="bop",
        title="sign(W) whose signs the optimizer flips; sign(x) with the clipped gradient",
        reference="Helwegen, Widdicombe, Geiger, Liu, Cheng, Nusselder: Latent Weights Do Not Exist, NeurIPS 2019",
        layers=layers_of(_WEIGHT, ActivationSpec(), block=BlockSpec(nonlinearity="hardtanh")),
        rules=convolutional("bop"),
        training="train.optimizer.groups {of: latent, optimizer: bop}: gamma 1e-4, a tenth every 100 epochs, threshold "
        "1e-8; the rest by Adam 0.01; 500 epochs, batch 50 (CIFAR-10)",
    )
)
