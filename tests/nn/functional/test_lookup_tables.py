"""Lookup tables: closed forms, gradients against sums over all entries, the float form between entries."""

from __future__ import annotations

import itertools

import pytest
import torch

import bnnapps
from bnnapps.binarize import apply_constraints
from bnnapps.errors import UsageError
from bnnapps.models import build
from bnnapps.nn import BinaryLookup, GroupSum, Lookup, LookupSpec, Thermometer, fit_thermometers
from bnnapps.nn import functional as BF

ALL3 = torch.tensor([[1.0 if k >> j & 1 else -1.0 for j in range(3)] for k in range(8)])


def test_addresses_and_entries() -> None:
    assert BF.addresses(ALL3).tolist() == list(range(8))
    assert BF.addresses(torch.tensor([[-0.0, 0.3, -2.0]])).tolist() == [3]  # sign(0) = +1
    table = torch.randn(2, 8)
    found = BF.entries_at(table, torch.tensor([[3, 5]]))
    assert found.tolist() == [[table[0, 3].item(), table[1, 5].item()]]


def test_the_float_form_meets_the_entries_and_is_the_mean_between() -> None:
    table = torch.randn(2, 8)
    x = ALL3[:, None].expand(8, 2, 3)
    assert torch.allclose(BF.interpolated(x, table), table.t(), atol=1e-6)
    assert torch.allclose(BF.interpolated(torch.zeros(1, 2, 3), table), table.mean(dim=1)[None])


@pytest.mark.parametrize("neighbours", ["inverse", "geometric"])
def test_extended_finite_differences_are_the_sum_of_the_paper(neighbours: BF.Neighbours) -> None:
    table = torch.randn(2, 8, dtype=torch.float64)
    found = BF.finite_differences(table, neighbours)
    for o, a, j in itertools.product(range(2), range(8), range(3)):
        total = 0.0
        for k in range(8):
            h = bin((k ^ a) & ~(1 << j)).count("1")
            weight = 1 / (h + 1) if neighbours == "inverse" else 0.5 * 0.75 ** (2 - h) * 0.25**h
            total += (1 if k >> j & 1 else -1) * weight * float(table[o, k])
        assert float(found[o, a, j]) == pytest.approx(total)


def test_geometric_neighbours_are_slopes_of_the_float_form() -> None:
    table = torch.randn(1, 8, dtype=torch.float64)
    for a, j in itertools.product(range(8), range(3)):
        x = (ALL3[a].double() / 2)[None, None].requires_grad_()
        (slope,) = torch.autograd.grad(BF.interpolated(x, table).sum(), x)
        assert float(BF.finite_differences(table, "geometric")[0, a, j]) == pytest.approx(float(slope[0, 0, j]))


def test_gradients_of_a_read_entry() -> None:
    table = torch.randn(2, 8, requires_grad=True)
    x = torch.stack([ALL3[[3, 6]], ALL3[[3, 1]]]).requires_grad_()  # two examples of two tables
    grad = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    y = BF.looked_up(x, table.detach().sign().requires_grad_(), table)
    assert torch.equal(y.detach(), table.detach().sign()[[0, 1], [[3, 6], [3, 1]]])
    codes = table.detach().sign().requires_grad_()
    BF.looked_up(x, codes, table, spectral=0.1).backward(grad)
    slopes = BF.finite_differences(table.detach())
    assert x.grad is not None
    assert codes.grad is not None
    assert torch.allclose(x.grad[1, 1], 4 * slopes[1, 1])
    latent = table.detach().requires_grad_()
    (pull,) = torch.autograd.grad(0.1 * BF.spectral_norm(latent), latent)
    expected = pull.clone()
    expected[0, 3] += 1.5
    expected[1, 6] -= 2
    expected[1, 1] += 4
    assert torch.allclose(codes.grad, expected, atol=1e-6)


