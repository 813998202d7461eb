"""Optimizers: which parameters train how, and the learning rate over the training."""

from bnnapps.optim.bop import Bop, bop_step
from bnnapps.optim.build import make_optimizer, optimizer_of, set_rates
from bnnapps.optim.combined import CombinedOptimizer
from bnnapps.optim.groups import ParameterGroup, parameter_groups, parameter_kinds
from bnnapps.optim.schedule import lr_factor

__all__ = [
    "Bop",
    "CombinedOptimizer",
    "ParameterGroup",
    "bop_step",
    "lr_factor",
    "make_optimizer",
    "optimizer_of",
    "parameter_groups",
    "parameter_kinds",
    "set_rates",
]
