"""BiPointNet: aggregation that keeps signs balanced, and one learned scale a layer."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import points
from bnnapps.nn.spec import ActivationSpec, AggregationSpec, NonlinearitySpec, OutputSpec, WeightSpec

_WEIGHT = WeightSpec(transform="centre", over="layer", scale="none")
# Layer-wise scale recovery: alpha (sign(x) sign(W - mean(W))), its start the ratio of the deviations.
_OUTPUT = OutputSpec(scale="layer", initial="recovery")

BIPOINTNET = register_method(
    Method(
        name="bipointnet",
        title="sign(W - mean W), sign(x), one learned scale a layer that starts from data; max minus its median",
        reference="Qin, Cai, Zhang, Ding, Zhao, Yi, Liu, Su: BiPointNet, ICLR 2021",
        layers={
            **layers_of(_WEIGHT, ActivationSpec(), _OUTPUT),
            "nonlinearity": NonlinearitySpec(becomes="hardtanh"),
            "aggregation": AggregationSpec(pool="ema_max"),
        },
        rules=points("bipointnet"),
        training="Adam 1e-3, cosine to 0, 200 epochs, batch 256, 1024 points (ModelNet40). Its parts nonlinearity and "
        "aggregation serve any method: {types: [rectifier, aggregation], use: bipointnet}",
        tasks=("pointclouds",),
    )
)