def test_the_spectrum_gives_the_table_back() -> None:
    table = torch.randn(3, 8, dtype=torch.float64)
    c = BF.spectrum(table)
    for a in range(8):
        basis = torch.stack([ALL3[a][[j for j in range(3) if s >> j & 1]].prod() for s in range(8)]).double()
        assert torch.allclose(c @ basis, table[:, a])
    assert torch.allclose(BF.spectral_norm(table), table.square().sum().sqrt() / 8**0.5)  # Parseval
    parity = ALL3.prod(dim=1)[None].double()
    assert BF.spectrum(parity)[0].tolist() == [0] * 7 + [1]


def test_learned_wires_take_the_largest_score_and_learn_all() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 5, requires_grad=True)
    x = torch.randn(4, 5, requires_grad=True)
    y = BF.chosen(x, scores)
    wires = scores.argmax(-1)
    assert torch.equal(y.detach(), x.detach()[:, wires])
    grad = torch.randn_like(y)
    y.backward(grad)
    assert scores.grad is not None
    assert x.grad is not None
    assert torch.allclose(scores.grad, torch.einsum("bon,bi->oni", grad, x.detach()), atol=1e-6)
    again = x.detach().requires_grad_()
    again[:, wires].backward(grad)
    assert again.grad is not None
    assert torch.allclose(x.grad, again.grad, atol=1e-6)


@pytest.mark.parametrize("wiring", ["learned", "random", "tree"])
def test_binary_layer_and_float_layer_agree_on_entries_of_one_bit(wiring: str) -> None:
    torch.manual_seed(1)
    layer = Lookup(12, 4, 3, wiring)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight.sign_()
        if wiring == "learned":
            layer.connection.mul_(1e6)  # a softmax that is all on one
    x = torch.randn(9, 12).sign()
    expected = layer(x)
    net = bnnapps.binarize(torch.nn.Sequential(layer), "dwn")
    assert isinstance(net[0], BinaryLookup)  # type: ignore[index]
    assert torch.allclose(net(x), expected, atol=1e-5)
    used = layer.chosen_wires()
    assert used.shape == (4, 3)
    if wiring == "random":
        assert used.flatten().sort().values.tolist() == list(range(12))  # each as often as the others


def test_thermometers() -> None:
    t = Thermometer(2, 3)
    x = torch.stack([torch.arange(100.0), torch.zeros(100)], dim=1)
    fit_thermometers(torch.nn.Sequential(t), x)
    assert t.thresholds.tolist() == [[25, 50, 75], [0, 0, 0]]
    assert t(torch.tensor([[50.0, 0.1]])).tolist() == [[1, -1, -1, 1, 1, 1]]
    even = Thermometer(2, 3, "uniform")
    even.fit(torch.tensor([[0.0, 255.0], [128.0, 3.0]]))
    assert even.thresholds.tolist() == [[63.75, 127.5, 191.25]] * 2


def test_a_network_learns_and_counts() -> None:
    torch.manual_seed(0)
    net = build("dwn", 2, hidden=[24, 8], inputs=3, bits=2, features=6, temperature=1.0)
    x = torch.randn(400, 6)
    fit_thermometers(net, x)
    y = (x[:, 0] + x[:, 1] > 0).long()
    bnnapps.binarize(net, "dwn")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        apply_constraints(net)
    assert float((net.eval()(x).argmax(1) == y).float().mean()) > 0.75
    assert bnnapps.summarize(net, x[:1]).params_1bit == (24 + 8) * 8


def test_bad_values() -> None:
    for options, message in (
        ({"hidden": []}, r"hidden is \[\]; expected whole numbers"),
        ({"wiring": ["best"]}, "wiring is 'best'; expected one of learned, random, tree"),
        ({"placement": "even"}, "placement is 'even'"),
        ({"inputs": 9}, "a table has 1 to 8 inputs"),
        ({"hidden": [10], "wiring": ["tree"]}, "wiring is 'tree', so in_features must be"),
    ):
        with pytest.raises(UsageError, match=message):
            build("dwn", 10, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="entries of a table are bits"):
        LookupSpec(weight={"scale": "mean_abs"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be positive"):
        GroupSum(3, 0)
