"""What losses read of a detector beyond its own losses: high-level features, and scored boxes before suppression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD
from torchvision.ops import clip_boxes_to_image

from bnnapps.errors import UsageError
from bnnapps.plugins.detection.maps import Maps

FEATURES = "features"
"""High-level features: for each image a list of tensors (the sources of SSD, a pyramid's levels, region vectors)."""
CANDIDATES = "candidates"
"""For each image its `Candidates`: every box that the detector scores, before any suppression."""
RPN_FEATURES = "rpn_features"
"""For each image the maps behind the 3x3 convolution of the region proposals."""
PROPOSALS = "proposals"
"""For each image its `Candidates` of the region proposals, with one class: object."""
MAPS = "maps"
"""The `Maps` of the batch, for distillation."""
KNOWN = (FEATURES, CANDIDATES, RPN_FEATURES, PROPOSALS, MAPS)


@dataclass(frozen=True)
class Candidates:
    """The scored boxes of an image, and its objects, both in pixels of the image as the network saw it.

    Attributes:
        boxes: (n, 4) x1 y1 x2 y2, or (n, C, 4) where each class has its own; no gradient.
        scores: (n, C), probability of the classes 1 to C; with gradient.
        labels: (g,), 1 to C, of the objects.
        objects: (g, 4), their boxes.

    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    objects: Tensor

    def of_class(self, label: int) -> tuple[Tensor, Tensor]:
        """Boxes (n, 4) and scores (n,) of a class."""
        boxes = self.boxes if self.boxes.dim() == 2 else self.boxes[:, label - 1]
        return boxes, self.scores[:, label - 1]


class Recorder:
    """Watches a detector's forward pass and gives what was asked for.

    A subclass names the modules to watch and makes extras of what they put out.

    Args:
        detector: the network.
        wanted: names of extras; those that the detector does not have are left out.

    """

    has: tuple[str, ...] = ()

    def __init__(self, detector: nn.Module, wanted: Iterable[str]) -> None:
        self.detector: Any = detector
        self.wanted = tuple(name for name in wanted if name in self.has)
        self.seen: dict[str, list[Any]] = {}
        self._handles: list[RemovableHandle] = []

    def modules(self) -> dict[str, nn.Module]:
        """The modules whose outputs are kept, by the name under which `seen` has them; `:input` keeps arguments."""
        raise NotImplementedError

    def extra(self, name: str) -> Any:
        """One of the extras, from what was seen."""
        raise NotImplementedError

    def __enter__(self) -> Recorder:
        self.seen = {}
        if not self.wanted:
            return self
        for name, module in self.modules().items():
            if name.endswith(":input"):
                self._handles.append(module.register_forward_pre_hook(self._keep_input(name)))
            else:
                self._handles.append(module.register_forward_hook(self._keep_output(name)))
        return self

    def __exit__(self, *exception: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _keep_output(self, name: str) -> Any:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            self.seen.setdefault(name, []).append(output)

        return keep

    def _keep_input(self, name: str) -> Any:
        def keep(module: nn.Module, args: Any) -> None:
            self.seen.setdefault(name, []).append(args)

        return keep

    def extras(self) -> dict[str, Any]:
        """What was asked for, of the last forward pass."""
        found = {name: self.extra(name) for name in self.wanted}
        self.seen = {}
        return found

    def _images(self) -> tuple[list[tuple[int, int]], list[dict[str, Tensor]]]:
        """Size of each image as the network saw it, and its objects there."""
        images, targets = self.seen["transform"][0]
        sizes = list(images.image_sizes)
        if targets is None:
            nothing = torch.zeros(0, device=images.tensors.device)
            targets = [{"boxes": nothing.view(0, 4), "labels": nothing.long()} for _ in sizes]
        return sizes, targets

    def _level_maps(self, regions: list[Tensor] | None = None) -> Maps:
        images, _ = self.seen["transform"][0]
        sizes, targets = self._images()
        height, width = images.tensors.shape[-2:]
        levels = _maps(self.seen["backbone"][0])
        return Maps(levels, (height, width), sizes, [t["boxes"] for t in targets], regions)


class DenseRecorder(Recorder):
    """Of torchvision's SSD and RetinaNet."""

    has = (FEATURES, CANDIDATES, MAPS)

    def modules(self) -> dict[str, nn.Module]:
        """Transform, trunk, anchors and head."""
        d = self.detector
        return {"transform": d.transform, "backbone": d.backbone, "anchors": d.anchor_generator, "head": d.head}

    def extra(self, name: str) -> Any:
        """Features are the trunk's maps; candidates all anchors, moved by the predicted offsets."""
        if name == MAPS:
            return self._level_maps()
        if name == FEATURES:
            return _by_image(_maps(self.seen["backbone"][0]))
        head, anchors = self.seen["head"][0], self.seen["anchors"][0]
        sigmoid = isinstance(self.detector, RetinaNet)
        logits: Tensor = head["cls_logits"]
        scores = (logits.sigmoid() if sigmoid else logits.softmax(dim=-1))[..., 1:]
        offsets = head["bbox_regression"].detach()
        sizes, targets = self._images()
        found = []
        for i, (size, target) in enumerate(zip(sizes, targets, strict=True)):
            boxes = clip_boxes_to_image(self.detector.box_coder.decode_single(offsets[i], anchors[i]), size)
            found.append(Candidates(boxes, scores[i], target["labels"], target["boxes"]))
        return found


class TwoStageRecorder(Recorder):
    """Of torchvision's Faster R-CNN and its subclasses."""

    has = KNOWN

    def modules(self) -> dict[str, nn.Module]:
        """Transform, region proposals, and what follows from the regions."""
        d = self.detector
        return {
            "transform": d.transform,
            "backbone": d.backbone,
            "anchors": d.rpn.anchor_generator,
            "rpn": d.rpn.head,
            "rpn_conv": d.rpn.head.conv,
            "regions:input": d.roi_heads.box_roi_pool,
            "box_head": d.roi_heads.box_head,
            "predictor": d.roi_heads.box_predictor,
        }

    def extra(self, name: str) -> Any:
        """Features are the vectors of the regions that the heads saw."""
        if name == RPN_FEATURES:
            return _by_image([m for run in self.seen["rpn_conv"] for m in _maps(run)])
        if name == PROPOSALS:
            return self._proposals()
        regions: Sequence[Tensor] = self.seen["regions:input"][0][1]
        if name == MAPS:
            return self._level_maps(list(regions))
        counts = [len(r) for r in regions]
        if name == FEATURES:
            return [[rows] for rows in self.seen["box_head"][0].split(counts)]
        logits, offsets = self.seen["predictor"][0]
        scores = logits.softmax(dim=-1)[:, 1:].split(counts)
        decoded = self.detector.roi_heads.box_coder.decode(offsets.detach(), list(regions))[:, 1:].split(counts)
        return [
            Candidates(clip_boxes_to_image(boxes, size), own, target["labels"], target["boxes"])
            for boxes, own, size, target in zip(decoded, scores, *self._images(), strict=True)
        ]

    def _proposals(self) -> list[Candidates]:
        logits, offsets = self.seen["rpn"][0]
        anchors: list[Tensor] = self.seen["anchors"][0]
        count = len(anchors)
        scores = torch.cat([_rows(level, 1) for level in logits], dim=1).sigmoid()
        moves = torch.cat([_rows(level, 4) for level in offsets], dim=1).detach()
        decoded = self.detector.rpn.box_coder.decode(moves.reshape(-1, 4), anchors).view(count, -1, 4)
        return [
            Candidates(clip_boxes_to_image(boxes, size), own, torch.ones_like(target["labels"]), target["boxes"])
            for boxes, own, size, target in zip(decoded, scores, *self._images(), strict=True)
        ]


def _rows(level: Tensor, columns: int) -> Tensor:
    """(N, A * columns, H, W) to (N, H W A, columns), the order of the anchors."""
    n, _, height, width = level.shape
    return level.view(n, -1, columns, height, width).permute(0, 3, 4, 1, 2).reshape(n, -1, columns)


def _maps(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output.values())


def _by_image(maps: Sequence[Tensor]) -> list[list[Tensor]]:
    return [[m[i] for m in maps] for i in range(len(maps[0]))]


def recorder_of(detector: nn.Module, wanted: Iterable[str]) -> Recorder:
    """The recorder for a detector: its own (`make_recorder(wanted)`), or that of its class in torchvision.

    Raises:
        UsageError: extras are wanted of a detector that is none of the known ones.

    """
    own = getattr(detector, "make_recorder", None)
    if own is not None:
        made: Recorder = own(wanted)
        return made
    if isinstance(detector, FasterRCNN):
        return TwoStageRecorder(detector, wanted)
    if isinstance(detector, (SSD, RetinaNet)):
        return DenseRecorder(detector, wanted)
    names = tuple(wanted)
    if names:
        raise UsageError(
            f"losses: '{names[0]}' is not known of a {type(detector).__name__}: drop the losses that read it, or take "
            "SSD, RetinaNet or Faster R-CNN"
        )
    return Recorder(detector, ())
