"""Detectors of mmdet with the calling convention of torchvision's."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import RecipeError, UsageError
from bnnapps.plugins.detection.mmdet_build import (
    build_network,
    check_plain,
    laid_over,
    load_backbone,
    require_mmdet,
    unfrozen,
    with_classes,
    without_downloads,
    without_random_sizes,
)
from bnnapps.plugins.detection.mmdet_config import find_config, read_config


class MMDetDetector(nn.Module):
    """A detector of mmdet, called as torchvision's are.

    `model(images, targets)` with images (3, H, W), RGB in [0, 1], and targets with `boxes` (x1 y1 x2 y2 in pixels) and
    `labels` (1 to C), gives in training the losses of the detector by name, each a number, and in evaluation for each
    image `boxes`, `scores` and `labels`. The detector's own data preprocessor normalises and pads the images; they are
    not resized: what a test pipeline of mmdet resizes to is set where the data are read.

    The detector is the child `detector`, so its parameters have mmdet's names behind that. Checkpoints of mmdet load
    into the wrapper with or without this prefix.

    Args:
        network: of mmdet.
        config: what it was built from, plain data.

    """

    def __init__(self, network: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.detector = network
        self.config = dict(config)

    @property
    def network(self) -> Any:
        """The detector, whose methods are mmdet's."""
        return self.detector

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in evaluation; see the class.

        Raises:
            UsageError: training without targets, or targets without the masks that the detector learns from.

        """
        samples = [_sample(image) for image in images]
        if self.training:
            if targets is None:
                raise UsageError("a detector in training mode needs targets: give them, or call eval() first")
            for sample, image, target in zip(samples, images, targets, strict=True):
                sample.gt_instances = self._objects(image, target)
        # mmdet reads images as OpenCV gives them: blue, green, red, 0 to 255.
        raw = [image.flip(0) * 255 for image in images]
        data = self.network.data_preprocessor({"inputs": raw, "data_samples": samples}, self.training)
        if self.training:
            return scalar_losses(self.network.loss(data["inputs"], data["data_samples"]))
        found = self.network.predict(data["inputs"], data["data_samples"], rescale=True)
        return [_detections(sample.pred_instances) for sample in found]

    def _objects(self, image: Tensor, target: Mapping[str, Tensor]) -> Any:
        structures = importlib.import_module("mmengine.structures")
        objects = structures.InstanceData(bboxes=target["boxes"], labels=target["labels"] - 1)
        if self.network.with_mask:
            if "masks" not in target:
                raise UsageError(
                    f"{type(self.detector).__name__} learns masks, and the targets have boxes alone: take a config "
                    "without a mask head, or set model.options.roi_head.mask_head to null"
                )
            masks = importlib.import_module("mmdet.structures.mask")
            height, width = image.shape[-2:]
            objects.masks = masks.BitmapMasks(target["masks"].cpu().numpy().astype("uint8"), height, width)
        return objects

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        own = f"{prefix}detector."
        if not any(key.startswith(own) for key in state_dict):  # a checkpoint of mmdet
            known = self.detector.state_dict().keys()
            for key in [k for k in state_dict if k.startswith(prefix) and k[len(prefix) :] in known]:
                state_dict[own + key[len(prefix) :]] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def graph_form(self) -> type:
        """What the exporter mixes into this class: mmdet decodes and suppresses boxes image by image, in Python.

        Raises:
            ExportError: a detector of a kind that has no such form.

        """
        form: type = importlib.import_module("bnnapps.plugins.detection.mmdet_graph").graph_form_of(self)
        return form

    def make_recorder(self, wanted: Iterable[str]) -> Any:
        """What losses read of this detector beyond its own losses."""
        return importlib.import_module("bnnapps.plugins.detection.mmdet_recorder").recorder_of_mmdet(self, wanted)


def _sample(image: Tensor) -> Any:
    """What mmdet knows of an image as it is."""
    structures = importlib.import_module("mmdet.structures")
    size = tuple(int(s) for s in image.shape[-2:])
    return structures.DetDataSample(
        metainfo={"img_shape": size, "ori_shape": size, "pad_shape": size, "scale_factor": (1.0, 1.0), "img_id": 0}
    )


def scalar_losses(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    """One number for each loss of mmdet: the mean of a tensor, the sum of the means of a list (as mmengine sums them).

    What has no `loss` in its name (accuracies) is left out.
    """
    found = {}
    for name, value in losses.items():
        if "loss" in name:
            parts = [value] if isinstance(value, Tensor) else list(value)
            found[name] = torch.stack([part.mean() for part in parts]).sum()
    return found


def _detections(instances: Any) -> dict[str, Tensor]:
    boxes: Any = instances.bboxes
    tensor = boxes if isinstance(boxes, Tensor) else boxes.tensor
    return {"boxes": tensor.float(), "scores": instances.scores.float(), "labels": instances.labels.long() + 1}


def mmdet_detector(
    source: str,
    classes: int,
    options: Mapping[str, Any] | None = None,
    pretrained_backbone: bool = False,
    frozen: bool = False,
) -> MMDetDetector:
    """A detector of mmdet from a config of its zoo or a config file.

    The config is read without running it (see `mmdet_config`). Weights that it names are not loaded.

    Args:
        source: a name of the zoo such as `ssd300_coco`, or the path of a config file (`.py`, `.yaml`, `.json`).
        classes: without the background; every head gets as many.
        options: laid over the config's `model`, such as `{"backbone": {"depth": 18}}`. With `run_code: true` beside
            them mmengine reads the config and runs its code.
        pretrained_backbone: start the backbone from torchvision's weights for ImageNet, where the config names them.
        frozen: keep the stages and norms frozen that the config freezes; without weights to start from they are not.

    Raises:
        RecipeError: no such config, or one that is not plain data, or that mmdet cannot build.
        MissingExtraError: mmdet is not installed.
        HubError: weights could not be fetched.

    """
    require_mmdet()
    changes = {} if options is None else dict(options)
    runs = changes.pop("run_code", False)
    path = find_config(source)
    config = _run_config(str(path)) if runs is True else read_config(path)
    model = config.get("model")
    if not isinstance(model, Mapping):
        raise RecipeError(f"model.mmdet: {path} describes no model: it is a part of other configs, or a data set")
    model, start = without_downloads(laid_over(model, changes))
    model = without_random_sizes(with_classes(model, classes))
    if not (frozen or pretrained_backbone):
        model = unfrozen(model)
    network = from_config(model)
    if pretrained_backbone:
        load_backbone(network.network, start)
    return network


def from_config(config: Mapping[str, Any]) -> MMDetDetector:
    """The detector of a config that `mmdet_detector` made (`MMDetDetector.config`); its weights are random.

    Raises:
        RecipeError: mmdet cannot build it.
        MissingExtraError: mmdet is not installed.

    """
    check_plain(config)
    return MMDetDetector(build_network(config), config)


def _run_config(path: str) -> dict[str, Any]:
    """What a config says, by mmengine, which runs its code."""
    config = importlib.import_module("mmengine.config")
    try:
        found: dict[str, Any] = config.Config.fromfile(path).to_dict()
    except Exception as problem:  # it may raise anything: it is code
        reason = " ".join(str(problem).split())[:300]
        raise RecipeError(f"model.mmdet: running {path} failed: {type(problem).__name__}: {reason}") from None
    return found
