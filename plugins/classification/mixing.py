"""Mixup: training on mixtures of pairs of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mixup(images: Tensor, labels: Tensor, classes: int, alpha: float) -> tuple[Tensor, Tensor]:
    """l x + (1 - l) x' with x' another image of the batch, and the same mixture of their labels.

    Zhang, Cisse, Dauphin, Lopez-Paz: mixup, ICLR 2018. One l ~ Beta(alpha, alpha) for the batch, as in the released
    code; random numbers come from torch's CPU generator.

    Args:
        images: (N, C, H, W), normalised.
        labels: (N,), class numbers.
        classes: how many there are.
        alpha: at least 0.01; small values leave most batches nearly as they are.

    Returns:
        The mixed images, and labels as shares of the classes, (N, classes).

    """
    shape = torch.tensor(alpha, dtype=torch.float64)  # in float32 both gammas of a small alpha would underflow
    share = float(torch.distributions.Beta(shape, shape).sample())
    other = torch.randperm(len(images)).to(images.device)
    targets = F.one_hot(labels, classes).to(images.dtype)
    return images.lerp(images[other], 1 - share), targets.lerp(targets[other], 1 - share)
