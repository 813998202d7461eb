"""Meta-Aggregator: each node learns how to sum up its neighbours."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation
from torch_geometric.utils import scatter

POOL = ("mean", "max", "add", "std")
"""The aggregators to choose from."""


def pooled(x: Tensor, index: Tensor, nodes: int) -> Tensor:
    """Mean, maximum, sum and deviation of the messages of each node, (nodes, 4, F); 0 where there are none.

    sum / sqrt(count) stands for the sum, which keeps its size near that of the others; the deviation is
    sqrt(mean of squares - square of mean + 1e-5) - sqrt(1e-5).

    Args:
        x: (E, F), messages.
        index: (E,), the node that each goes to.
        nodes: how many nodes there are.
    """
    count = torch.bincount(index, minlength=nodes).clamp(min=1).to(x.dtype)[:, None]
    total = scatter(x, index, 0, nodes, "sum")
    mean = total / count
    largest = scatter(x, index, 0, nodes, "max")
    squares = scatter(x.square(), index, 0, nodes, "sum") / count
    deviation = (squares - mean.square()).clamp(min=0).add(1e-5).sqrt() - 1e-5**0.5
    return torch.stack([mean, largest, total / count.sqrt(), deviation], dim=1)


class MetaAggregation(Aggregation):
    """An aggregation of PyTorch Geometric (`aggr=MetaAggregation(F)`) that each node chooses for itself.

    One-bit features collapse: the maximum, or the mean, of +1 and -1 is the same for many neighbourhoods. So an encoder
    looks at the mean of a node's messages and gives a score to each aggregator of `POOL`:

    * `greedy` (GNA): exactly one is taken, by a Gumbel-softmax whose forward pass is hard and whose backward pass is
      soft; in evaluation the one with the highest score.
    * `adaptable` (ANA): all are taken, with the softmax of the scores as weights.

    The encoder is one half of an auto-encoder; after each forward pass `lost` is the mean squared error of what the
    other half makes of its code. Its linear layers become binary by rules as any others do (a BatchNorm stands before
    each of them).

    Jing et al., Meta-Aggregator, ICCV 2021; no code is public, so widths and pool are this package's choice.

    Args:
        features: F of the messages.
        mode: `greedy` or `adaptable`.
        code: size of the encoder's code.
        temperature: of the softmax.

    """

    lost: Tensor | None

    def __init__(
        self, features: int, mode: Literal["greedy", "adaptable"], code: int = 16, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.mode, self.temperature = mode, temperature
        self.encoder = nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, code))
        self.decoder = nn.Sequential(nn.BatchNorm1d(code), nn.Linear(code, features))
        self.scores = nn.Sequential(nn.BatchNorm1d(code), nn.Linear(code, len(POOL)))
        self.lost = None

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
    ) -> Tensor:
        """(E, F) to (nodes, F)."""
        self.assert_index_present(index)
        self.assert_two_dimensional_input(x, dim)
        assert index is not None
        nodes = (int(index.max()) + 1 if len(index) else 0) if dim_size is None else dim_size
        found = pooled(x, index, nodes)
        code = self.encoder(found[:, 0])
        self.lost = F.mse_loss(self.decoder(code), found[:, 0].detach())
        weights = self.weights(self.scores(code))
        result: Tensor = (found * weights[:, :, None]).sum(1)
        return result

    def __getstate__(self) -> dict[str, Any]:
        """A copy has lost nothing yet."""
        return {**self.__dict__, "lost": None}

    def weights(self, scores: Tensor) -> Tensor:
        """How much each aggregator counts for each node, (nodes, 4); rows sum to 1."""
        if self.mode == "adaptable":
            return (scores / self.temperature).softmax(dim=1)
        if not self.training:
            return F.one_hot(scores.argmax(dim=1), len(POOL)).to(scores.dtype)
        return F.gumbel_softmax(scores, tau=self.temperature, hard=True, dim=1)

    def __repr__(self) -> str:
        return f"MetaAggregation({self.mode})"
