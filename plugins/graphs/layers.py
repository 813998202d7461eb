"""Convolutions of PyTorch Geometric, built by name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import EdgeConv, GATConv, GCNConv, GINConv, SAGEConv

from bnnapps.nn import Squash
from bnnapps.plugins.graphs.config import GraphModel
from bnnapps.plugins.graphs.meta import MetaAggregation

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "prelu": nn.PReLU,
    "hardtanh": nn.Hardtanh,
    "squash": Squash,
    "none": nn.Identity,
}


def activation(settings: GraphModel) -> nn.Module:
    """The non-linearity that a recipe asks for."""
    return _ACTIVATIONS[settings.activation]()


def batch_norm(features: int, settings: GraphModel) -> nn.BatchNorm1d:
    """BatchNorm over the nodes."""
    return nn.BatchNorm1d(features, momentum=settings.norm_momentum)


class MedianCentre(nn.Module):
    """x - median of each feature over the nodes at hand, the lower one of two: half of the signs behind it are +1.

    It learns nothing and remembers nothing, so in evaluation too it depends on which nodes come together. Bahri et al.,
    CVPR 2021 (released code).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) to (N, F)."""
        return x - x.median(dim=0, keepdim=True).values if len(x) else x


class OperandNormSAGEConv(SAGEConv):
    """GraphSAGE's W_l squash(BN(mean(x_j))) + W_r squash(BN(x)), so that each operand has signs of both kinds.

    With `norm: medians` a `MedianCentre` stands for each BatchNorm. Binary GraphSAGE (Bahri et al., CVPR 2021):
    `Squash` is tanh in a float network, and a sign in a binary one.
    """

    def __init__(self, into: int, out: int, aggr: Any, settings: GraphModel) -> None:
        super().__init__(into, out, aggr=aggr)
        self.norm_neighbours, self.norm_own = (
            MedianCentre() if settings.norm == "medians" else batch_norm(into, settings) for _ in range(2)
        )
        self.squash_neighbours, self.squash_own = Squash(), Squash()

    def forward(self, x: Tensor, edge_index: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(N, into) to (N, out)."""
        found = self.propagate(edge_index, x=(x, x), size=size)
        others: Tensor = self.lin_l(self.squash_neighbours(self.norm_neighbours(found)))
        own: Tensor = self.lin_r(self.squash_own(self.norm_own(x)))
        return others + own


def convolution(settings: GraphModel, into: int, out: int, last: bool) -> nn.Module:
    """One layer, (N, into) to (N, out); `last`: of the network, so that GAT has one head."""
    name = settings.name
    aggr = _aggregation(settings, {"gcn": out, "edge": out}.get(name, into))
    given: dict[str, Any] = {} if aggr is None else {"aggr": aggr}
    if name == "gcn":
        return _module(GCNConv(into, out, **given))
    if name == "gat":
        if last:
            return _module(GATConv(into, out, heads=1, dropout=settings.dropout, **given))
        return _module(GATConv(into, out // settings.heads, settings.heads, dropout=settings.dropout, **given))
    if name == "sage":
        if settings.norm in ("operands", "medians"):
            return OperandNormSAGEConv(into, out, given.get("aggr", "mean"), settings)
        return _module(SAGEConv(into, out, **given))
    if name == "gin":
        return _module(GINConv(_two_layers(settings, into, out), train_eps=True, **given))
    assert name == "edge"
    inner: list[nn.Module] = [nn.Linear(2 * into, out)]
    if settings.norm == "before":
        inner.insert(0, batch_norm(2 * into, settings))
    return _module(EdgeConv(nn.Sequential(*inner), **given))


def _module(conv: Any) -> nn.Module:
    found: nn.Module = conv
    return found


def _two_layers(settings: GraphModel, into: int, out: int) -> nn.Sequential:
    """GIN's own network of two linear layers, with norms where the recipe has them."""
    before, after = settings.norm == "before", settings.norm == "after"
    parts: list[nn.Module] = [batch_norm(into, settings)] if before else []
    parts.append(nn.Linear(into, out))
    if after:
        parts.append(batch_norm(out, settings))
    parts.append(activation(settings))
    if before:
        parts.append(batch_norm(out, settings))
    parts.append(nn.Linear(out, out))
    return nn.Sequential(*parts)


def _aggregation(settings: GraphModel, messages: int) -> Any:
    chosen = settings.aggregation
    if chosen == "meta_greedy":
        return MetaAggregation(messages, "greedy")
    if chosen == "meta_adaptable":
        return MetaAggregation(messages, "adaptable")
    return chosen
