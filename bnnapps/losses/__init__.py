"""Losses beyond the task's own: distillation, and the hub that sums named terms."""

from bnnapps.losses import latent, layerwise, terms
from bnnapps.losses.distillation import (
    attention_scores,
    direction_matching,
    hidden_mse,
    logit_mse,
    relation,
    score_mse,
    soft_cross_entropy,
    without_padding,
)
from bnnapps.losses.hub import Loss, LossHub, LossInputs, LossTerm, Outputs, get_loss, losses, register_loss
from bnnapps.losses.images import attention_map, attention_map_distance, squared_hinge

__all__ = [
    "Loss",
    "LossHub",
    "LossInputs",
    "LossTerm",
    "Outputs",
    "attention_map",
    "attention_map_distance",
    "attention_scores",
    "direction_matching",
    "get_loss",
    "hidden_mse",
    "latent",
    "layerwise",
    "logit_mse",
    "losses",
    "register_loss",
    "relation",
    "score_mse",
    "soft_cross_entropy",
    "squared_hinge",
    "terms",
    "without_padding",
]
