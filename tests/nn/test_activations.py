from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from bnnapps.nn import ActivationBinarizer, ActivationSpec, RPReLU
from bnnapps.nn import functional as BF


def binarizer(channels: int = 4, channel_dim: int = -1, **fields: Any) -> ActivationBinarizer:
    return ActivationBinarizer(ActivationSpec(**fields), channels, channel_dim)


@pytest.mark.parametrize("unsigned", [False, True])
def test_plain_codes(unsigned: bool) -> None:
    x = torch.tensor([[-2.0, -0.0, 0.0, 3.0]])
    codes, scale, kind, *_ = binarizer(unsigned=unsigned)(x)
    assert codes.tolist() == ([[0, 1, 1, 1]] if unsigned else [[-1, 1, 1, 1]])
    assert scale is None
    assert kind == ("flag" if unsigned else "sign")


@pytest.mark.parametrize(
    ("shape", "channel_dim"), [((5, 4), -1), ((2, 5, 4), -1), ((2, 4, 6, 6), -3), ((4, 6, 6), -3), ((2, 4, 7), -2)]
)
def test_shift_moves_each_channel_by_its_own_number(shape: tuple[int, ...], channel_dim: int) -> None:
    module = binarizer(channel_dim=channel_dim, shift="channel")
    shift = torch.tensor([-9.0, 0.5, 0.0, 9.0])
    with torch.no_grad():
        module.shift.copy_(shift)
    x = torch.randn(shape)
    expected = BF.sign(x.movedim(channel_dim, -1) + shift).movedim(-1, channel_dim)
    assert torch.equal(module(x).codes, expected)


def test_shift_gets_the_gradient_of_its_channel() -> None:
    module = binarizer(shift="channel", estimator="polynomial")
    x = torch.randn(16, 4, requires_grad=True)
    upstream = torch.randn(16, 4)
    module(x).codes.backward(upstream)
    expected = upstream * (2 - 2 * x.detach().abs()).clamp(min=0)
    assert x.grad is not None
    assert module.shift.grad is not None
    torch.testing.assert_close(x.grad, expected)
    torch.testing.assert_close(module.shift.grad, expected.sum(0))


ELASTIC = [
    ({"scale": "elastic"}, (-1, 1), 2.0),
    ({"scale": "elastic", "unsigned": True}, (0, 1), 4.0),
    ({"scale": "elastic", "bits": 2}, (-2, 1), 2.0),
    ({"scale": "elastic", "bits": 2, "unsigned": True}, (0, 3), 4 / 3**0.5),
    ({"scale": "elastic", "bits": 4}, (-8, 7), 2 / 7**0.5),
]
by_elastic = pytest.mark.parametrize(("fields", "bounds", "factor"), ELASTIC, ids=str)


@by_elastic
def test_elastic_scale_starts_from_the_first_training_batch_and_only_from_that(
    fields: dict[str, Any], bounds: tuple[int, int], factor: float
) -> None:
    module = binarizer(**fields)
    assert module.bounds == bounds
    x = torch.randn(8, 4)
    module.eval()(x)
    assert not module.calibrated
    assert module.alpha.item() == 1
    codes, scale, *_ = module.train()(x)
    assert bool(module.calibrated)
    assert module.alpha.item() == pytest.approx(factor * x.abs().mean().item(), rel=1e-5)
    assert scale is not None
    assert torch.equal(scale, module.alpha.detach())
    assert codes.min() >= bounds[0]
    assert codes.max() <= bounds[1]
    before = module.alpha.item()
    module(x * 100)
    assert module.alpha.item() == before


@by_elastic
def test_elastic_gradient_of_alpha_is_not_counted_twice(
    fields: dict[str, Any], bounds: tuple[int, int], factor: float
) -> None:
    module = binarizer(**fields)
    x = torch.randn(8, 4)
    module.calibrate(x)
    codes, scale, *_ = module(x)
    upstream = torch.randn(8, 4)
    (codes * scale).backward(upstream)
    alpha = module.alpha.detach()
    if fields.get("bits", 1) == 1 and not fields.get("unsigned"):
        expected = (BF.sign(x) * upstream).sum() / x.numel() ** 0.5
    else:
        low, high = bounds
        ratio = x / alpha
        inside = (ratio >= low) & (ratio <= high)
        slope = torch.where(inside, torch.floor(ratio + 0.5).clamp(low, high) - ratio, ratio.clamp(low, high))
        expected = (slope * upstream).sum() / (x.numel() * max(high, 1)) ** 0.5
    assert module.alpha.grad is not None
    torch.testing.assert_close(module.alpha.grad, expected.view(1), rtol=1e-4, atol=1e-5)


