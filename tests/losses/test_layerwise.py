from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnnapps
from bnnapps.errors import UsageError
from bnnapps.losses import LossHub, LossInputs, LossTerm, Outputs
from bnnapps.losses.layerwise import (
    LayerPair,
    LayerPass,
    amplitude_distance,
    angular_distance,
    patch_norms,
    product_of_codes,
    weight_distance,
)
from bnnapps.nn import functional as BF
from bnnapps.training.layer_pairs import LayerPairs

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv": (nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 5)),
    "strided": (nn.Conv2d(4, 6, 3, stride=2, dilation=2, padding=2, bias=False), (2, 4, 9, 9)),
    "grouped": (nn.Conv2d(4, 8, 3, padding=1, groups=2), (2, 4, 6, 6)),
    "reflected": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (2, 3, 6, 6)),
    "signal": (nn.Conv1d(3, 4, 5), (2, 3, 12)),
    "linear": (nn.Linear(7, 4), (2, 5, 7)),
}
by_layer = pytest.mark.parametrize("layer", LAYERS)


def pair_of(name: str, method: str = "lwsdet", train: bool = True, **overrides: Any) -> LayerPair:
    torch.manual_seed(0)
    float_layer, shape = LAYERS[name]
    teacher = nn.Sequential(copy.deepcopy(float_layer)).double()
    student = copy.deepcopy(teacher)
    types = ["conv1d", "conv2d", "linear"]
    present = [t for t in types if t == type(float_layer).__name__.lower()]
    rule = {"types": present, "use": {"method": method, **overrides}}
    bnnapps.binarize(student, {"rules": [rule], "keep_first": 0, "keep_last": 0})
    x = torch.randn(shape, dtype=torch.float64)
    student.train(train)
    seen = x.clone().requires_grad_() * 0.9
    return LayerPair("0", LayerPass(student[0], seen, student(seen)), LayerPass(teacher[0], x, teacher(x)))


def patches(x: Tensor, layer: Any, border: float | None = None) -> Tensor:
    """(N, places, groups, terms) of what each output reads, by cutting it out."""
    if isinstance(layer, nn.Linear):
        return x[..., None, :]
    if isinstance(layer, nn.Conv1d):
        return x.unfold(2, layer.kernel_size[0], 1).permute(0, 2, 1, 3).flatten(2)[:, :, None]
    pad, mode = layer._reversed_padding_repeated_twice, layer.padding_mode
    x = F.pad(x, pad, value=0.0 if border is None else border) if mode == "zeros" else F.pad(x, pad, mode=mode)
    cut = F.unfold(x, layer.kernel_size, layer.dilation, 0, layer.stride)
    return cut.transpose(1, 2).unflatten(2, (layer.groups, -1))


