"""XNOR-Net++: one learned factor for the output in place of two computed ones."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, OutputSpec, WeightSpec

_BLOCK = BlockSpec(
    shortcut="conv", norm="before", nonlinearity="prelu", nonlinearity_at="before_add", downsample="avgpool"
)

XNORPP = register_method(
    Method(
        name="xnorpp",
        title="(sign(W) * sign(x)) times a learned factor of rank one over channels, rows and columns",
        reference="Bulat, Tzimiropoulos: XNOR-Net++, BMVC 2019",
        layers=layers_of(WeightSpec(scale="none"), ActivationSpec(), OutputSpec(scale="rank_one"), block=_BLOCK),
        rules=convolutional("xnorpp"),
        training="Adam 1e-3, a tenth after epochs 40 and 60 of 80, weight decay 1e-5 (ImageNet); BatchNorm before each "
        "sign. output.scale channel suits inputs of any size",
    )
)
