"""The networks of FINN: fully connected ones for digits, and CNV for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.models.registry import ModelEntry, register_model

_EPS = 1e-4


class TensorNorm(nn.Module):
    """BatchNorm with one mean, variance, factor and shift for all features: it changes no order among the classes.

    y = (x - mean) / sqrt(var + eps) * weight + bias, over all elements of a batch in training, over the running
    statistics else (momentum 0.1, unbiased running variance), as in brevitas' examples.
    """

    def __init__(self, eps: float = _EPS, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(1))
        self.register_buffer("running_var", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        mean, var = self.running_mean, self.running_var
        if self.training:
            var, mean = torch.var_mean(x, correction=0)
            with torch.no_grad():
                count = x.numel()
                self.running_mean.lerp_(mean.reshape(1), self.momentum)
                self.running_var.lerp_((var * (count / max(1, count - 1))).reshape(1), self.momentum)
        return (x - mean) * (self.weight / torch.sqrt(var + self.eps)) + self.bias


def fully_connected(num_classes: int, in_channels: int, hidden: Sequence[int], image_size: int = 28) -> nn.Sequential:
    """Linear layers, each with BatchNorm; one norm for all scores behind the last (FINN's TFC, SFC and LFC).

    Args:
        num_classes: outputs.
        in_channels: of the images.
        hidden: features of the hidden layers.
        image_size: rows and columns of the images.

    """
    _sizes("hidden", hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    features = in_channels * image_size**2
    for width in hidden:
        layers += [nn.Linear(features, width, bias=False), nn.BatchNorm1d(width, eps=_EPS)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, num_classes, bias=False), TensorNorm())


def cnv(
    num_classes: int,
    in_channels: int,
    channels: Sequence[Sequence[int]] = ((64, 64), (128, 128), (256, 256)),
    hidden: Sequence[int] = (512, 512),
    image_size: int = 32,
) -> nn.Sequential:
    """3x3 convolutions without padding in groups, pooled behind all groups but the last, then linear layers.

    BatchNorm behind every layer, one norm for all scores behind the last; pools behind the norm, so that the maximum
    of signs is the sign of the maximum.

    Args:
        num_classes: outputs.
        in_channels: of the images.
        channels: of the convolutions, group by group.
        hidden: features of the hidden linear layers.
        image_size: rows and columns of the images.

    """
    _sizes("hidden", hidden)
    layers: list[nn.Module] = []
    features, size = in_channels, image_size
    for number, group in enumerate(channels):
        _sizes("channels", group)
        if number:
            layers.append(nn.MaxPool2d(2))
            size //= 2
        for width in group:
            layers += [nn.Conv2d(features, width, 3, bias=False), nn.BatchNorm2d(width, eps=_EPS)]
            features, size = width, size - 2
    if size < 1:
        raise UsageError(f"image_size is {image_size}: nothing is left of the map behind {len(channels)} groups")
    layers.append(nn.Flatten())
    features *= size**2
    for width in hidden:
        layers += [nn.Linear(features, width, bias=False), nn.BatchNorm1d(width, eps=_EPS)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, num_classes, bias=False), TensorNorm())


def _sizes(what: str, values: Sequence[int]) -> None:
    if any(not isinstance(value, int) or isinstance(value, bool) or value < 1 for value in values):
        raise UsageError(f"{what} is {list(values)!r}; expected whole numbers of at least 1")


_BINARY = {"rules": [{"types": ["linear"], "use": "bnn"}], "keep_first": 0, "keep_last": 0}
"""Every layer, the first and the last too."""

_PIXELS = {"method": "bnn", "activation.bits": 8, "activation.scale": "elastic"}
_CONVOLUTIONAL = {
    "rules": [{"types": ["linear", "conv2d"], "use": "bnn"}, {"match": "0", "use": _PIXELS}],
    "keep_first": 0,
    "keep_last": 0,
}
"""Every layer; the first one takes pixels of 8 bits."""

_FINN = "Umuroglu, Fraser, Gambardella, Blott, Leong, Jahre, Vissers: FINN, FPGA 2017; as in brevitas' examples"
_COP = "Fasfous, Vemparala, Frickenstein, Frickenstein, Badawy, Stechele: BinaryCoP, IPDPS Workshops 2021"

for _name, _width in (("tfc", 64), ("sfc", 256), ("lfc", 1024)):
    register_model(
        ModelEntry(
            _name,
            f"{_name.upper()}: three hidden layers of {_width}",
            _FINN,
            partial(fully_connected, hidden=(_width,) * 3),
            (28, 28),
            10,
            _BINARY,
        )
    )

for _name, _title, _channels, _hidden in (
    ("cnv", "CNV: six convolutions, 64 to 256 channels", ((64, 64), (128, 128), (256, 256)), (512, 512)),
    ("cnv_n", "n-CNV: six convolutions, 16 to 64 channels", ((16, 16), (32, 32), (64, 64)), (128, 128)),
    ("cnv_mu", "µ-CNV: five convolutions, 16 to 64 channels", ((16, 16), (32, 32), (64,)), (128,)),
):
    register_model(
        ModelEntry(
            _name,
            _title,
            _FINN if _name == "cnv" else _COP,
            partial(cnv, channels=_channels, hidden=_hidden),
            (32, 32),
            10,
            _CONVOLUTIONAL,
        )
    )
