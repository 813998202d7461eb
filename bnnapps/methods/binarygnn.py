"""Binary graph networks with a learned rescale: binary GraphSAGE and binary DGCNN."""

from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import graph
from bnnapps.nn.spec import ActivationSpec, LinearSpec, NonlinearitySpec, OutputSpec, WeightSpec

BINARYGNN = register_method(
    Method(
        name="binarygnn",
        title="sign(W), sign(x), a learned factor for each output; tanh of the float network becomes a sign",
        reference="Bahri, Bahl, Zafeiriou: Binary Graph Neural Networks, CVPR 2021",
        layers={
            "linear": LinearSpec(
                weight=WeightSpec(scale="none", constraint="clip"), activation=ActivationSpec(), output=OutputSpec()
            ),
            "nonlinearity": NonlinearitySpec(becomes="sign"),
        },
        rules=graph("binarygnn", nonlinearity=True),
        keep_first=0,
        keep_last=1,
        training="three stages of Adam, each student the next one's start and teacher: real weights with tanh in place "
        "of signs (1e-3, 250 epochs), signs (2.5e-4, 350), binary weights (1e-3, 350); soft labels at temperature 3 "
        "and local structure (the losses `soft_cross_entropy` and `local_structure`)",
        tasks=("graphs",),
    )
)
