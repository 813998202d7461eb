"""Real-to-Binary: outputs gated by the input, and a row of teachers from real to binary."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, OutputSpec, WeightSpec

_BLOCK = BlockSpec(
    shortcut="conv", norm="before", nonlinearity="prelu", nonlinearity_at="before_add", downsample="avgpool"
)

REAL2BINARY = register_method(
    Method(
        name="real2binary",
        title="(sign(W) * sign(x)) times a gate that is computed from x, for each sample and channel",
        reference="Martinez, Yang, Bulat, Tzimiropoulos: Training Binary Neural Networks with Real-to-Binary "
        "Convolutions, ICLR 2020",
        layers=layers_of(WeightSpec(scale="none"), ActivationSpec(), OutputSpec(scale="gate"), block=_BLOCK),
        rules=convolutional("real2binary"),
        training="a float network teaches a real one of this topology, that one a network with binary activations, "
        "that one the binary network, by attention maps and logits; Adam 1e-3, the last stage 2e-4, 75 epochs each "
        "(ImageNet)",
    )
)
