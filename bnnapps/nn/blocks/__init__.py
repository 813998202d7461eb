"""Blocks of layers that architectures share, real until rules say otherwise."""

from bnnapps.nn.blocks.bireal import BiRealBlock
from bnnapps.nn.blocks.conv_unit import ConvUnit
from bnnapps.nn.blocks.dense import DenseLayer, ImprovementLayer, Transition
from bnnapps.nn.blocks.quicknet import BlurPool, QuickBlock, QuickTransition
from bnnapps.nn.blocks.reactnet import ReActBlock
from bnnapps.nn.blocks.residual import BasicBlock
from bnnapps.nn.blocks.shortcut import PadShortcut

__all__ = [
    "BasicBlock",
    "BiRealBlock",
    "BlurPool",
    "ConvUnit",
    "DenseLayer",
    "ImprovementLayer",
    "PadShortcut",
    "QuickBlock",
    "QuickTransition",
    "ReActBlock",
    "Transition",
]
