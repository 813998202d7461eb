"""Losses of single layers: what a binary layer computes, against the same layer of a float teacher.

LWS-Det: Layer-wise Searching for 1-bit Detectors, Xu et al., CVPR 2021. The error of a layer's output is split into an
angle, which the signs of the weights decide, and an amplitude, which their scales decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.losses.hub import Loss, LossInputs, register_loss
from bnnapps.nn import functional as BF
from bnnapps.nn.layers.conv import _BinaryConv
from bnnapps.nn.layers.linear import BinaryLinear

_TINY = 1e-6


@dataclass(frozen=True)
class LayerPass:
    """One run of a layer: the layer, its input and its output."""

    layer: nn.Module
    input: Tensor
    output: Tensor


@dataclass(frozen=True)
class LayerPair:
    """The same layer of student (binary) and teacher (float), each in one run on the same images."""

    name: str
    student: LayerPass
    teacher: LayerPass


def can_be_compared(layer: nn.Module) -> bool:
    """Whether a layer is binary in both operands, with plain signs on the input and a scale for each filter alone."""
    if not isinstance(layer, (_BinaryConv, BinaryLinear)):
        return False
    weight, activation = layer.binary.weight, layer.binary.activation
    if weight is None or activation is None or layer.spec.output is not None:
        return False
    plain = activation.spec.scale == "none" and activation.spec.bits == 1 and not activation.spec.noise
    return plain and weight.spec.kind == "binary" and weight.spec.scale != "affine" and not weight.spec.noise


def cosines(product: Tensor, patches: Tensor, filters: Tensor) -> Tensor:
    """product / (|patch| |filter|): the cosine of the angle between each patch and each filter.

    Args:
        product: a * w, (N, O, ...).
        patches: the norms of the patches, (N, O or 1, ...).
        filters: the norms of the filters, (O, 1, ...).

    A patch or filter of zeros has the cosine 0.

    """
    return product / (patches * filters).clamp(min=_TINY)


def patch_norms(x: Tensor, layer: Any, padded: bool = False) -> Tensor:
    """The L2 norm of the part of x that each output of a layer reads, (N, O, ...) or, for one group, (N, 1, ...).

    Args:
        x: the input, for a convolution of 1 to 3 dimensions or a linear layer.
        layer: for its geometry.
        padded: whether x has its border already.

    """
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return x.square().sum(dim=-1, keepdim=True).sqrt()
    convolve: Callable[..., Tensor] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(layer.kernel_size)]
    if layer.padding_mode != "zeros" and not padded:
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        padded = True
    ones = torch.ones_like(layer.weight[: layer.groups])
    sums = convolve(x.square(), ones, None, layer.stride, 0 if padded else layer.padding, layer.dilation, layer.groups)
    sums = sums if layer.groups == 1 else sums.repeat_interleave(layer.out_channels // layer.groups, dim=1)
    return sums.clamp(min=0).sqrt()


def _along_channels(value: Tensor, layer: nn.Module) -> Tensor:
    """A number for each filter, so that it multiplies outputs."""
    flat = value.reshape(-1)
    return flat if isinstance(layer, nn.Linear) else flat.view(-1, *[1] * (value.dim() - 2))


def _without_bias(run: LayerPass) -> Tensor:
    bias: Any = run.layer.bias
    return (
        run.output
        if bias is None
        else run.output - _along_channels(bias.view(-1, *[1] * (run.output.dim() - 1)), run.layer)
    )


def scale_of_filters(layer: Any) -> Tensor:
    """The scale of each filter of a binary layer, with its gradient where it is learned by the product rule."""
    binarizer = layer.binary.weight
    learned = binarizer.spec.scale == "learned"
    scale: Tensor | None = binarizer.learned.amplitude if learned else binarizer.scale_of(layer.weight.detach())
    if scale is not None:
        return scale
    weight: Tensor = layer.weight
    return weight.new_ones(weight.shape[0], *[1] * (weight.dim() - 1))


def product_of_codes(run: LayerPass) -> Tensor:
    """What a binary layer computes before scale and bias; a learned scale gets no gradient through it."""
    return _without_bias(run) / _along_channels(scale_of_filters(run.layer), run.layer)


def _codes(layer: Any) -> Tensor:
    """The codes of the weight as the product has them, with the gradient of the search alone."""
    binarizer = layer.binary.weight
    if binarizer.spec.transform == "search" and binarizer.training:
        return BF.expected_sign(binarizer.logits)
    with torch.no_grad():
        return binarizer(layer.weight).codes.detach()  # type: ignore[no-any-return]


def angular_distance(pair: LayerPair) -> Tensor:
    """Mean over outputs of (cos(a, w) - cos(a', w'))^2, with a', w' the codes of student, a, w the teacher's values.

    The angle of a product says nothing of scales, so that it is what searching the signs has to get right.
    """
    teacher, student = pair.teacher, pair.student
    own: Any = student.layer
    other: Any = teacher.layer
    dims = tuple(range(1, other.weight.dim()))
    with torch.no_grad():
        norms = other.weight.square().sum(dim=dims, keepdim=True).sqrt()
        expected = cosines(_without_bias(teacher), patch_norms(teacher.input, other), _along_channels(norms, other))
        codes = own.binary.activation(student.input).codes
        padded = isinstance(own, _BinaryConv)
        patches = patch_norms(
            own._padded(codes, own._border_value) if padded else codes, own, padded and own._pads_outside
        )
    filters = _codes(own).square().sum(dim=dims, keepdim=True).clamp(min=_TINY**2).sqrt()
    found = cosines(product_of_codes(student), patches, _along_channels(filters, own))
    return (found - expected).square().mean()


def amplitude_distance(pair: LayerPair) -> Tensor:
    """Mean over outputs of (a * w - alpha p)^2, p the product of codes: the error that alpha alone can lower.

    p takes no gradient. For one filter the best alpha is <a * w, p> / <p, p>.
    """
    expected = _without_bias(pair.teacher).detach()
    product = product_of_codes(pair.student).detach()
    return (
        (expected - _along_channels(scale_of_filters(pair.student.layer), pair.student.layer) * product).square().mean()
    )


def weight_distance(pair: LayerPair) -> Tensor:
    """Mean over weights of (w - alpha w')^2, w the teacher's; with a gradient in alpha and in what searches w'."""
    other: Any = pair.teacher.layer
    weight: Tensor = other.weight.detach()
    return (weight - scale_of_filters(pair.student.layer) * _codes(pair.student.layer)).square().mean()


def _summed(term: str, distance: Callable[[LayerPair], Tensor], learned: bool) -> Callable[[LossInputs], Tensor]:
    def function(inputs: LossInputs) -> Tensor:
        inputs.of_teacher(term)
        pairs = list(_chosen(inputs.layers, term, learned))
        return torch.stack([distance(pair) for pair in pairs]).sum()

    return function


def _chosen(pairs: tuple[LayerPair, ...], term: str, learned: bool) -> Iterator[LayerPair]:
    if not pairs:
        raise UsageError(
            f"the loss '{term}' compares binary layers with those of a float teacher, and none fits: the teacher needs "
            "the same architecture, and the student layers with plain signs as input"
        )
    for pair in pairs:
        own: Any = pair.student.layer
        if learned and own.binary.weight.spec.scale != "learned":
            raise UsageError(
                f"the loss '{term}' learns the scale of each filter, and '{pair.name}' has scale "
                f"'{own.binary.weight.spec.scale}': take the method lwsdet, or weight.scale 'learned'"
            )
        yield pair


for _loss in (
    Loss(
        "layer_angle",
        _summed("layer_angle", angular_distance, learned=False),
        "differences of cosines, layer by layer, summed (LWS-Det)",
        needs_teacher=True,
        layers=True,
    ),
    Loss(
        "layer_amplitude",
        _summed("layer_amplitude", amplitude_distance, learned=True),
        "squared error of layer outputs, which learned scales lower, summed over layers (LWS-Det)",
        needs_teacher=True,
        layers=True,
    ),
    Loss(
        "layer_weight",
        _summed("layer_weight", weight_distance, learned=True),
        "squared distance of real and scaled binary weights, summed over layers (LWS-Det)",
        needs_teacher=True,
        layers=True,
    ),
):
    register_loss(_loss)
