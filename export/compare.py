"""When two tensors count as equal but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-4
"""Relative to the size of a tensor's values: how far float32 arithmetic in another order may lead."""

FLOOR = 1e-6
"""What rounding may leave of sums of ordinary numbers that cancel."""

_OUTLIER = 1e3
_AGREE = 0.99


def rounding_excess(a: Tensor, b: Tensor) -> float:
    """The largest |a - b| as a multiple of what rounding allows: at most 1 means equal but for rounding.

    Allowed is FLOOR + ROUNDING * max(|b|, s), where s is the largest |b| that is no outlier (more than 1000 times the
    median of the magnitudes that are not 0: a masked score says nothing about the others). Equal infinities agree, and
    so do two NaNs. Integers and booleans may differ in one element of a hundred, since a maximum among nearly equal
    numbers moves.

    Any shapes; different ones give infinity.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if not a.is_floating_point():
        return 0.0 if not a.numel() or float((a == b).double().mean()) >= _AGREE else float("inf")
    largest = largest_difference(a, b)
    if largest <= FLOOR:
        return largest / FLOOR
    allowed = b.abs().clamp(min=typical_size(b)) * ROUNDING + FLOOR
    return float((_differences(a, b) / allowed).nan_to_num(nan=float("inf"), posinf=float("inf")).max())


def typical_size(x: Tensor) -> float:
    """The largest |x| that is no outlier; 0 where everything is 0."""
    magnitudes = x.detach().abs().flatten()
    magnitudes = magnitudes[magnitudes.isfinite() & (magnitudes > 0)]
    if not magnitudes.numel():
        return 0.0
    ordinary = magnitudes[magnitudes <= _OUTLIER * magnitudes.median()]
    return float(ordinary.max())


def largest_difference(a: Tensor, b: Tensor) -> float:
    """max |a - b|; infinite where the shapes differ. Equal infinities agree."""
    if a.shape != b.shape:
        return float("inf")
    if not a.numel() or torch.equal(a, b):
        return 0.0
    return float(_differences(a, b).max().nan_to_num(nan=float("inf"), posinf=float("inf")))


def _differences(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|, 0 for equal infinities and for two NaNs; NaN where only one of them is NaN."""
    if not a.is_floating_point():
        a, b = a.double(), b.double()
    differences = (a - b).abs()
    if not bool(differences.max().isfinite()):
        differences[(a == b) | (a.isnan() & b.isnan())] = 0.0
    return differences


def argmax_agreement(a: Tensor, b: Tensor) -> float | None:
    """The share of rows whose largest entry is in the same place; `None` for one column.

    A row lies along the last dimension; in a map (N, C, H, W) along C, so that it is a pixel with its scores.
    """
    axis = 1 if a.dim() == 4 else -1
    if not a.is_floating_point() or a.dim() < 2 or a.shape[axis] < 2 or a.shape != b.shape or not a.numel():
        return None
    return float((a.argmax(axis) == b.argmax(axis)).double().mean())
