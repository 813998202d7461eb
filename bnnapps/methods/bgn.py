"""BGN: binary parameters, and a binary embedding of each node."""

from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import graph
from bnnapps.nn.spec import ActivationSpec, LinearSpec, WeightSpec

BGN = register_method(
    Method(
        name="bgn",
        title="sign(W) in every convolution, sign of the final embedding, which a real head reads",
        reference="Wang, Lian, Zhang, Qin, He, Lin, Lin: Binarized Graph Neural Network, World Wide Web 24, 2021",
        layers={"linear": LinearSpec(weight=WeightSpec(scale="none", constraint="clip"), activation=ActivationSpec())},
        rules=graph("bgn", binary_embedding=True),
        keep_first=0,
        keep_last=0,
        training="its code is not public; the straight-through gradient is the clipped one. A BatchNorm before the "
        "embedding's sign keeps its bits balanced",
        tasks=("graphs",),
    )
)
