"""What torchvision's detectors do to images before the network, and to boxes behind it, for one size of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Preparation(nn.Module):
    """Normalize, resize and pad images of one size, as `GeneralizedRCNNTransform` does; scale boxes back.

    Attributes:
        size: height and width that the network sees, without the padding.

    """

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(self, transform: Any, height: int, width: int) -> None:
        super().__init__()
        with torch.no_grad():
            prepared, _ = transform([torch.zeros(len(transform.image_mean), height, width)])
        self.size: tuple[int, int] = tuple(prepared.image_sizes[0])
        self.padding = (0, prepared.tensors.shape[-1] - self.size[1], 0, prepared.tensors.shape[-2] - self.size[0])
        self.resizes = self.size != (height, width)
        for name, value in (("mean", transform.image_mean), ("std", transform.image_std)):
            self.register_buffer(name, torch.tensor(value)[:, None, None], persistent=False)
        across = torch.tensor([width / self.size[1], height / self.size[0]], dtype=torch.float32)
        self.register_buffer("scale", across.repeat(2), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to what the backbone takes."""
        x = (images - self.mean) / self.std
        if self.resizes:
            x = F.interpolate(x, self.size, mode="bilinear", align_corners=False)
        return F.pad(x, self.padding) if any(self.padding) else x

    def clipped(self, boxes: Tensor) -> Tensor:
        """Boxes (..., 4) with every corner inside the image."""
        height, width = self.size
        x1, y1, x2, y2 = boxes.unbind(-1)
        return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), -1)

    def back(self, boxes: Tensor) -> Tensor:
        """Boxes (..., 4) in pixels of the image that was given."""
        return boxes * self.scale


def large_enough(boxes: Tensor, smallest: float) -> Tensor:
    """Whether width and height of boxes (..., 4) are at least `smallest`: (...)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1 >= smallest) & (y2 - y1 >= smallest)
