"""Small networks in hardware form, with random weights."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from bnnapps.export.fpga.folding import Fold
from bnnapps.export.fpga.layers import Conv, Dense, Head, Input, Layer, Network, Pool


def signs(rng: np.random.Generator, *shape: int) -> Any:
    return rng.choice(np.array([-1, 1], np.int8), shape)


def dense(rng: np.random.Generator, name: str, terms: int, outputs: int, last: bool = False) -> Dense:
    """Thresholds beyond every sum too: bits that are always, and never, high."""
    threshold = rng.integers(-terms // 3, terms // 3, outputs)
    threshold[:2] = (-terms - 5, terms + 5)
    return Dense(name, signs(rng, outputs, terms), None if last else threshold)


def conv(rng: np.random.Generator, name: str, size: tuple[int, int], channels: int, outputs: int, **more: Any) -> Conv:
    kernel = more.pop("kernel", (3, 3))
    terms = kernel[0] * kernel[1] * channels
    spread = terms // 3 * (60 if more.get("bits") == 8 else 1)
    threshold = rng.integers(-spread, spread + 1, outputs)
    return Conv(name, signs(rng, outputs, *kernel, channels), threshold, size, **more)


def head(rng: np.random.Generator, terms: int, classes: int, ranked: bool) -> Head:
    ranks = rng.integers(0, 9, (classes, terms + 1)) if ranked else None
    return Head(classes, terms, ranks)


def perceptron(seed: int = 0, ranked: bool = False, sizes: tuple[int, ...] = (24, 12, 8, 5)) -> Network:
    rng = np.random.default_rng(seed)
    layers: list[Layer] = [
        dense(rng, f"fc{i}", a, b, i + 2 == len(sizes)) for i, (a, b) in enumerate(itertools.pairwise(sizes))
    ]
    return Network("net", Input((sizes[0],), 1), tuple(layers), head(rng, sizes[-2], sizes[-1], ranked))


def convolutional(
    seed: int, bits: int = 1, size: tuple[int, int] = (7, 9), pool: bool = True, **geometry: Any
) -> Network:
    """A convolution of the given geometry, a pool, a dense layer."""
    rng = np.random.default_rng(seed)
    first = conv(rng, "conv", size, 4, 6, bits=bits, **geometry)
    layers: list[Layer] = [first]
    rows, columns = first.out_size
    if pool:
        layers.append(Pool("pool", 6, (rows, columns), (2, 2)))
        rows, columns = rows // 2, columns // 2
    terms = rows * columns * 6
    layers.append(dense(rng, "fc", terms, 3, last=True))
    return Network("net", Input((4, *size), bits), tuple(layers), head(rng, terms, 3, False))


def codes(network: Network, count: int, seed: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    shape = (count, *network.input.shape)
    return signs(rng, *shape) if network.input.bits == 1 else rng.integers(-128, 128, shape).astype(np.int8)


def folding(network: Network, *pairs: tuple[int, int]) -> dict[str, Fold]:
    return {layer.name: Fold(*pair) for layer, pair in zip(network.compute, pairs, strict=True)}
