"""The network that a recipe asks for."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bnnapps.errors import CheckpointError, HubError, RecipeError, UsageError, nearest
from bnnapps.models.dadnet import DADNet
from bnnapps.plugins.classification.folder import torchvision
from bnnapps.plugins.classification.model import load_weights
from bnnapps.plugins.segmentation.config import SegmentationModel
from bnnapps.plugins.segmentation.networks import STAGES, DeepLabHead, FCNHead, Segmenter, TorchvisionSegmenter
from bnnapps.plugins.segmentation.trunks import ResNetTrunk, VGGTrunk, small_resnet
from bnnapps.training.checkpoint import load_file

NAMES = ("dadnet",)
SMALL = "small_resnet"
_OFFLINE = "check the connection, or give a file of weights"


class Shape(NamedTuple):
    """A network without its weights: where it comes from, its name, and what it is built with."""

    source: str
    name: str
    head: str
    output_stride: int
    options: dict[str, Any]
    classes: int

    @classmethod
    def of(cls, settings: SegmentationModel, classes: int) -> Shape:
        """The network that a recipe asks for."""
        for source in ("backbone", "name", "torchvision"):
            name = getattr(settings, source)
            if name is not None:
                return cls(source, name, settings.head, settings.output_stride, dict(settings.options), classes)
        raise AssertionError("the schema lets no such recipe pass")

    @property
    def where(self) -> str:
        """The key of the recipe that names it."""
        return f"model.{self.source}"


def build_shape(shape: Shape, pretrained: bool = False) -> nn.Module:
    """The float network, with random weights from torch's generator, or the published ones of its backbone.

    Raises:
        RecipeError: an unknown name or option.
        HubError: weights could not be fetched.
        MissingExtraError: torchvision is not installed.
    """
    builders = {"backbone": _on_backbone, "name": _own, "torchvision": _torchvision}
    try:
        return builders[shape.source](shape, pretrained)
    except UsageError as problem:
        raise RecipeError(str(problem)) from None
    except OSError as problem:
        raise HubError(
            f"{shape.where}: the weights of '{shape.name}' could not be fetched: {problem}; {_OFFLINE}"
        ) from None
    except (TypeError, ValueError, NotImplementedError) as problem:
        raise RecipeError(
            f"{shape.where} '{shape.name}' with options {shape.options}: {' '.join(str(problem).split())}"
        ) from None


def _on_backbone(shape: Shape, pretrained: bool) -> nn.Module:
    trunk: ResNetTrunk | VGGTrunk
    if shape.name == SMALL:
        if pretrained:
            raise RecipeError(f"model.pretrained: there are no published weights of '{SMALL}': set it to false")
        trunk = ResNetTrunk(small_resnet(**shape.options), shape.output_stride)
    else:
        zoo = torchvision().models
        known = [n for n in zoo.list_models(module=zoo) if n.startswith(("resnet", "resnext", "wide_resnet", "vgg"))]
        if shape.name not in known:
            close = nearest(shape.name, [*known, SMALL])
            raise RecipeError(f"{shape.where}: no backbone '{shape.name}'; the nearest are {close}")
        weights = "DEFAULT" if pretrained else None
        network = zoo.get_model(shape.name, weights=weights, **shape.options)
        trunk = (VGGTrunk if shape.name.startswith("vgg") else ResNetTrunk)(network, shape.output_stride)
    if shape.head == "deeplab":
        head = DeepLabHead(trunk.channels[-1], shape.classes, shape.output_stride)
        return Segmenter(trunk, head, ["classifier.4"])
    stages = STAGES[shape.head]
    scores = FCNHead(trunk.channels[::-1][:stages], shape.classes)
    return Segmenter(trunk, scores, ["scores"])


def _own(shape: Shape, pretrained: bool) -> nn.Module:
    if shape.name not in NAMES:
        raise RecipeError(f"{shape.where}: no network '{shape.name}'; the nearest are {nearest(shape.name, NAMES)}")
    options = dict(shape.options)
    if "dilations" in options:
        options["dilations"] = tuple(options["dilations"])
    return DADNet(shape.classes, **options)


def _torchvision(shape: Shape, pretrained: bool) -> nn.Module:
    zoo = torchvision().models
    known = zoo.list_models(module=zoo.segmentation)
    if shape.name not in known:
        raise RecipeError(
            f"{shape.where}: torchvision has no segmentation model '{shape.name}'; the nearest are "
            f"{nearest(shape.name, known)}"
        )
    options = {"weights": None, "weights_backbone": None, **shape.options}
    if not pretrained:
        return TorchvisionSegmenter(zoo.get_model(shape.name, num_classes=shape.classes, **options))
    # Published for 21 classes and with an auxiliary head, which is not trained here.
    network: Any = zoo.get_model(shape.name, **shape.options, weights="DEFAULT")
    if hasattr(network, "aux_classifier"):
        network.aux_classifier = None
    found = TorchvisionSegmenter(network)
    for path in found.layer_roles["heads"]:
        _renew(found, path, shape.classes)
    return found


def _renew(model: nn.Module, path: str, classes: int) -> None:
    """A new head, unless the published one has as many outputs."""
    parent, _, last = path.rpartition(".")
    old: Any = model.get_submodule(path)
    if old.out_channels != classes:
        setattr(model.get_submodule(parent), last, nn.Conv2d(old.in_channels, classes, 1, bias=old.bias is not None))


def load_start(model: nn.Module, settings: SegmentationModel) -> None:
    """Bring a network to the weights that the recipe names, if it names any.

    Raises:
        CheckpointError: the file cannot be read safely, or does not fit.
    """
    if settings.checkpoint is not None:
        load_weights(model, settings.checkpoint)
    if settings.backbone_checkpoint is not None:
        _load_backbone(model.get_submodule("backbone"), settings.backbone_checkpoint)


def _load_backbone(backbone: nn.Module, file: str) -> None:
    from pathlib import Path

    found = load_file(Path(file).expanduser())
    for key in ("state_dict", "model"):
        if isinstance(found.get(key), dict):
            found = found[key]
            break
    state = {str(name).removeprefix("module."): value for name, value in found.items()}
    here = backbone.state_dict()
    for name, tensor in here.items():
        value = state.get(name)
        if not isinstance(value, Tensor) or value.shape != tensor.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else "missing"
            raise CheckpointError(
                f"model.backbone_checkpoint: in {file} '{name}' is {shape}, in the backbone {tuple(tensor.shape)}"
            )
    backbone.load_state_dict({name: state[name] for name in here})


def check_size(network: nn.Module, shape: Shape, image: Tensor) -> None:
    """Raise `RecipeError` unless the network scores each pixel of an image."""
    training = network.training
    network.eval()
    height, width = image.shape[2:]
    try:
        with torch.no_grad():
            logits = network(image)
    except (RuntimeError, AssertionError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise RecipeError(
            f"{shape.where} '{shape.name}' cannot take images of {height}x{width}: {reason}; set data.size larger, or "
            "take another model"
        ) from None
    finally:
        network.train(training)
    if not isinstance(logits, Tensor) or logits.shape != (1, shape.classes, height, width):
        found = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        expected = (1, shape.classes, height, width)
        raise RecipeError(f"{shape.where} '{shape.name}' puts out {found}; expected logits {expected}")
