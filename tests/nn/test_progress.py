from __future__ import annotations

import pytest
import torch
from torch import nn

from bnnapps.nn import BinaryConv2d, BinaryLinear, ConvSpec, LinearSpec, functional, set_progress
from bnnapps.nn.estimator import SignEstimator
from bnnapps.nn.spec import ActivationSpec, EstimatorSpec, WeightSpec

EDE = EstimatorSpec(name="ede", t_min=0.01, t_max=10.0)


def model() -> nn.Sequential:
    weight, activation = WeightSpec(estimator=EDE), ActivationSpec(estimator=EDE)
    return nn.Sequential(
        BinaryConv2d(3, 4, 3, spec=ConvSpec(weight=weight, activation=activation)),
        nn.Flatten(),
        BinaryLinear(4, 2, spec=LinearSpec(weight=weight, activation=activation)),
    )


def estimators(module: nn.Module) -> list[SignEstimator]:
    return [m for m in module.modules() if isinstance(m, SignEstimator)]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_defect_6_progress_moves_every_estimator_whatever_counts_the_steps(fraction: float) -> None:
    net = model()
    set_progress(net, fraction)
    k, t = functional.ede_schedule(fraction, 0.01, 10.0)
    assert len(estimators(net)) == 4
    for estimator in estimators(net):
        assert estimator.k.item() == pytest.approx(k)
        assert estimator.t.item() == pytest.approx(t)


def test_progress_lives_in_the_state_dict() -> None:
    net, other = model(), model()
    set_progress(net, 0.7)
    other.load_state_dict(net.state_dict())
    assert [e.t.item() for e in estimators(other)] == [e.t.item() for e in estimators(net)]


def test_progress_changes_the_gradient_and_not_the_forward_pass() -> None:
    net, x = model(), torch.randn(2, 3, 3, 3)
    results = []
    for fraction in (0.0, 1.0):
        set_progress(net, fraction)
        net.zero_grad()
        y = net(x)
        y.sum().backward()
        results.append((y.detach(), net[0].weight.grad.clone()))
    assert torch.equal(results[0][0], results[1][0])
    assert not torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_progress_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        set_progress(model(), fraction)


def test_other_estimators_stay_where_they_are() -> None:
    estimator = SignEstimator(EstimatorSpec(name="clip"))
    estimator.set_progress(0.5)
    assert not list(estimator.buffers())
