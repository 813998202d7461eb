"""Optimizers: which parameters train how, and the learning rate over the training."""

from bnnapps.optim.groups import make_optimizer, parameter_groups, parameter_kinds
from bnnapps.optim.schedule import lr_factor

__all__ = ["lr_factor", "make_optimizer", "parameter_groups", "parameter_kinds"]
