"""Bi-GCN: binary features and weights of graph convolutions; what neighbours are summed with stays real."""

from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import graph
from bnnapps.nn.spec import ActivationSpec, LinearSpec, WeightSpec

# alpha = mean |W| of each filter with XNOR-Net's product rule; the scale of an input is its own mean |x|. The gradient
# of the input has neither, as in the authors' code: input_gradient scaled is the chain rule.
_LINEAR = LinearSpec(
    weight=WeightSpec(scale_gradient="full"),
    activation=ActivationSpec(scale="input_map"),
    input_gradient="plain",
)

BIGCN = register_method(
    Method(
        name="bigcn",
        title="alpha sign(W), mean |x| sign(x) of each node; the gradient of x leaves the scales out",
        reference="Wang, Wang, Yang, Tang, Li, Song, Guo: Bi-GCN, CVPR 2021",
        layers={"linear": _LINEAR},
        rules=graph("bigcn"),
        keep_first=0,
        keep_last=0,
        training="Adam 1e-3, weight decay 5e-4, 1000 epochs, BatchNorm without scale and shift on the input features, "
        "dropout 0.4 of the codes (activation.dropout), no ReLU between layers",
        tasks=("graphs",),
    )
)