def cosine(x: Tensor, weight: Tensor, layer: Any) -> Tensor:
    """(N, places, O) from the definition."""
    cut = patches(x, layer)
    rows = weight.flatten(1).view(cut.shape[-2], -1, cut.shape[-1])
    return torch.stack(
        [F.cosine_similarity(cut[..., i // rows.shape[1], :], row, dim=-1) for i, row in enumerate(rows.flatten(0, 1))],
        -1,
    )


@by_layer
def test_norms_are_those_of_what_each_output_reads(layer: str) -> None:
    module, shape = LAYERS[layer]
    x = torch.randn(shape, dtype=torch.float64)
    found = patch_norms(x, module.double())
    expected = patches(x, module).square().sum(-1).sqrt()
    if not isinstance(module, nn.Linear):
        found = found.flatten(2).transpose(1, 2)
        expected = expected.repeat_interleave(found.shape[2] // expected.shape[2], dim=2)
    torch.testing.assert_close(found, expected)


@by_layer
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("method", ["lwsdet", "asda", "bireal"])
def test_the_angle_is_the_difference_of_cosines(layer: str, train: bool, method: str) -> None:
    pair = pair_of(layer, method, train)
    own: Any = pair.student.layer
    binarizer = own.binary.weight
    codes = BF.expected_sign(binarizer.logits) if method == "lwsdet" and train else binarizer(own.weight).codes
    student = cosine(BF.sign(pair.student.input.detach()), codes.detach(), own)
    other: Any = pair.teacher.layer
    expected = (student - cosine(pair.teacher.input, other.weight, other)).square().mean()
    assert float(angular_distance(pair).detach()) == pytest.approx(float(expected), rel=1e-9)


@by_layer
def test_the_angle_moves_signs_and_no_scale(layer: str) -> None:
    pair = pair_of(layer)
    angular_distance(pair).backward()
    binarizer: Any = pair.student.layer.binary.weight  # type: ignore[union-attr]
    assert binarizer.logits.grad.abs().max() > 1e-6
    assert binarizer.learned.amplitude.grad.abs().max() < 1e-12
    # against a numerical gradient, in one logit
    own: Any = pair.student.layer
    step = 1e-6
    index = (1, *[0] * (binarizer.logits.dim() - 1))
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            binarizer.logits[index] += sign * step
            run = LayerPass(own, pair.student.input, own(pair.student.input))
            values.append(float(angular_distance(LayerPair("0", run, pair.teacher))))
            binarizer.logits[index] -= sign * step
    assert float(binarizer.logits.grad[index]) == pytest.approx(
        (values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-9
    )


@by_layer
def test_the_best_amplitude_is_the_projection(layer: str) -> None:
    pair = pair_of(layer)
    binarizer: Any = pair.student.layer.binary.weight  # type: ignore[union-attr]
    other: Any = pair.teacher.layer
    product = product_of_codes(pair.student).detach()
    target = 0.7 * product + 0.1 * torch.randn_like(product)
    bias = 0.0 if other.bias is None else other.bias.detach()
    if layer != "linear" and other.bias is not None:
        bias = bias.view(-1, *[1] * (target.dim() - 2))
    teacher = LayerPass(other, pair.teacher.input, target + bias)
    target, product = (t.movedim(-1 if layer == "linear" else 1, 0).flatten(1) for t in (target, product))
    best = (target * product).sum(1) / product.square().sum(1)
    with torch.no_grad():
        binarizer.learned.amplitude.copy_(best.view_as(binarizer.learned.amplitude))
    own: Any = pair.student.layer
    run = LayerPass(own, pair.student.input, own(pair.student.input))
    loss = amplitude_distance(LayerPair("0", run, teacher))
    assert float(loss) == pytest.approx(float((target - best[:, None] * product).square().mean()), rel=1e-9)
    loss.backward()
    assert binarizer.learned.amplitude.grad.abs().max() < 1e-10
    assert binarizer.logits.grad is None


def test_the_weight_distance_is_that_of_scaled_expectations() -> None:
    pair = pair_of("conv")
    binarizer: Any = pair.student.layer.binary.weight  # type: ignore[union-attr]
    other: Any = pair.teacher.layer
    alpha = binarizer.learned.amplitude.detach().clone().requires_grad_()
    logits = binarizer.logits.detach().clone().requires_grad_()
    expected = (other.weight.detach() - alpha * BF.expected_sign(logits)).square().mean()
    found = weight_distance(pair)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found, (binarizer.learned.amplitude, binarizer.logits))
    torch.testing.assert_close(grads, torch.autograd.grad(expected, (alpha, logits)))


class Shared(nn.Module):
    """A layer that runs twice, one that sees another number of rows in the teacher, and a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.rows = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.shared(self.shared(x))
        rows = x.mean((2, 3))
        return self.last(self.rows(rows if self.training else rows[:1]))


def test_layers_are_paired_by_name_run_and_shape() -> None:
    teacher = Shared().eval()
    student = bnnapps.binarize(copy.deepcopy(teacher), "lwsdet").train()
    x = torch.randn(2, 3, 8, 8)
    with LayerPairs(student, teacher) as watched:
        student(x)
        teacher(x)
    pairs = watched.pairs()
    assert [p.name for p in pairs] == ["shared", "shared"]  # rows saw two images in one and one in the other
    assert all(p.student.layer is student.shared and p.teacher.layer is teacher.shared for p in pairs)
    assert watched.pairs() == ()
    assert not student.shared._forward_hooks  # type: ignore[union-attr]
    inputs = LossInputs(Outputs(), Outputs(), layers=pairs)
    total, parts = LossHub([LossTerm("layer_angle"), LossTerm("layer_amplitude", 0.1), LossTerm("layer_weight")])(
        inputs
    )
    assert set(parts) == {"layer_angle", "layer_amplitude", "layer_weight"}
    assert float(parts["layer_angle"]) == pytest.approx(float(sum(angular_distance(p) for p in pairs)))
    total.backward()


def test_without_layers_or_learned_scales_the_error_says_what_is_missing() -> None:
    with pytest.raises(UsageError, match="compares with a teacher, and there is none"):
        LossHub([LossTerm("layer_angle")])(LossInputs(Outputs()))
    with pytest.raises(UsageError, match="none fits: the teacher needs the same architecture"):
        LossHub([LossTerm("layer_angle")])(LossInputs(Outputs(), Outputs()))
    inputs = LossInputs(Outputs(), Outputs(), layers=(pair_of("conv", "bireal"),))
    with pytest.raises(UsageError, match="'0' has scale 'mean_abs': take the method lwsdet"):
        LossHub([LossTerm("layer_amplitude")])(inputs)
    assert LossHub([LossTerm("layer_angle")]).layers
    assert not LossHub([LossTerm("task")]).layers
