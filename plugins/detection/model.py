"""Detectors of this package, of torchvision and of mmdet, with their weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models import detection, get_model, get_model_builder, get_model_weights

from bnnapps.errors import BnnappsError, CheckpointError, HubError, RecipeError, nearest
from bnnapps.plugins.detection.config import DetectorModel
from bnnapps.plugins.detection.gaussian import with_gaussian_boxes
from bnnapps.plugins.detection.mmdet import from_config, mmdet_detector
from bnnapps.plugins.detection.networks import NETWORKS
from bnnapps.training.checkpoint import load_file

_OFFLINE = "check the connection, or give model.checkpoint, a file of weights"
_OTHER_TASKS = ("maskrcnn", "keypointrcnn")
"""Detectors of torchvision that learn more than boxes."""


class Shape(NamedTuple):
    """A detector without its weights: where it comes from, its name, and what it is built with.

    For mmdet `options` is the whole config of the model, as plain data.
    """

    source: str
    name: str
    options: dict[str, Any]
    classes: int
    gaussian: bool
    noise: float

    @classmethod
    def of(cls, settings: DetectorModel, classes: int) -> Shape:
        """The detector that a recipe asks for; `classes` without the background."""
        for source in ("name", "torchvision", "mmdet"):
            name = getattr(settings, source)
            if name is not None:
                gaussian = (settings.gaussian, settings.gaussian_noise)
                return cls(source, name, dict(settings.options), classes, *gaussian)
        raise AssertionError("the schema lets no such recipe pass")

    @property
    def where(self) -> str:
        """The key of the recipe that names it."""
        return f"model.{self.source}"


def build_detector(settings: DetectorModel, classes: int) -> tuple[nn.Module, Shape]:
    """The float detector of a recipe, with the weights that it asks for (random ones from torch's generator).

    BatchNorms are trained, and no layer is frozen, wherever weights come from: a binary trunk needs both.

    Raises:
        RecipeError: an unknown name or option, or weights that are not published for this detector.
        HubError: weights could not be fetched.
        CheckpointError: a file that does not fit.
        MissingExtraError: mmdet is not installed.
    """
    shape = Shape.of(settings, classes)
    if shape.source == "mmdet":
        found = mmdet_detector(shape.name, classes, shape.options, settings.pretrained_backbone)
        shape = shape._replace(options=found.config)
        if settings.pretrained:
            raise RecipeError(
                "model.pretrained: mmdet's checkpoints are not fetched by name: give model.checkpoint, the file"
            )
        network = _with_gaussian(found, shape)
    else:
        network = build_shape(shape)
        if settings.pretrained:
            fill(network, _published(shape), f"the weights of '{shape.name}'")
        if settings.pretrained_backbone:
            _fill_backbone(network, shape)
    if settings.checkpoint is not None:
        load_weights(network, settings.checkpoint)
    return network, shape


def build_shape(shape: Shape) -> nn.Module:
    """The detector with random weights.

    Raises:
        RecipeError: an unknown name or option.
    """
    if shape.source == "mmdet":
        return _with_gaussian(from_config(shape.options), shape)
    known = list(NETWORKS) if shape.source == "name" else torchvision_detectors()
    if shape.name not in known:
        who = "there is no detector" if shape.source == "name" else "torchvision has no detector"
        raise RecipeError(f"{shape.where}: {who} '{shape.name}'; the nearest are {nearest(shape.name, known)}")
    _check_options(shape)
    try:
        if shape.source == "name":
            network: nn.Module = NETWORKS[shape.name](shape.classes + 1, **shape.options)
        else:
            plain = {"weights": None, "weights_backbone": None, "num_classes": shape.classes + 1}
            network = get_model(shape.name, **plain, **shape.options)
    except (TypeError, ValueError, KeyError) as problem:
        reason = " ".join(str(problem).split())
        raise RecipeError(f"{shape.where} '{shape.name}' with options {shape.options}: {reason}") from None
    return _with_gaussian(network, shape)


_CLASSES: dict[str, type[nn.Module]] = {
    "ssd": detection.ssd.SSD,
    "fasterrcnn": detection.FasterRCNN,
    "retinanet": detection.RetinaNet,
    "fcos": detection.FCOS,
}
"""What takes the options that a detector's function hands on, by how names begin."""


def _check_options(shape: Shape) -> None:
    """Raise `RecipeError` for an option that nobody would read: torchvision's classes pass unknown ones over."""
    function = NETWORKS[shape.name] if shape.source == "name" else get_model_builder(shape.name)
    kind = next(made for start, made in _CLASSES.items() if shape.name.startswith(start))
    takers: list[Any] = [function, kind.__init__]
    known = {n for f in takers for n, p in inspect.signature(f).parameters.items() if p.kind is not p.VAR_KEYWORD}
    known -= {"self", "num_classes", "weights", "weights_backbone", "backbone"}
    for key in shape.options:
        if key not in known:
            raise RecipeError(
                f"model.options: '{shape.name}' has no option '{key}'; the nearest are {nearest(key, known)}"
            )


def _with_gaussian(network: nn.Module, shape: Shape) -> nn.Module:
    return with_gaussian_boxes(network, shape.noise) if shape.gaussian else network


def torchvision_detectors() -> list[str]:
    """The names of torchvision's detectors of boxes."""
    return [name for name in zoo.list_models(module=detection) if not name.startswith(_OTHER_TASKS)]


# Weights


def fill(network: nn.Module, state: Mapping[str, Tensor], whose: str, prefix: str = "") -> None:
    """Copy the tensors that fit by name and shape; those that depend on the number of classes stay as they are.

    Raises:
        CheckpointError: hardly anything fits, so these weights belong to another network.
    """
    own = network.state_dict()
    weights = {name for name, value in own.items() if name.startswith(prefix) and value.is_floating_point()}
    fitting = {
        prefix + name: value
        for name, value in state.items()
        if prefix + name in weights and own[prefix + name].shape == value.shape
    }
    missing = sorted(weights - fitting.keys())
    heads = ("head.", "rpn.head.", "roi_heads.box_predictor.")
    strange = [name for name in missing if not name.startswith(heads) and not name.endswith("num_batches_tracked")]
    if prefix == "" and strange:
        raise CheckpointError(f"{whose} do not fit: '{strange[0]}' is missing there, or has another shape")
    if len(fitting) < len(weights) // 2:
        raise CheckpointError(f"{whose} do not fit: they have {len(fitting)} of {len(weights)} tensors")
    network.load_state_dict(own | fitting)


def _published(shape: Shape) -> Mapping[str, Tensor]:
    """The state of torchvision's detector for COCO."""
    try:
        weights: Any = get_model_weights(shape.name).DEFAULT
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as problem:
        raise HubError(
            f"{shape.where}: the weights of '{shape.name}' could not be fetched: {problem}; {_OFFLINE}"
        ) from None
    return state


def _fill_backbone(network: nn.Module, shape: Shape) -> None:
    """Bring the trunk to torchvision's weights for ImageNet."""
    try:
        if shape.source == "torchvision":
            made = get_model(shape.name, weights=None, weights_backbone="DEFAULT", num_classes=shape.classes + 1)
            state = {n.removeprefix("backbone."): t for n, t in made.state_dict().items() if n.startswith("backbone.")}
            fill(network, state, "the weights for ImageNet", "backbone.")
            return
        depth = shape.options.get("depth", 18)
        if not shape.name.endswith(("_c4", "_fpn")):
            raise RecipeError(
                f"model.pretrained_backbone: there are no published weights for the trunk of '{shape.name}': give "
                "model.checkpoint, a file, or set it to false"
            )
        classifier = get_model_weights(f"resnet{depth}").DEFAULT.get_state_dict(progress=False, check_hash=True)
    except OSError as problem:
        raise HubError(f"model.pretrained_backbone: the weights could not be fetched: {problem}; {_OFFLINE}") from None
    fill_resnet(network, classifier)


def fill_resnet(network: nn.Module, classifier: Mapping[str, Tensor]) -> None:
    """Bring the trunk of `fasterrcnn_c4` or a pyramid to the weights of a ResNet of torchvision's names."""
    if any(name.startswith("roi_heads.box_head.layer4.") for name in network.state_dict()):
        tail = {name: value for name, value in classifier.items() if name.startswith("layer4.")}
        fill(network, tail, "the weights of the ResNet", "roi_heads.box_head.")
        fill(network, classifier, "the weights of the ResNet", "backbone.")
    else:
        fill(network, classifier, "the weights of the ResNet", "backbone.body.")


def load_weights(network: nn.Module, path: str, where: str = "model.checkpoint") -> None:
    """Bring a float detector to the weights in a file: a state_dict, or a mapping with one in `state_dict` or `model`.

    A file of a whole detector must have every tensor, but for those that depend on the number of classes; a file whose
    names all lie in the trunk (`conv1.weight`, `layer1...`, `stages...`) goes to the trunk.

    Raises:
        CheckpointError: the file cannot be read safely, or does not fit.
    """
    found: Any = load_file(Path(path).expanduser())
    for key in ("state_dict", "model"):
        if isinstance(found.get(key), dict):
            found = found[key]
            break
    state = {str(n).removeprefix("module."): v for n, v in found.items() if isinstance(v, Tensor)}
    if not state:
        raise CheckpointError(f"{where}: {path} holds no tensors by name")
    if hasattr(network, "make_recorder"):  # a wrapper that knows the names of its own checkpoints
        try:
            network.load_state_dict(state)
        except RuntimeError as problem:
            raise CheckpointError(f"{where}: {path} does not fit: {' '.join(str(problem).split())[:300]}") from None
        return
    own = network.state_dict()
    try:
        if any(name in own for name in state):
            fill(network, state, f"{path}")
        elif any(f"backbone.{name}" in own for name in state) and not any(n.startswith("layer") for n in state):
            fill(network, state, f"{path}", "backbone.")
        else:
            fill_resnet(network, state)
    except CheckpointError as problem:
        raise CheckpointError(f"{where}: {problem}") from None


def check_runs(network: nn.Module, shape: Shape, image: Tensor) -> None:
    """Raise `RecipeError` unless the detector takes an image and puts out detections."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            found = network([image])
    except BnnappsError:
        raise
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as problem:
        reason = " ".join(str(problem).split())[:200]
        size = "x".join(str(s) for s in image.shape[-2:])
        raise RecipeError(
            f"{shape.where} '{shape.name}' cannot take images of {size}: {reason}; set data.size or model.options, or "
            "take another detector"
        ) from None
    finally:
        network.train(training)
    if not isinstance(found, list) or not found or not {"boxes", "scores", "labels"} <= set(found[0]):
        raise RecipeError(f"{shape.where} '{shape.name}' puts out no boxes, scores and labels: take another detector")
