"""The Gaussian localisation head: a mean and a variance for each coordinate of a box."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import RecipeError

_LARGEST = 10.0
"""Log variances are cut to +-10, so that neither end overflows."""


def sample_offsets(outputs: Tensor, noise: float) -> Tensor:
    """Offsets drawn from N(mu, (noise sigma)^2), coordinate by coordinate: mu + noise exp(log sigma^2 / 2) e.

    BiDet (Wang et al., CVPR 2020) has the first four of eight values as log sigma^2 and the last four as mu; its
    released code takes noise 0, which leaves mu alone.

    Args:
        outputs: (N, 8 g, ...), eight values for each of g boxes.
        noise: 0 draws nothing.

    Returns:
        (N, 4 g, ...). The gradient reaches log sigma^2 only where noise is not 0.

    """
    grouped = outputs.unflatten(1, (-1, 8))
    log_variance, mean = grouped[:, :, :4], grouped[:, :, 4:]
    if noise > 0:
        sigma = (log_variance.clamp(-_LARGEST, _LARGEST) / 2).exp()
        mean = mean + noise * sigma * torch.randn_like(mean)
    flat: Tensor = mean.flatten(1, 2)
    return flat


class GaussianOffsets(nn.Module):
    """A layer of box offsets with twice its outputs: in training samples, in evaluation the mean.

    It starts as the layer that it replaces: the same weights for mu, and log sigma^2 = 0.

    Args:
        layer: a convolution or linear layer with four outputs a box.
        noise: how much of sigma the samples have.

    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.layer = _doubled(layer)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer that it replaces."""
        return sample_offsets(self.layer(x), self.noise if self.training else 0.0)

    def extra_repr(self) -> str:
        """The noise."""
        return f"noise={self.noise}"


def _doubled(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    if isinstance(layer, nn.Conv2d):
        kind: Any = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        wide: nn.Conv2d | nn.Linear = nn.Conv2d(
            layer.in_channels, 2 * layer.out_channels, **kind, bias=layer.bias is not None
        )
    else:
        wide = nn.Linear(layer.in_features, 2 * layer.out_features, bias=layer.bias is not None)
    with torch.no_grad():
        for name, old in layer.named_parameters():
            new = getattr(wide, name)
            new.zero_().unflatten(0, (-1, 8))[:, 4:] = old.unflatten(0, (-1, 4))
    return wide


def with_gaussian_boxes(detector: nn.Module, noise: float) -> nn.Module:
    """Every layer of box offsets of a torchvision detector becomes a `GaussianOffsets`, in place.

    Raises:
        RecipeError: the detector has no such layers.

    """
    places = list(offset_layers(detector))
    if not places:
        raise RecipeError(
            f"model.gaussian: {type(detector).__name__} has no layers of box offsets that are known: set it to false"
        )
    for name in places:
        parent, _, last = name.rpartition(".")
        owner, layer = detector.get_submodule(parent), detector.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        owner._modules[last] = GaussianOffsets(layer, noise)
    return detector


_OFFSETS = ("head.regression_head.bbox_reg", "rpn.head.bbox_pred", "roi_heads.box_predictor.bbox_pred")
_SSD = "head.regression_head.module_list"


def offset_layers(detector: nn.Module) -> list[str]:
    """The names of the layers that put out box offsets, in SSD, RetinaNet and Faster R-CNN of torchvision."""
    modules = dict(detector.named_modules())
    found = [name for name in _OFFSETS if name in modules]
    for i, member in enumerate(modules.get(_SSD, nn.ModuleList()).children()):
        layers = [n for n, m in member.named_modules() if isinstance(m, nn.Conv2d)]
        # In SSDlite a depthwise convolution stands before the one that puts out offsets.
        found.append(f"{_SSD}.{i}.{layers[-1]}".removesuffix("."))
    return found
