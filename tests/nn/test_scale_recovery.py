"""Layer-wise scale recovery: its start from data, its gradient, and what of it a checkpoint holds."""

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor, nn

import bnnapps
from bnnapps.nn import functional as BF
from bnnapps.nn.spec import OutputSpec
from bnnapps.training.ranks import calibrate_together


def layer(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    found = nn.Linear(16, 8, bias=kwargs.pop("bias", False))
    bnnapps.binarize(nn.Sequential(found), "bipointnet", keep_first=0, keep_last=0)
    return found


def expected_start(x: Tensor, weight: Tensor) -> float:
    centred = weight - weight.mean()
    real, product = x @ centred.T, BF.sign(x) @ BF.sign(centred).T
    return float(real.std() / product.std())


def test_the_first_batch_of_training_sets_the_scale() -> None:
    found = layer()
    x = torch.randn(32, 16) * 0.3
    scale = found.binary.output
    found.eval()(x)
    assert scale.needs_data
    assert scale.factors[0].tolist() == [1]
    found.train()
    y = found(x)
    alpha = expected_start(x, found.weight.detach())
    assert scale.factors[0].item() == pytest.approx(alpha, rel=1e-5)
    assert not scale.needs_data
    centred = found.weight - found.weight.mean()
    assert torch.allclose(y, alpha * BF.sign(x) @ BF.sign(centred).T, rtol=1e-4)
    assert float(y.detach().std()) == pytest.approx(float((x @ centred.T).detach().std()), rel=1e-4)
    found(10 * x)
    assert scale.factors[0].item() == pytest.approx(alpha, rel=1e-5)


def test_gradients() -> None:
    found = layer()
    x = (torch.randn(6, 16) * 0.7).requires_grad_()
    y = found(x)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    alpha, w = found.binary.output.factors[0], found.weight.detach()
    centred = w - w.mean()
    assert torch.allclose(alpha.grad, ((y / alpha) * weights).sum().detach()[None], rtol=1e-4)
    assert x.grad is not None
    inside = (x.detach().abs() <= 1).float()
    assert torch.allclose(x.grad, alpha.detach() * inside * (weights @ BF.sign(centred)), rtol=1e-4, atol=1e-5)
    of_codes = alpha.detach() * (centred.abs() <= 1) * (weights.T @ BF.sign(x.detach()))
    assert torch.allclose(found.weight.grad, of_codes - of_codes.mean(), rtol=1e-3, atol=1e-4)


def test_bias_stays_outside_of_the_scale() -> None:
    found = layer(bias=True)
    x = torch.randn(32, 16)
    y = found(x) - found.bias
    assert torch.allclose(y, layer()(x), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "product"),
    [(nn.Conv2d, nn.functional.conv2d), (nn.ConvTranspose2d, nn.functional.conv_transpose2d)],
)
def test_convolutions_recover_their_scale(kind: Any, product: Any) -> None:
    torch.manual_seed(0)
    conv = kind(4, 8, 3, padding=1)
    rules = [{"types": [kind], "use": "bipointnet"}]
    bnnapps.binarize(nn.Sequential(conv), rules, keep_first=0, keep_last=0)
    x = torch.randn(2, 4, 6, 6)
    y = (conv(x) - conv.bias.view(-1, 1, 1)).detach()
    centred = (conv.weight - conv.weight.mean()).detach()
    assert float(y.std()) == pytest.approx(float(product(x, centred, padding=1).std()), rel=1e-4)
    assert not conv.binary.output.needs_data


def test_zeros_recover_from_the_weights_and_constants_from_nothing() -> None:
    weight = torch.randn(5, 7)
    zeros, codes = torch.zeros(3, 5), BF.sign(weight)
    found = BF.recovery_scale(zeros, torch.zeros(3, 5), weight, codes)
    assert float(found) == pytest.approx(float(weight.std() / codes.std()))
    ones = torch.ones(5, 7)
    assert float(BF.recovery_scale(zeros, zeros, ones, ones)) == 1
    one = torch.ones(1, 1)
    assert float(BF.recovery_scale(one, one, one, one)) == 1


def test_a_checkpoint_says_whether_the_scale_has_started() -> None:
    found, x = layer(), torch.randn(32, 16)
    fresh = copy.deepcopy(found.state_dict())
    found(x)
    other = layer()
    other.load_state_dict(found.state_dict())
    assert not other.binary.output.needs_data
    assert torch.equal(other(5 * x), found(5 * x))
    other.load_state_dict(fresh)
    assert other.binary.output.needs_data
    copied = copy.deepcopy(other)
    copied(x)
    assert torch.equal(copied.binary.output.factors[0], found.binary.output.factors[0])
    assert other.binary.output.needs_data


def test_optimizer_made_before_the_first_batch_moves_the_scale() -> None:
    found, x = layer(), torch.randn(32, 16)
    optimizer = torch.optim.SGD(found.parameters(), lr=0.1)
    found(x).square().sum().backward()
    before = found.binary.output.factors[0].item()
    optimizer.step()
    assert found.binary.output.factors[0].item() != before


@pytest.mark.parametrize(
    "spec", [{"scale": "channel", "initial": "recovery"}, {"scale": "layer", "initial": "uniform"}, {"scale": "rows"}]
)
def test_specs_that_do_not_fit(spec: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        OutputSpec(**spec)  # type: ignore[arg-type]


def test_processes_start_from_the_mean_of_their_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(32, 16), layer().weight.detach()
    alpha, other = expected_start(x, weight), 3.0
    assert calibrate_together(nn.Sequential(layer())) == []
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        monkeypatch.setattr(dist, "all_reduce", lambda value: value.add_(other))
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        found = layer()
        handles = calibrate_together(nn.Sequential(found))
        assert len(handles) == 1
        copied = copy.deepcopy(found)
        found(x)
        handles[0].remove()
        assert found.binary.output.factors[0].item() == pytest.approx((alpha + other) / 2, rel=1e-5)
        copied(x)  # a copy agrees with nobody, nor does a layer behind its first batch
        assert copied.binary.output.factors[0].item() == pytest.approx(alpha, rel=1e-5)
    finally:
        dist.destroy_process_group()
