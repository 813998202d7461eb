"""Generated colour images: ten classes of textures and shapes, 32x32, from a seed.

Each image takes two random colours for figure and ground, and random place, size, angle, frequency and noise; the
class alone decides the form. None of this looks like photographs: the set is for trying things out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bnnapps.plugins.classification.sets import ArraySet, ImageSplits

SIDE = 32
SIZES = {"train": 5000, "dev": 1000}
_DRAWS = 6
_NOISE = 0.08
_CONTRAST = 0.35

# Every painter takes coordinates x, y in [-1, 1] of shape (N, H, W) and uniform numbers u of shape (6, N, 1, 1); it
# gives the share of the figure in each pixel, from 0 to 1.
Painter = Callable[[Tensor, Tensor, Tensor], Tensor]


def make_textures(train: int, dev: int, seed: int) -> ImageSplits:
    """`train` and `dev` images, all classes equally often; the same numbers give the same images."""
    parts = [_images(size, torch.Generator().manual_seed(2 * seed + which)) for which, size in enumerate((train, dev))]
    return ImageSplits(parts[0], parts[1], tuple(_PAINTERS), "textures, ten classes of 32x32 colour images (generated)")


def _images(count: int, generator: torch.Generator) -> ArraySet:
    labels = torch.arange(count) % len(_PAINTERS)
    labels = labels[torch.randperm(count, generator=generator)]
    draws = torch.rand(_DRAWS, count, 1, 1, generator=generator)
    axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = (a.expand(count, SIDE, SIDE) for a in torch.meshgrid(axis, axis, indexing="ij"))
    figure = torch.zeros(count, SIDE, SIDE)
    for number, paint in enumerate(_PAINTERS.values()):
        chosen = labels == number
        figure[chosen] = paint(x[chosen], y[chosen], draws[:, chosen])
    ground, ink = _colours(count, generator)
    image = ground + (ink - ground) * figure[:, None]
    image += _NOISE * torch.randn(image.shape, generator=generator)
    return ArraySet((image.clamp(0, 1) * 255).round().to(torch.uint8), labels)


def _colours(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two colours an image, (N, 3, 1, 1) each, whose brightness differs by at least a third, either way round."""
    ground = torch.rand(count, 3, 1, 1, generator=generator)
    ink = torch.rand(count, 3, 1, 1, generator=generator)
    gap = ink.mean(1, keepdim=True) - ground.mean(1, keepdim=True)
    sign = torch.where(gap >= 0, 1.0, -1.0)
    push = (sign * _CONTRAST - gap) / 2 * (gap.abs() < _CONTRAST)
    return ground - push, ink + push


def _turned(x: Tensor, y: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates around a random point, turned by a random angle."""
    angle = 2 * math.pi * u[0]
    x, y = x - 0.6 * (u[1] - 0.5), y - 0.6 * (u[2] - 0.5)
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()


def _edge(distance: Tensor) -> Tensor:
    """1 inside (negative distance) and 0 outside, with a border one pixel wide."""
    return (0.5 - distance * SIDE / 2).clamp(0, 1)


def _wave(phase: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.tanh(4 * torch.sin(phase))


def _stripes(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, _ = _turned(x, y, u)
    return _wave(x * (8 + 10 * u[3]) + 6 * u[4])


def _checks(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, y = _turned(x, y, u)
    rate = 6 + 7 * u[3]
    return 0.5 + 0.5 * torch.tanh(6 * torch.sin(x * rate) * torch.sin(y * rate))


def _dots(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, y = _turned(x, y, u)
    rate = 8 + 7 * u[3]
    return torch.sigmoid(8 * (torch.cos(x * rate) + torch.cos(y * rate) - 1.0))


def _rings(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, y = _turned(x, y, u)
    return _wave(torch.hypot(x, y) * (12 + 10 * u[3]) + 6 * u[4])


def _ramp(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, _ = _turned(x, y, u)
    return (0.5 + x * (0.4 + 0.3 * u[3])).clamp(0, 1)


def _spokes(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, y = _turned(x, y, u)
    return _wave(torch.atan2(y, x) * (3 + (u[3] * 4).floor()))


def _disc(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, y = _turned(x, y, u)
    return _edge(torch.hypot(x, y) - (0.3 + 0.3 * u[3]))


def _square(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, y = _turned(x, y, u)
    return _edge(torch.maximum(x.abs(), y.abs()) - (0.28 + 0.25 * u[3]))


def _triangle(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, y = _turned(x, y, u)
    slanted = 0.5 * y + math.sqrt(0.75) * x.abs()
    return _edge(torch.maximum(slanted, -y) - (0.2 + 0.18 * u[3]))


def _cross(x: Tensor, y: Tensor, u: Tensor) -> Tensor:
    x, y = _turned(x, y, u)
    long, thin = 0.4 + 0.3 * u[3], 0.09 + 0.06 * u[4]
    bars = torch.minimum(torch.maximum(x.abs() - long, y.abs() - thin), torch.maximum(y.abs() - long, x.abs() - thin))
    return _edge(bars)


_PAINTERS: dict[str, Painter] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "rings": _rings,
    "ramp": _ramp,
    "spokes": _spokes,
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}
