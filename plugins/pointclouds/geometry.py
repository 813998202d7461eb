"""Neighbours and samples of points: nearest ones, those in a ball, and points far from each other."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 of two clouds, (B, N, C) and (B, M, C), as (B, N, M), never negative."""
    product = a @ b.transpose(1, 2)
    return ((a * a).sum(-1)[:, :, None] - 2 * product + (b * b).sum(-1)[:, None]).clamp(min=0)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """The points of each cloud that `index` names: (B, N, C) and (B, ...) to (B, ..., C)."""
    rows = index.reshape(index.shape[0], -1, 1).expand(-1, -1, x.shape[2])
    return x.gather(1, rows).view(*index.shape, x.shape[2])


def nearest_neighbours(x: Tensor, count: int) -> Tensor:
    """The numbers (B, N, k) of the k nearest points of each point, itself among them.

    Args:
        x: (B, N, C); places, or features as in DGCNN (Wang et al., 2019).
        count: k, at most N.

    Raises:
        ValueError: there are fewer points.

    """
    if count > x.shape[1]:
        raise ValueError(f"{count} neighbours are asked for and a cloud has {x.shape[1]} points")
    with torch.no_grad():
        return squared_distances(x, x).topk(count, dim=-1, largest=False).indices


def farthest_points(places: Tensor, count: int) -> Tensor:
    """The numbers (B, m) of points that cover each cloud: the first, then always the one farthest from all so far.

    Args:
        places: (B, N, 3).
        count: m, at most N.

    """
    batch, size = places.shape[:2]
    if count > size:
        raise ValueError(f"{count} points are asked for and a cloud has {size}")
    found = torch.zeros(batch, count, dtype=torch.long, device=places.device)
    with torch.no_grad():
        nearest = places.new_full((batch, size), torch.inf)
        last = found[:, 0]
        rows = torch.arange(batch, device=places.device)
        for i in range(1, count):
            step = (places - places[rows, last][:, None]).square().sum(-1)
            nearest = torch.minimum(nearest, step)
            last = nearest.argmax(dim=1)
            found[:, i] = last
    return found


def in_ball(places: Tensor, centres: Tensor, radius: float, most: int) -> tuple[Tensor, Tensor]:
    """The points within a radius of each centre, the nearest first.

    Args:
        places: (B, N, 3).
        centres: (B, M, 3), of points of the cloud, so that each ball holds at least one.
        radius: of the ball.
        most: at most so many points a ball.

    Returns:
        numbers (B, M, most) and a mask of the same shape, true where there is a point; elsewhere stands the nearest.

    """
    with torch.no_grad():
        distance, index = squared_distances(centres, places).topk(min(most, places.shape[1]), dim=-1, largest=False)
        mask = distance <= radius * radius
        mask[..., 0] = True
        return torch.where(mask, index, index[..., :1]), mask
