"""Convolutions of PyTorch Geometric made binary by rules: what they compute, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import EdgeConv, GATConv, GCNConv, GINConv, SAGEConv
from torch_geometric.utils import add_self_loops, degree

import bnnapps
from bnnapps.nn import functional as BF
from bnnapps.plugins.graphs.config import GraphModel
from bnnapps.plugins.graphs.networks import GraphClassifier, LinkPredictor, NodeClassifier

BOTH = [{"types": ["pyg.Linear", "linear"], "use": {"method": "bnn"}}]


class One(nn.Module):
    """A network of one convolution."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        result: Tensor = self.conv(x, edges)
        return result


def graph(nodes: int = 9, features: int = 6) -> tuple[Tensor, Tensor]:
    """A graph in which the last node is isolated."""
    torch.manual_seed(0)
    pairs = torch.tensor([[0, 0, 1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7, 1]])
    return torch.randn(nodes, features), torch.cat([pairs, pairs.flip(0)], dim=1)


def neighbour_sum(x: Tensor, edges: Tensor) -> Tensor:
    return torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])


def binarized(conv: nn.Module, rules: Any = BOTH) -> One:
    torch.manual_seed(1)
    model = One(conv)
    x, edges = graph()
    plan = bnnapps.plan(model, {"rules": rules, "keep_first": 0, "keep_last": 0})
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, (x, edges))
    return model.eval()


def signs(t: Tensor) -> Tensor:
    return BF.sign(t.detach())


@torch.no_grad()
def test_gcn_sums_binary_products_with_real_weights_of_edges() -> None:
    model = binarized(GCNConv(6, 4))
    x, edges = graph()
    products = signs(x) @ signs(model.conv.lin.weight).T
    looped, _ = add_self_loops(edges, num_nodes=9)
    scale = degree(looped[1], 9) ** -0.5
    weight = scale[looped[0]] * scale[looped[1]]
    expected = torch.zeros(9, 4).index_add(0, looped[1], products[looped[0]] * weight[:, None]) + model.conv.bias
    assert torch.allclose(model(x, edges), expected, atol=1e-6)
    # An isolated node sees itself alone.
    assert torch.allclose(model(x, edges)[8], products[8] + model.conv.bias)


@torch.no_grad()
def test_sage_multiplies_the_sign_of_the_mean() -> None:
    model = binarized(SAGEConv(6, 4))
    x, edges = graph()
    mean = neighbour_sum(x, edges) / degree(edges[1], 9).clamp(min=1)[:, None]
    expected = signs(mean) @ signs(model.conv.lin_l.weight).T + model.conv.lin_l.bias
    expected = expected + signs(x) @ signs(model.conv.lin_r.weight).T
    assert torch.allclose(model(x, edges), expected, atol=1e-6)
    assert not bool(mean[8].any())  # nothing comes to the isolated node, and the sign of nothing is +1


@torch.no_grad()
def test_gin_multiplies_the_sign_of_the_sum() -> None:
    model = binarized(GINConv(nn.Sequential(nn.Linear(6, 5), nn.Hardtanh(), nn.Linear(5, 3)), eps=0.5))
    x, edges = graph()
    first, second = model.conv.nn[0], model.conv.nn[2]
    summed = 1.5 * x + neighbour_sum(x, edges)
    inner = (signs(summed) @ signs(first.weight).T + first.bias).clamp(-1, 1)
    expected = signs(inner) @ signs(second.weight).T + second.bias
    assert torch.allclose(model(x, edges), expected, atol=1e-6)


@torch.no_grad()
def test_gat_attends_over_binary_products() -> None:
    model = binarized(GATConv(6, 3, heads=2))
    x, edges = graph()
    z = (signs(x) @ signs(model.conv.lin.weight).T).view(9, 2, 3)
    looped, _ = add_self_loops(edges, num_nodes=9)
    score = (z * model.conv.att_src).sum(-1)[looped[0]] + (z * model.conv.att_dst).sum(-1)[looped[1]]
    weight = nn.functional.leaky_relu(score, 0.2).exp()
    total = torch.zeros(9, 2).index_add(0, looped[1], weight)
    share = weight / total[looped[1]]
    expected = (
        torch.zeros(9, 2, 3).index_add(0, looped[1], z[looped[0]] * share[..., None]).flatten(1) + model.conv.bias
    )
    assert torch.allclose(model(x, edges), expected, atol=1e-5)


@torch.no_grad()
def test_edge_conv_multiplies_the_signs_of_each_edge() -> None:
    model = binarized(EdgeConv(nn.Sequential(nn.Linear(12, 4)), aggr="max"))
    x, edges = graph()
    linear = model.conv.nn[0]
    features = torch.cat([x[edges[1]], x[edges[0]] - x[edges[1]]], dim=1)
    each = signs(features) @ signs(linear.weight).T + linear.bias
    expected = torch.stack([each[edges[1] == n].amax(0) if n < 8 else torch.zeros(4) for n in range(9)])
    assert torch.allclose(model(x, edges), expected, atol=1e-6)


