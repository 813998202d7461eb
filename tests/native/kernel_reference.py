"""What the kernels should compute, in torch and numpy, one rounded step at a time."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from kernel_calls import Layer, Steps


def sums(layer: Layer, codes: np.ndarray) -> np.ndarray:
    """The exact sums [batch, outputs, size...] of codes [batch, channels, size...]."""
    x = torch.from_numpy(codes.astype(np.float64))
    w = torch.from_numpy(layer.weight.astype(np.float64))
    dimensions = range(layer.rank)
    if layer.transposed:
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[layer.rank - 1]
        whole = function(x, w, None, layer.stride, 0, 0, layer.groups, layer.dilation)
        crop = [(-layer.pad_begin[d], layer.output_pad[d] - layer.pad_end[d]) for d in reversed(dimensions)]
        z = F.pad(whole, [n for pair in crop for n in pair])
    else:
        pads = [(layer.pad_begin[d], layer.pad_end[d]) for d in reversed(dimensions)]
        padded = F.pad(x, [n for pair in pads for n in pair], value=float(layer.pad_value))
        function = (F.conv1d, F.conv2d, F.conv3d)[layer.rank - 1]
        z = function(padded, w, None, layer.stride, 0, layer.dilation, layer.groups)
    return np.asarray(z.numpy(), np.int64)


def floats(z: np.ndarray, steps: Steps) -> np.ndarray:
    """The float epilogue of sums with the channels last, each step rounded to float32."""
    v = z.astype(np.float32)
    if steps.scale is not None:
        v = v * steps.scale
    if steps.bias is not None:
        v = v + steps.bias
    if steps.residual is not None:
        v = v + steps.residual
    if steps.before is not None:
        v = v + steps.before
    if steps.slope is not None:
        v = np.where(v < 0, v * steps.slope, v)
    if steps.after is not None:
        v = v + steps.after
    assert v.dtype == np.float32
    return np.ascontiguousarray(v)
