"""Meta-Aggregator: aggregators that each node chooses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import bnnapps
from bnnapps.plugins.graphs.config import GraphModel
from bnnapps.plugins.graphs.meta import POOL, MetaAggregation, pooled
from bnnapps.plugins.graphs.networks import NodeClassifier

MODES = pytest.mark.parametrize("mode", ["greedy", "adaptable"])


def messages() -> tuple[Tensor, Tensor]:
    """Ten messages to four nodes, of which one gets none and one a single one."""
    torch.manual_seed(0)
    return torch.randn(10, 5), torch.tensor([0, 0, 0, 3, 1, 1, 0, 1, 0, 1])


def test_the_pool() -> None:
    x, index = messages()
    found = pooled(x, index, 4)
    assert found.shape == (4, len(POOL), 5)
    for node in (0, 1, 3):
        own = x[index == node]
        expected = [own.mean(0), own.amax(0), own.sum(0) / len(own) ** 0.5, own.std(0, correction=0)]
        assert torch.allclose(found[node, :3], torch.stack(expected[:3]), atol=1e-6)
        assert torch.allclose(found[node, 3], expected[3], atol=4e-3)
    assert torch.equal(found[2], torch.zeros(4, 5))


@MODES
def test_weights_are_those_of_the_mode(mode: str) -> None:
    meta = MetaAggregation(5, mode)  # type: ignore[arg-type]
    scores = torch.randn(6, 4)
    trained, fixed = meta.train().weights(scores), meta.eval().weights(scores)
    assert torch.allclose(trained.sum(1), torch.ones(6))
    if mode == "adaptable":
        assert torch.equal(fixed, scores.softmax(1))
        assert torch.equal(trained, fixed)
    else:
        assert torch.equal(fixed, torch.nn.functional.one_hot(scores.argmax(1), 4).float())
        assert set(trained.round().unique().tolist()) == {0.0, 1.0}
        drawn = torch.stack([meta.train().weights(scores[:1]) for _ in range(3000)]).mean(0)
        assert torch.allclose(drawn, scores[:1].softmax(1), atol=0.05)


@MODES
def test_a_node_gets_the_chosen_mixture(mode: str) -> None:
    torch.manual_seed(0)
    meta = MetaAggregation(5, mode).eval()  # type: ignore[arg-type]
    x, index = messages()
    with torch.no_grad():
        found = meta(x, index, dim_size=4)
        whole = pooled(x, index, 4)
        weights = meta.weights(meta.scores(meta.encoder(whole[:, 0])))
    assert torch.allclose(found, torch.einsum("na,naf->nf", weights, whole))
    assert not bool(found[2].any())


@MODES
def test_gradients_reach_the_scores_and_the_messages(mode: str) -> None:
    torch.manual_seed(0)
    meta = MetaAggregation(5, mode)  # type: ignore[arg-type]
    x, index = messages()
    x.requires_grad_()
    meta(x, index, dim_size=4).square().sum().backward()
    assert bool(meta.scores[1].weight.grad.any())
    assert bool(x.grad.any())
    meta.zero_grad()
    meta(x, index, dim_size=4)
    meta.lost.backward()
    assert bool(meta.decoder[1].weight.grad.any())
    assert bool(meta.encoder[1].weight.grad.any())
    assert meta.scores[1].weight.grad is None


def test_the_maximum_of_signs_collapses_and_the_choice_does_not() -> None:
    # Two neighbourhoods of signs with the same maximum and another mean.
    x = torch.tensor([[1.0], [-1.0], [-1.0], [1.0], [1.0], [-1.0]])
    found = pooled(x, torch.tensor([0, 0, 0, 1, 1, 1]), 2)[..., 0]
    assert float(found[0, 1]) == float(found[1, 1])
    assert all(float(found[0, i]) != float(found[1, i]) for i in (0, 2))


@MODES
@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "edge"])
def test_a_network_of_pyg_takes_it_and_it_becomes_binary(name: str, mode: str) -> None:
    torch.manual_seed(0)
    settings = GraphModel(name=name, hidden=8, norm="before", activation="prelu", aggregation=f"meta_{mode}", head=True)
    model = NodeClassifier(settings, 6, 3)
    x, edges = torch.randn(12, 6), torch.randint(0, 12, (2, 40))
    plan = bnnapps.plan(model, "binarygnn", example_inputs=(x, edges))
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, (x, edges))
    assert sum(".aggr_module." in e.name for e in plan.binarized) == 6
    model.train()(x, edges).sum().backward()
    copied = copy.deepcopy(model).eval()
    assert torch.equal(copied(x, edges), model.eval()(x, edges))