@torch.no_grad()
def test_bigcn_of_pyg_is_the_formula_of_the_paper() -> None:
    model = binarized(GCNConv(6, 4), "bigcn")
    x, edges = graph()
    w = model.conv.lin.weight
    product = (x.abs().mean(1, keepdim=True) * signs(x)) @ (w.abs().mean(1, keepdim=True) * signs(w)).T
    scale = (degree(edges[1], 9) + 1) ** -0.5
    adjacency = torch.zeros(9, 9)
    adjacency[edges[1], edges[0]] = 1
    whole = scale[:, None] * (adjacency + torch.eye(9)) * scale
    assert torch.allclose(model(x, edges), whole @ product + model.conv.bias, atol=1e-6)


CONVS = ["gcn", "sage", "gat", "gin", "edge"]


@pytest.mark.parametrize("method", ["bigcn", "binarygnn", "bgn"])
@pytest.mark.parametrize("name", CONVS)
def test_every_network_becomes_binary_trains_and_comes_back(name: str, method: str) -> None:
    torch.manual_seed(0)
    settings = GraphModel(name=name, hidden=8, heads=2, dropout=0.0, norm="before", activation="prelu", head=True)
    model = NodeClassifier(settings, 6, 3)
    x, edges = graph()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    plan = bnnapps.plan(model, method, example_inputs=(x, edges))
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, (x, edges))
    kept = [e.name for e in plan.kept if e.type in ("linear", "pyg.Linear")]
    assert kept == (["head"] if method == "binarygnn" else [])
    if method == "bgn":
        assert [e.spec.weight is None for e in plan.binarized] == [e.name == "head" for e in plan.binarized]
    result = model.train()(x, edges)
    assert result.shape == (9, 3)
    result.square().mean().backward()
    for entry in plan.binarized:
        assert bool(model.get_parameter(f"{entry.name}.weight").grad.any())
    model.zero_grad()
    bnnapps.restore(model)
    # BatchNorm has seen a batch, so its statistics moved; all else is as it was.
    assert all(
        torch.equal(v, state[k]) for k, v in model.state_dict().items() if "running" not in k and "num_b" not in k
    )


@pytest.mark.parametrize("norm", ["operands", "medians"])
def test_operand_norms_give_both_signs_to_both_operands(norm: str) -> None:
    torch.manual_seed(0)
    settings = GraphModel(name="sage", hidden=16, norm=norm, activation="prelu", dropout=0.0)
    model = bnnapps.binarize(NodeClassifier(settings, 6, 3), "binarygnn")
    x, edges = torch.rand(40, 6), torch.randint(0, 40, (2, 120))  # never negative
    seen = []
    for part in ("lin_l", "lin_r"):
        layer = model.encoder.convs[0].get_submodule(part)
        layer.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    model(x, edges)
    assert len(seen) == 2
    assert all(bool((t < 0).any(0).all()) and bool((t > 0).any(0).all()) for t in seen)
    if norm == "medians":  # of 40 codes a feature the lower half but the median itself is -1
        assert all(t.sum(0).tolist() == [2.0] * 6 for t in seen)


# Targets


@pytest.mark.parametrize("name", CONVS)
def test_a_graph_in_a_batch_is_what_it_is_alone_even_without_edges(name: str) -> None:
    torch.manual_seed(0)
    settings = GraphModel(name=name, hidden=8, heads=2, dropout=0.0)
    model = bnnapps.binarize(GraphClassifier(settings, 6, 3), "bnn").eval()
    x, edges = graph()
    lonely = torch.randn(4, 6)
    both = torch.cat([x, lonely, x])
    joined = torch.cat([edges, edges + 13], dim=1)
    batch = torch.arange(3).repeat_interleave(torch.tensor([9, 4, 9]))
    with torch.no_grad():
        found = model(both, joined, batch)
        alone = model(x, edges, torch.zeros(9, dtype=torch.long))
        none = model(lonely, torch.empty(2, 0, dtype=torch.long), torch.zeros(4, dtype=torch.long))
    assert torch.allclose(found, torch.cat([alone, none, alone]), atol=1e-4)
    assert bool(found.isfinite().all())


def test_links_are_scored_by_the_product_of_embeddings() -> None:
    torch.manual_seed(0)
    model = LinkPredictor(GraphModel(hidden=8, dropout=0.0), 6).eval()
    x, edges = graph()
    pairs = torch.tensor([[0, 3, 8], [1, 8, 8]])
    with torch.no_grad():
        z, found = model.embed(x, edges), model(x, edges, pairs)
    assert torch.equal(found[:, 0], torch.zeros(3))
    assert torch.allclose(found[:, 1], torch.stack([z[a] @ z[b] for a, b in pairs.T.tolist()]))


def test_the_embedding_is_what_the_last_layer_reads() -> None:
    torch.manual_seed(0)
    x, edges = graph()
    for head, layers in ((True, 2), (False, 2), (False, 1)):
        model = NodeClassifier(GraphModel(hidden=8, head=head, layers=layers, dropout=0.0), 6, 3).eval()
        last = model.head if head else model.encoder.convs[-1]
        seen = []
        last.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0]))
        model(x, edges)
        assert torch.equal(model.embed(x, edges), seen[0])
