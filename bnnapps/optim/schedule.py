"""The learning rate as a function of the fraction of training done."""

from __future__ import annotations

import math

from bnnapps.recipe.schema import ScheduleConfig


def lr_factor(fraction: float, config: ScheduleConfig) -> float:
    """What the learning rate is multiplied by, at a fraction of the training in [0, 1].

    Warm-up: fraction / warmup up to 1. After it, with u the fraction of the rest that is done and e the factor at the
    end: linear e + (1 - e)(1 - u), cosine e + (1 - e)(1 + cos(pi u)) / 2, exponential e^u, constant 1, step
    gamma^(number of milestones passed).
    """
    if fraction < config.warmup:
        return fraction / config.warmup
    done = min(1.0, (fraction - config.warmup) / (1.0 - config.warmup))
    if config.name == "linear":
        return config.end + (1.0 - config.end) * (1.0 - done)
    if config.name == "cosine":
        return config.end + (1.0 - config.end) * (1.0 + math.cos(math.pi * done)) / 2.0
    if config.name == "exponential":
        return float(config.end**done)
    if config.name == "step":
        return config.gamma ** sum(1 for m in config.milestones if fraction >= m)
    return 1.0
