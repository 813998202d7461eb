"""Detections and truths of single images, written short."""

from __future__ import annotations

import torch

from bnnapps.plugins.detection.metrics import DetectionMetrics

Found = dict[str, torch.Tensor]


def boxes(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def found(rows: list[tuple[float, ...]], scores: list[float], labels: list[int]) -> Found:
    return {"boxes": boxes(*rows), "scores": torch.tensor(scores), "labels": torch.tensor(labels, dtype=torch.int64)}


def truth(rows: list[tuple[float, ...]], labels: list[int], **flags: list[bool]) -> Found:
    more = {key: torch.tensor(value, dtype=torch.bool) for key, value in flags.items()}
    return {"boxes": boxes(*rows), "labels": torch.tensor(labels, dtype=torch.int64)} | more


def metrics_of(detections: list[Found], targets: list[Found], classes: str = "ab", **more) -> DetectionMetrics:
    metrics = DetectionMetrics(tuple(classes), **more)
    metrics.update(detections, targets)
    return metrics


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
