"""POEM: a learned scale for each output, and weights that part into two modes."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, WeightSpec

POEM = register_method(
    Method(
        name="poem",
        title="alpha sign(W), alpha learned for each output, sign(x); losses draw W to alpha sign(W) and to two modes",
        reference="Xu, Li, Zhao, Zhang, Guo: POEM: 1-bit Point-wise Operations based on Expectation-Maximization, BMVC "
        "2021",
        layers=layers_of(WeightSpec(scale="learned"), ActivationSpec()),
        rules=convolutional("poem"),
        training="Adam; losses 'weight_reconstruction' (1e-4) and 'weight_modes' (1e-3) beside the task's; a BatchNorm "
        "before each sign and another behind each product, PReLU (pointnet: unit double_norm)",
        tasks=("pointclouds",),
    )
)