def trained(module: ActivationBinarizer) -> ActivationBinarizer:
    module.train()(torch.randn(8, 4))
    return module


@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
def test_a_copy_is_not_calibrated_again(how: str) -> None:
    module = trained(binarizer(scale="elastic"))
    if how == "state_dict":
        other = binarizer(scale="elastic")
        other.load_state_dict(module.state_dict())
    else:
        other = copy.deepcopy(module) if how == "deepcopy" else pickle.loads(pickle.dumps(module))
    other.train()(torch.randn(8, 4) * 50)
    assert torch.equal(other.alpha, module.alpha)


def test_loading_an_uncalibrated_state_asks_for_data_again() -> None:
    fresh, module = binarizer(scale="elastic").state_dict(), trained(binarizer(scale="elastic"))
    module.load_state_dict(fresh)
    x = torch.randn(8, 4) * 10
    module.train()(x)
    assert module.alpha.item() == pytest.approx(2 * x.abs().mean().item(), rel=1e-5)


def test_alpha_stays_positive_under_the_constraint_and_in_the_forward_pass() -> None:
    module = trained(binarizer(scale="elastic"))
    with torch.no_grad():
        module.alpha.fill_(-3.0)
    codes, scale, *_ = module(torch.randn(2, 4))
    assert scale is not None
    assert scale.item() > 0
    assert codes.abs().eq(1).all()
    module.constrain()
    assert module.alpha.item() == pytest.approx(1e-5)
    codes, *_ = module(torch.randn(2, 4))
    codes.sum().backward()
    assert module.alpha.grad is not None


def test_input_map_of_a_linear_layer_is_the_mean_magnitude_of_each_row() -> None:
    x = torch.randn(2, 3, 4, requires_grad=True)
    codes, scale, *_ = binarizer(scale="input_map")(x)
    assert scale is not None
    torch.testing.assert_close(scale, x.detach().abs().mean(-1, keepdim=True))
    assert not scale.requires_grad
    assert torch.equal(codes, BF.sign(x))


@pytest.mark.parametrize("unsigned", [False, True])
def test_uniform_gives_real_values_within_learned_bounds(unsigned: bool) -> None:
    module = binarizer(bits=8, scale="uniform", unsigned=unsigned)
    x = torch.randn(8, 4) * 3
    codes, scale, kind, *_ = module(x)
    assert (scale, kind) == (None, "real")
    expected = BF.clipped_uniform(x, torch.tensor([-2.5]), torch.tensor([2.5]), 8, unsigned)
    assert torch.equal(codes, expected)
    codes.sum().backward()
    assert module.low.grad is not None
    assert module.low.grad.item() == (x < -2.5).sum()
    assert module.high.grad is not None
    assert module.high.grad.item() == (x > 2.5).sum()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    "fields",
    [{}, {"unsigned": True}, {"shift": "channel"}, {"bits": 8, "scale": "uniform"}, *(e[0] for e in ELASTIC)],
    ids=str,
)
def test_codes_have_the_dtype_of_the_input(fields: dict[str, Any], dtype: torch.dtype) -> None:
    module = ActivationBinarizer(ActivationSpec(**fields), 4, dtype=dtype)
    codes, scale, *_ = module(torch.randn(2, 4, dtype=dtype))
    assert codes.dtype == dtype
    assert scale is None or scale.dtype == dtype


def reference_rprelu(x: Tensor, gamma: Tensor, zeta: Tensor, slope: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    moved = x - gamma.view(shape)
    return torch.where(moved > 0, moved, slope.view(shape) * moved) + zeta.view(shape)


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 7), (2, 3, 4, 4)])
def test_rprelu(shape: tuple[int, ...]) -> None:
    module = RPReLU(3).double()
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(module(x), torch.where(x > 0, x, 0.25 * x))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(3))
    expected = reference_rprelu(x, module.gamma, module.zeta, module.slope)
    torch.testing.assert_close(module(x), expected)
    assert sorted(n for n, _ in module.named_parameters()) == ["gamma", "slope", "zeta"]
    module(x).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
