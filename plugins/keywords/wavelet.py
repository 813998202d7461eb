"""The two-dimensional Haar wavelet transform, one level, and the distillation losses on its bands."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Bands(NamedTuple):
    """The four bands of a map, each (..., ceil(H / 2), ceil(W / 2)), named as PyWavelets does.

    `approximation` is low along both, `horizontal` high along the rows' axis (differences of rows), `vertical` high
    along columns, `diagonal` high along both.
    """

    approximation: Tensor
    horizontal: Tensor
    vertical: Tensor
    diagonal: Tensor


def haar(x: Tensor) -> Bands:
    """One level of the orthonormal Haar transform over the last two dimensions; odd sizes get zeros behind.

    With a, b, c, d the values of a 2x2 square, row by row: (a+b+c+d)/2, (a+b-c-d)/2, (a-b+c-d)/2, (a-b-c+d)/2. Equal to
    `pywt.dwt2(x, "haar", mode="zero")` (Mallat, A theory for multiresolution signal decomposition, 1989).

    Args:
        x: (..., H, W).

    """
    height, width = x.shape[-2:]
    x = F.pad(x, (0, width % 2, 0, height % 2))
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return Bands((a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2)


def unhaar(bands: Bands, size: tuple[int, int]) -> Tensor:
    """The map (..., *size) that has these bands: the inverse of `haar`."""
    low, rows, columns, both = bands
    a, b = (low + rows + columns + both) / 2, (low + rows - columns - both) / 2
    c, d = (low - rows + columns - both) / 2, (low - rows - columns + both) / 2
    top, bottom = torch.stack([a, b], dim=-1).flatten(-2), torch.stack([c, d], dim=-1).flatten(-2)
    found = torch.stack([top, bottom], dim=-2).flatten(-3, -2)
    return found[..., : size[0], : size[1]]


def high_frequencies(x: Tensor) -> Tensor:
    """What is left of a map without its approximation band, the same shape."""
    bands = haar(x)
    return unhaar(bands._replace(approximation=torch.zeros_like(bands.approximation)), (x.shape[-2], x.shape[-1]))


def low_frequencies(x: Tensor) -> Tensor:
    """What the approximation band alone makes of a map, the same shape."""
    low = haar(x).approximation
    zero = torch.zeros_like(low)
    return unhaar(Bands(low, zero, zero, zero), (x.shape[-2], x.shape[-1]))


def emphasized(teacher: Tensor, epsilon: float = 1e-8) -> Tensor:
    """f_h / std(f_h) + f / std(f): a teacher's map with its high frequencies as strong as the whole.

    f_h is `high_frequencies(f)`; the deviations are over all elements (BiFSMN, Qin et al., IJCAI 2022, equation of
    the high-frequency enhancement distillation). A constant map has no high frequencies: `epsilon` keeps it finite.
    """
    high = high_frequencies(teacher)
    found: Tensor = high / (high.std() + epsilon) + teacher / (teacher.std() + epsilon)
    return found


def squared_direction(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """x^2 / ||x^2||_2, the norm over all elements."""
    squares = x.square()
    found: Tensor = squares / squares.norm().clamp(min=epsilon)
    return found


def direction_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """|| s^2 / ||s^2|| - t^2 / ||t^2|| ||_2 over the whole batch: between 0 and sqrt(2).

    The gradient where both agree exactly is 0.
    """
    difference = squared_direction(student) - squared_direction(teacher)
    return difference.square().sum().clamp(min=1e-20).sqrt()


def high_frequency_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """`direction_distance` between a student's map and the teacher's with emphasized high frequencies (BiFSMN).

    Args:
        student: (N, C, T); the transform runs over C x T.
        teacher: as the student.

    """
    return direction_distance(student, emphasized(teacher))


def frequency_independent_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """`direction_distance` of the low bands plus that of the high bands (BiFSMNv2, Qin et al., 2023).

    Args:
        student: (N, C, T); the transform runs over C x T.
        teacher: as the student.

    """
    low = direction_distance(low_frequencies(student), low_frequencies(teacher))
    return low + direction_distance(high_frequencies(student), high_frequencies(teacher))


def teacher_layer(student_layer: int, student_layers: int, teacher_layers: int) -> int:
    """The teacher's layer that stands beside a student's: (n_t / n_s) (k + 1) - 1.

    Raises:
        ValueError: the teacher's layers are no multiple of the student's.

    """
    if teacher_layers % student_layers:
        raise ValueError(f"a teacher of {teacher_layers} layers for a student of {student_layers}: give a multiple")
    return teacher_layers // student_layers * (student_layer + 1) - 1
