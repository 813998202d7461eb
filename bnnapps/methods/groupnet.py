"""Group-Net: each residual block as several binary ones side by side."""

from bnnapps.methods.common import layers_of
from bnnapps.methods.method import Method, register_method
from bnnapps.methods.targets import convolutional
from bnnapps.nn.spec import ActivationSpec, BlockSpec, EstimatorSpec, WeightSpec

# clip(x, 0, 1) rounded: 1 from 1/2 on.
_LEVELS = ActivationSpec(unsigned=True, scale="unit", estimator=EstimatorSpec(name="clip"))
# The order of the released code: convolution, ReLU, BatchNorm, shortcut, around each convolution, and a real 1x1
# convolution in the shortcut branch (the paper's Group-Net**). Its plain Group-Net is shortcut: block. BPAC, for dense
# prediction, is the same with dilations: for K = 5 bases 2 to 6 in layer3 and 6 to 10 in layer4.
_BLOCK = BlockSpec(shortcut="conv", nonlinearity_at="before_norm", bases=5)

GROUPNET = register_method(
    Method(
        name="groupnet",
        title="K binary copies of each residual block's branch, summed with learned scales; alpha sign(W), 1{x >= 1/2}",
        reference="Zhuang, Shen, Tan, Liu, Reid: Structured Binary Neural Networks for Accurate Image Classification "
        "and Semantic Segmentation, CVPR 2019",
        layers=layers_of(WeightSpec(), _LEVELS, block=_BLOCK),
        rules=convolutional("groupnet"),
        training="from the float network; for segmentation Adam 1e-4, weight decay 1e-5, batch 16, 40 epochs, a tenth "
        "at 20 and 30 (VOC 2012), and a dilation for each base (BPAC)",
    )
)
