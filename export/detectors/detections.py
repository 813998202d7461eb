"""The last step of a detector: from scored boxes to a fixed number of detections."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnnapps.export.detectors.suppression import Suppression, best


class Detections(nn.Module):
    """Suppression within each class, then the `count` highest scores of the image, in falling order.

    Args:
        site: name of the choice.
        overlap: largest intersection over union of two boxes of a class.
        lowest: scores up to it are left out.
        count: detections of an image at most.
        first: the label of the first class.

    """

    def __init__(self, site: str, overlap: float, lowest: float, count: int, first: int = 1) -> None:
        super().__init__()
        self.count, self.first = count, first
        self.choice = Suppression(site, overlap, lowest, count)

    def forward(self, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """The detections of each image: the first `num_detections` of K places; zeros stand behind them.

        Args:
            boxes: (B, G, N, 4), with G = C for boxes of each class and 1 for shared ones.
            scores: (B, C, N).

        Returns:
            `num_detections` (B,), `labels` (B, K), `scores` (B, K) and `boxes` (B, K, 4).

        """
        groups, width = boxes.shape[1], scores.shape[2]
        if groups == 1:
            kept = self.choice(boxes[:, 0], scores)
        else:
            kept = self.choice(boxes.flatten(0, 1), scores.flatten(0, 1)[:, None]).view_as(scores)
        flat = kept.flatten(1)
        index = best(flat, self.count)
        found = torch.gather(flat, 1, index)
        real = found > 0
        place = index if groups > 1 else index % width
        chosen = torch.gather(boxes.flatten(1, 2), 1, place[..., None].expand(-1, -1, 4))
        return {
            "num_detections": real.sum(1),
            "labels": torch.where(real, index // width + self.first, 0),
            "scores": found,
            "boxes": torch.where(real[..., None], chosen, 0.0),
        }
