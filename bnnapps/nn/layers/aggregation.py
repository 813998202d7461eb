"""Aggregation over the points of a set, as a layer that rules can name."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnnapps.nn import functional as BF
from bnnapps.nn.layers.base import BinaryLayer, Parts
from bnnapps.nn.spec import AggregationSpec

Kind = Literal["max", "mean"]


class Aggregation(nn.Module):
    """The maximum or the mean over the points of each set, for a network of your own.

    Rules reach it by name or as `types: [aggregation]`. It has no parameters.

    Args:
        kind: `max` or `mean`.

    Inputs:
        x: (..., n, C).
        mask: boolean (..., n), true where a point counts: neighbourhoods of different sizes. A set without any gives 0.

    Returns:
        (..., C).

    Raises:
        ValueError: another kind.

    """

    def __init__(self, kind: Kind = "max") -> None:
        super().__init__()
        if kind not in ("max", "mean"):
            raise ValueError(f"kind is {kind!r}: it must be 'max' or 'mean'")
        self.kind = kind

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One vector a set."""
        return BF.aggregate(x, self.kind, mask)

    def extra_repr(self) -> str:
        """Which one."""
        return self.kind


class BinaryAggregation(BinaryLayer[AggregationSpec], Aggregation):
    """An aggregation whose result has a sign worth reading (BiPointNet, Qin et al., ICLR 2021).

    The maximum of many normalised features is positive almost surely, so the sign behind it is +1 for every set.
    `ema_max` moves it by the median that it has over n standard normal numbers, max(x) - Phi^-1(0.5^(1/n)), with the n
    of each set; the mean is balanced as it is (`ema_avg`). What enters should be normalised and not clipped: BatchNorm
    right before it.

    Args:
        kind: as in `Aggregation`.
        spec: what it becomes.

    """

    replaces = Aggregation

    def __init__(self, kind: Kind = "max", *, spec: AggregationSpec | None = None) -> None:
        super().__init__(kind)
        spec = AggregationSpec() if spec is None else spec
        self.attach(spec, self.make_parts(spec))

    def make_parts(self, spec: AggregationSpec) -> Parts:
        """Nothing is needed."""
        return Parts()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One vector a set."""
        pool = self.spec.pool
        kind = self.kind if pool == "keep" else "max" if pool in ("max", "ema_max") else "mean"
        found = BF.aggregate(x, kind, mask)
        if pool != "ema_max":
            return found
        if mask is None:
            return found - BF.median_of_max(x.shape[-2])
        # A table and no formula: exported files then hold constants only.
        table = [0.0, *(BF.median_of_max(n) for n in range(1, x.shape[-2] + 1))]
        offsets = torch.tensor(table, device=x.device, dtype=x.dtype)
        return found - offsets[mask.sum(dim=-1)].unsqueeze(-1)


def is_pyg_aggregation(module: nn.Module) -> bool:
    """Whether the module is PyG's maximum or mean over neighbours."""
    kind = type(module)
    return kind.__name__ in ("MaxAggregation", "MeanAggregation") and kind.__module__ == "torch_geometric.nn.aggr.basic"


class BinaryPyGAggregation(BinaryLayer[AggregationSpec]):
    """As `BinaryAggregation`, for the `aggr_module` of PyTorch Geometric's convolutions and its global aggregations.

    The number of points is that of each index, so neighbourhoods may have any sizes. The class is made from PyG's own.

    Inputs:
        x, index, ptr, dim_size, dim: as PyG's aggregations take them.

    """

    def make_parts(self, spec: AggregationSpec) -> Parts:
        """Nothing is needed."""
        return Parts()

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
        **more: Any,
    ) -> Tensor:
        """One vector an index."""
        pool = self.spec.pool
        reduce: Any = getattr(self, "reduce")  # noqa: B009 - of PyG's class
        if pool == "keep":
            found: Tensor = super().forward(x, index, ptr=ptr, dim_size=dim_size, dim=dim, **more)
            return found
        largest = pool in ("max", "ema_max")
        found = reduce(x, index, ptr, dim_size, dim, reduce="max" if largest else "mean")
        if pool != "ema_max":
            return found
        counts = self._counts(x, index, ptr, found.shape[dim], dim)
        shape = [1] * found.dim()
        shape[dim] = -1
        return found - BF.medians_of_max(counts).to(found.dtype).view(shape)

    def _counts(self, x: Tensor, index: Tensor | None, ptr: Tensor | None, size: int, dim: int) -> Tensor:
        """The number of points of each index, (size,)."""
        if index is not None:
            return torch.bincount(index, minlength=size)
        if ptr is not None:
            return ptr.diff()
        return torch.tensor([x.shape[dim]], device=x.device)
