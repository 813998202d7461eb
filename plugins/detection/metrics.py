"""Mean average precision as VOC and COCO define it, and false positives an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bnnapps.errors import MissingExtraError, TrainingError
from bnnapps.plugins.detection.average_precision import (
    FALSE,
    TRUE,
    Curve,
    Flags,
    Numbers,
    Outcomes,
    area_under,
    eleven_points,
    judged,
    precision_recall,
)

Boxes = Mapping[str, Tensor]
_BACKENDS = ("faster_coco_eval", "pycocotools")
__all__ = ["Boxes", "Curve", "DetectionMetrics"]


class _Image(NamedTuple):
    """What was found in an image, and what is there."""

    boxes: Numbers
    scores: Numbers
    labels: Outcomes
    objects: Numbers
    object_labels: Outcomes
    difficult: Flags
    crowd: Flags
    area: Numbers | None


class _Judged(NamedTuple):
    """All detections of a class, and the number of its objects."""

    outcomes: Outcomes
    scores: Numbers
    objects: int


class DetectionMetrics:
    """Metrics over a whole dev set.

    Args:
        classes: names of the labels 1 to C.
        score_threshold: detections from this score on count in `false_positives_per_image` and `recall`.

    """

    def __init__(self, classes: Sequence[str], score_threshold: float = 0.3) -> None:
        self.classes, self.score_threshold = tuple(classes), score_threshold
        self._images: list[_Image] = []

    def __len__(self) -> int:
        return len(self._images)

    def update(self, detections: Sequence[Boxes], targets: Sequence[Boxes]) -> None:
        """Take in some images.

        Args:
            detections: of each image `boxes` (n, 4), `scores` (n,), `labels` (n,).
            targets: of each image `boxes`, `labels` and, where there are any, `difficult`, `crowd` and `area`.

        Raises:
            TrainingError: boxes or scores that are not finite.
            ValueError: not as many detections as targets, or a label that is no class.
        """
        if len(detections) != len(targets):
            raise ValueError(f"there are detections of {len(detections)} images and targets of {len(targets)}")
        for found, truth in zip(detections, targets, strict=True):
            boxes, scores = (_numbers(found[key]) for key in ("boxes", "scores"))
            if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
                raise TrainingError(
                    "the model's boxes or scores are not finite, so training has diverged; lower the learning rate"
                )
            image = _Image(
                boxes.reshape(-1, 4),
                scores,
                self._labels(found["labels"], "a detection"),
                _numbers(truth["boxes"]).reshape(-1, 4),
                self._labels(truth["labels"], "a target"),
                _flags(truth, "difficult"),
                _flags(truth, "crowd"),
                _numbers(truth["area"]) if "area" in truth else None,
            )
            self._images.append(image)

    def _labels(self, labels: Tensor, what: str) -> Outcomes:
        found: Outcomes = labels.detach().cpu().numpy().astype(np.int64)
        if len(found) and not (found.min() >= 1 and found.max() <= len(self.classes)):
            raise ValueError(f"{what} has a label of {found.min()} to {found.max()}; expected 1 to {len(self.classes)}")
        return found

    def compute(self) -> dict[str, float]:
        """All metrics, in [0, 1] but for the false positives.

        `map50`: mean over the classes with objects of the area under the precision envelope at IoU 0.5 (VOC since
        2010); `map50_07`: of VOC2007's mean over 11 recalls; `map`: COCO's mean over IoU 0.5 to 0.95, `map50_coco` and
        `map75` COCO's at one IoU, by faster-coco-eval through torchmetrics (difficult objects are then taken for crowd
        regions, and at most 100 detections of an image count); `ap/CLASS`: the class's part of `map50` (no key for a
        class without objects); `false_positives_per_image`: detections from `score_threshold` on that VOC's rules call
        false at IoU 0.5; `recall`: share of the objects that detections from that score on find.

        Raises:
            ValueError: no image was given.
            MissingExtraError: neither faster-coco-eval nor pycocotools is installed.
        """
        if not self._images:
            raise ValueError("no image was given to the metrics")
        judgements = [self._judge(label) for label in range(1, len(self.classes) + 1)]
        curves = self._curves(judgements)
        areas = {name: area_under(curve) for name, curve in curves.items()}
        found = {
            "map50": _mean(list(areas.values())),
            "map50_07": _mean([eleven_points(curve) for curve in curves.values()]),
            **self._coco(),
        }
        found |= {f"ap/{name}": area for name, area in areas.items()}
        sure = [each.outcomes[each.scores >= self.score_threshold] for each in judgements]
        wrong, right = (sum(int((each == kind).sum()) for each in sure) for kind in (FALSE, TRUE))
        found["false_positives_per_image"] = wrong / len(self._images)
        found["recall"] = right / max(1, sum(each.objects for each in judgements))
        return found

    def curves(self) -> dict[str, Curve]:
        """The curve of every class that has objects, at IoU 0.5."""
        return self._curves([self._judge(label) for label in range(1, len(self.classes) + 1)])

    def _curves(self, judgements: Sequence[_Judged]) -> dict[str, Curve]:
        pairs = zip(self.classes, judgements, strict=True)
        return {name: precision_recall(*each) for name, each in pairs if each.objects}

    def _judge(self, label: int) -> _Judged:
        outcomes, scores, objects = [], [], 0
        for image in self._images:
            own, there = image.labels == label, image.object_labels == label
            flags = image.difficult[there], image.crowd[there]
            outcomes.append(judged(image.boxes[own], image.scores[own], image.objects[there], *flags))
            scores.append(image.scores[own])
            objects += int((~flags[0] & ~flags[1]).sum())
        return _Judged(np.concatenate(outcomes), np.concatenate(scores), objects)

    def _coco(self, backend: str | None = None) -> dict[str, float]:
        metric = _mean_average_precision(backend)
        for image in self._images:
            truth = {
                "boxes": torch.from_numpy(image.objects),
                "labels": torch.from_numpy(image.object_labels),
                "iscrowd": torch.from_numpy((image.difficult | image.crowd).astype(np.int64)),
            }
            if image.area is not None:
                truth["area"] = torch.from_numpy(image.area)
            found = {
                "boxes": torch.from_numpy(image.boxes),
                "scores": torch.from_numpy(image.scores),
                "labels": torch.from_numpy(image.labels),
            }
            metric.update([found], [truth])
        values = metric.compute()
        names = {"map": "map", "map50_coco": "map_50", "map75": "map_75"}
        # COCO says -1 where no class has objects.
        return {name: max(0.0, float(values[theirs])) for name, theirs in names.items()}


def _mean_average_precision(backend: str | None) -> Any:
    """The metric of torchmetrics; by default on the faster one of the two libraries that are there."""
    from torchmetrics.detection import MeanAveragePrecision

    if backend is None:
        backend = next((name for name in _BACKENDS if find_spec(name) is not None), None)
    if backend is None:
        raise MissingExtraError("faster-coco-eval", "detection", "COCO's mean average precision")
    metric = MeanAveragePrecision(backend=backend)  # type: ignore[arg-type]
    metric.warn_on_many_detections = False
    return metric


def _numbers(values: Tensor) -> Numbers:
    found: Numbers = values.detach().double().cpu().numpy()
    return found


def _flags(target: Boxes, key: str) -> Flags:
    if key in target:
        found: Flags = target[key].detach().bool().cpu().numpy()
        return found
    return np.zeros(len(target["labels"]), bool)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
