"""Aggregation over points: closed forms, balance of signs, masks, PyTorch Geometric."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch_geometric.nn import EdgeConv, MaxAggregation, MeanAggregation

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.nn import Aggregation, Rectifier
from bnnapps.nn import functional as BF


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


@pytest.mark.parametrize("count", [1, 2, 5, 20, 64, 1000, 4096, 10**6])
def test_median_of_the_maximum_is_exact(count: int) -> None:
    median = BF.median_of_max(count)
    assert count * math.log(normal_cdf(median)) == pytest.approx(math.log(0.5), rel=1e-9)
    assert float(BF.medians_of_max(torch.tensor(count))) == pytest.approx(median, abs=1e-12)


def test_published_offsets() -> None:
    # applications of the formula at the numbers of points for which BiPointNet's code holds rounded ones
    for count, published in ((1024, 3.2041), (2048, 3.4025), (4096, 3.5836), (20, 1.8268), (64, 2.2983)):
        assert BF.median_of_max(count) == pytest.approx(published, abs=0.005)


def test_no_points_have_no_median() -> None:
    with pytest.raises(ValueError, match="count is 0"):
        BF.median_of_max(0)
    assert BF.medians_of_max(torch.tensor([0, 1])).tolist() == [0, 0]
    with pytest.raises(ValueError, match="kind is 'sum'"):
        Aggregation("sum")  # type: ignore[arg-type]


def binary(pool: str, kind: str = "max") -> nn.Module:
    found = nn.Sequential(Aggregation(kind))  # type: ignore[arg-type]
    return bnnapps.binarize(found, [Rule(types=["aggregation"], use={"method": "bipointnet", "pool": pool})])[0]  # type: ignore[index]


@pytest.mark.parametrize("count", [3, 64, 512])
def test_signs_are_balanced_after_ema_and_constant_after_the_maximum(count: int) -> None:
    x = torch.randn(2000, count, 4, generator=torch.Generator().manual_seed(count))
    share = {pool: (binary(pool)(x) >= 0).float().mean().item() for pool in ("max", "ema_max", "mean", "ema_avg")}
    assert share["max"] > 0.87
    assert share["ema_max"] == pytest.approx(0.5, abs=0.02)
    assert share["ema_avg"] == pytest.approx(0.5, abs=0.02)
    assert torch.equal(binary("ema_max")(x), x.amax(1) - BF.median_of_max(count))
    assert torch.equal(binary("keep", "mean")(x), x.mean(1))


@pytest.mark.parametrize("pool", ["max", "mean", "ema_max"])
def test_neighbourhoods_of_different_sizes(pool: str) -> None:
    x = torch.randn(3, 5, 2, requires_grad=True)
    sizes = (5, 2, 0)
    mask = torch.arange(5) < torch.tensor(sizes)[:, None]
    found = binary(pool)(x, mask)
    for row, size in enumerate(sizes[:2]):
        assert torch.allclose(found[row], binary(pool)(x[row : row + 1, :size])[0])
    assert found[2].tolist() == [0, 0]
    found.sum().backward()
    assert x.grad is not None
    assert not x.grad[~mask].any()
    assert x.grad.isfinite().all()


def test_maximum_shares_its_gradient_and_the_offset_has_none() -> None:
    x = torch.tensor([[[1.0], [3.0], [3.0]]], requires_grad=True)
    binary("ema_max")(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("kind", [MaxAggregation, MeanAggregation])
@pytest.mark.parametrize("pool", ["keep", "max", "mean", "ema_max", "ema_avg"])
def test_aggregation_of_pyg(kind: type[nn.Module], pool: str) -> None:
    torch.manual_seed(0)
    x, index = torch.randn(9, 3), torch.tensor([0, 0, 0, 1, 1, 3, 3, 3, 3])
    model = nn.Sequential(kind())
    bnnapps.binarize(model, [Rule(types=["pyg.Aggregation"], use={"method": "bipointnet", "pool": pool})])
    found = model[0](x, index, dim_size=4)
    name = {"keep": "max" if kind is MaxAggregation else "mean", "ema_max": "max", "ema_avg": "mean"}.get(pool, pool)
    for i, size in enumerate((3, 2, 0, 4)):
        rows = x[index == i]
        expected = torch.zeros(3) if size == 0 else rows.amax(0) if name == "max" else rows.mean(0)
        if pool == "ema_max" and size:
            expected = expected - BF.median_of_max(size)
        assert torch.allclose(found[i], expected, atol=1e-6)
    ptr = torch.tensor([0, 3, 5, 5, 9])
    assert torch.allclose(model[0](x, ptr=ptr), found, atol=1e-6)
    whole = model[0](x[:3])
    assert torch.allclose(whole[0], found[0], atol=1e-6)


def test_inside_a_convolution_of_pyg() -> None:
    torch.manual_seed(0)
    conv = EdgeConv(nn.Sequential(nn.Linear(6, 4)), aggr="max")
    x, edges = torch.randn(4, 3), torch.tensor([[0, 1, 2, 3, 0], [1, 1, 1, 2, 3]])
    before = conv(x, edges)
    rules = [Rule(match="*aggr_module", types=["pyg.Aggregation"], use="bipointnet")]
    bnnapps.binarize(conv, rules)
    bnnapps.plan_of(conv).assert_ran(conv, (x, edges))
    offsets = BF.medians_of_max(torch.tensor([0, 3, 1, 1])).float()
    assert torch.allclose(conv(x, edges), before - offsets[:, None])
    bnnapps.restore(conv)
    assert torch.equal(conv(x, edges), before)


def test_copies_and_pickles() -> None:
    x = torch.randn(2, 7, 3)
    for model in (binary("ema_max"), nn.Sequential(MaxAggregation())):
        if isinstance(model, nn.Sequential):
            bnnapps.binarize(model, [Rule(types=["pyg.Aggregation"], use="bipointnet")])
            x = x[0]
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(x), model(x))


def test_a_rectifier_becomes_what_the_rule_says() -> None:
    model = nn.Sequential(Rectifier(), Rectifier())
    x = torch.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    assert model(x).tolist() == [0, 0, 0.5, 2]
    rules = [
        Rule(types=["rectifier"], use="bipointnet"),
        Rule("1", use={"method": "bipointnet", "becomes": "identity"}),
    ]
    bnnapps.binarize(model, rules)
    assert model[1](x) is x
    y = model[0](x)
    assert y.tolist() == [-1, -0.5, 0.5, 1]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]
    assert type(bnnapps.restore(model)[0]) is Rectifier  # type: ignore[index]


@pytest.mark.parametrize("examples", [None, torch.randn(4, 3)])
def test_plan_warns_of_a_rectifier_only_while_it_stays(examples: torch.Tensor | None) -> None:
    model = nn.Sequential(nn.Linear(3, 8), Rectifier(), nn.Linear(8, 8))
    kinds = ["linear"]
    kept = bnnapps.plan(model, [Rule(types=kinds, use="bnn")], keep_last=0, example_inputs=examples)
    assert any("'2': the input is never negative" in line for line in kept.warnings)
    rules = [Rule(types=kinds, use="bnn"), Rule(types=["rectifier"], use="bipointnet")]
    replaced = bnnapps.plan(model, rules, keep_last=0, example_inputs=examples)
    assert not any("never negative" in line for line in replaced.warnings)
    assert "hardtanh" in str(replaced)
