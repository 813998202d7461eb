"""Fronts of networks under a name, so that an exported file can be compared with torch in front of and behind them."""

from __future__ import annotations

from torch import Tensor, nn

from bnnapps.export.graph.mark import mark
from bnnapps.nn.front import Front


class MarkedFront(nn.Module):
    """A `Front` as a site of the graph.

    Attributes:
        site: its name.
        front: the module.

    """

    def __init__(self, site: str, front: Front) -> None:
        super().__init__()
        self.site, self.front = site, front

    def forward(self, x: Tensor) -> Tensor:
        """What the front gives."""
        return mark(self.front(mark(x, self.site, "input")), self.site, "front")
