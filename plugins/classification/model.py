"""Networks for images: of this package, of torchvision, or of timm."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bnnapps import models
from bnnapps.errors import CheckpointError, HubError, MissingExtraError, RecipeError, UsageError, nearest
from bnnapps.models.resnet import ResNet
from bnnapps.nn.blocks import BasicBlock
from bnnapps.plugins.classification.config import ImageModel
from bnnapps.plugins.classification.folder import torchvision
from bnnapps.training.checkpoint import load_file


class Shape(NamedTuple):
    """A network without its weights: where it comes from, its name, and what it is built with."""

    source: str
    name: str
    options: dict[str, Any]
    classes: int
    channels: int

    @classmethod
    def of(cls, settings: ImageModel, classes: int, channels: int) -> Shape:
        """The network that a recipe asks for."""
        for source in ("name", "torchvision", "timm"):
            name = getattr(settings, source)
            if name is not None:
                return cls("bnnapps" if source == "name" else source, name, dict(settings.options), classes, channels)
        raise AssertionError("the schema lets no such recipe pass")

    @property
    def where(self) -> str:
        """The key of the recipe that names it."""
        return "model.name" if self.source == "bnnapps" else f"model.{self.source}"


def digits_cnn(num_classes: int, in_channels: int = 3, width: int = 32) -> nn.Sequential:
    """A VGG-like network of five layers that trains in seconds on small images.

    A real 3x3 convolution of stride 2, then three 3x3 convolutions of `width`, `2 width` and `2 width` features, each
    with BatchNorm and Hardtanh (whose output has both signs), halving once on the way, mean over places, linear head.
    """

    def block(before: int, after: int, stride: int = 1) -> list[nn.Module]:
        conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        return [conv, nn.BatchNorm2d(after), nn.Hardtanh()]

    layers = [*block(in_channels, width, stride=2), *block(width, width), nn.MaxPool2d(2), *block(width, 2 * width)]
    layers += [*block(2 * width, 2 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, num_classes)]
    return nn.Sequential(*layers)


def digits_resnet(num_classes: int, in_channels: int = 3, width: int = 32, stem: str = "imagenet") -> nn.Module:
    """A ResNet of two basic blocks, of `width` and `2 width` features, for small images.

    Its blocks are those of the larger ResNets, so that rules on blocks find them; no non-linearity behind the stem,
    which makes the image four times smaller (`stem: cifar` keeps its size).
    """
    block = partial(BasicBlock, projection=False)
    return ResNet(block, (1, 1), (width, 2 * width), num_classes, in_channels, stem, "none")


SMALL: dict[str, Callable[..., nn.Module]] = {"digits_cnn": digits_cnn, "digits_resnet": digits_resnet}
"""Networks that train in seconds."""


def build_shape(shape: Shape, pretrained: bool = False, new_head: bool = True) -> nn.Module:
    """The float network, with random weights from torch's generator, or published ones.

    Published weights for another number of classes get a head with random weights, unless `new_head` is false (then
    the head stays as published).

    Raises:
        RecipeError: an unknown name or option, or channels that the network does not take.
        HubError: weights could not be fetched.
        MissingExtraError: timm or torchvision is not installed.
    """
    builders = {"bnnapps": _own, "torchvision": _torchvision, "timm": _timm}
    return builders[shape.source](shape, pretrained, new_head)


def _own(shape: Shape, pretrained: bool, new_head: bool) -> nn.Module:
    options = shape.options
    try:
        if shape.name in SMALL:
            return SMALL[shape.name](shape.classes, shape.channels, **options)
        network: nn.Module = models.build(shape.name, shape.classes, in_channels=shape.channels, **options)
    except UsageError as problem:
        raise RecipeError(f"{shape.where}: {problem}") from None
    except (TypeError, ValueError) as problem:
        raise _options_error(shape, problem) from None
    return network


def _torchvision(shape: Shape, pretrained: bool, new_head: bool) -> nn.Module:
    zoo = torchvision().models
    known = zoo.list_models(module=zoo)
    if shape.name not in known:
        raise RecipeError(
            f"{shape.where}: torchvision has no '{shape.name}'; the nearest are {nearest(shape.name, known)}"
        )
    if shape.channels != 3:
        raise RecipeError(
            f"{shape.where}: the images have {shape.channels} channel, and torchvision's models take 3: set "
            "data.channels to 3"
        )
    if not pretrained:
        return _called(zoo.get_model, shape, weights=None, num_classes=shape.classes)
    try:
        network = _called(zoo.get_model, shape, weights="DEFAULT")
    except OSError as problem:
        raise HubError(
            f"{shape.where}: the weights of '{shape.name}' could not be fetched: {problem}; {_OFFLINE}"
        ) from None
    if new_head:
        _new_head(network, shape.classes)
    return network


_OFFLINE = "check the connection, or give model.checkpoint, a file of weights"


def _new_head(network: nn.Module, classes: int) -> None:
    """A new last linear layer, unless the published one has as many outputs."""
    heads = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not heads:
        raise RecipeError(
            f"{type(network).__name__} has no linear head that could be replaced: set pretrained to false"
        )
    name, head = heads[-1]
    if head.out_features != classes:
        parent, _, last = name.rpartition(".")
        fresh = nn.Linear(head.in_features, classes, bias=head.bias is not None)
        setattr(network.get_submodule(parent), last, fresh)


def _timm(shape: Shape, pretrained: bool, new_head: bool) -> nn.Module:
    if importlib.util.find_spec("timm") is None:
        raise MissingExtraError("timm", "image", "model.timm")
    timm = importlib.import_module("timm")
    base = shape.name.partition(".")[0]
    known = timm.list_models()
    if base not in known:
        raise RecipeError(f"{shape.where}: timm has no '{shape.name}'; the nearest are {nearest(base, known)}")
    head = {"num_classes": shape.classes} if new_head else {}
    try:
        return _called(timm.create_model, shape, pretrained=pretrained, in_chans=shape.channels, **head)
    except (OSError, RuntimeError) as problem:
        if not pretrained:
            raise _options_error(shape, problem) from None
        reason = " ".join(str(problem).split())[:200]
        raise HubError(
            f"{shape.where}: the weights of '{shape.name}' could not be fetched: {reason}; {_OFFLINE}"
        ) from None


def _called(function: Any, shape: Shape, **more: Any) -> nn.Module:
    try:
        network: nn.Module = function(shape.name, **shape.options, **more)
    except (TypeError, ValueError) as problem:
        raise _options_error(shape, problem) from None
    return network


def _options_error(shape: Shape, problem: Exception) -> RecipeError:
    return RecipeError(f"{shape.where} '{shape.name}' with options {shape.options}: {' '.join(str(problem).split())}")


def check_size(network: nn.Module, shape: Shape, image: Tensor) -> None:
    """Raise `RecipeError` unless the network makes one row of logits of an image."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits = network(image)
    except (RuntimeError, AssertionError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise RecipeError(
            f"{shape.where} '{shape.name}' cannot take images of {_words(image)}: {reason}; set data.size or "
            "data.channels, or take another model"
        ) from None
    finally:
        network.train(training)
    if not isinstance(logits, Tensor) or logits.shape != (1, shape.classes):
        found = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise RecipeError(f"{shape.where} '{shape.name}' puts out {found}; expected logits (N, {shape.classes})")


def _words(image: Tensor) -> str:
    channels, height, width = image.shape[1:]
    return f"{height}x{width} with {channels} channel{'s' if channels > 1 else ''}"


def load_weights(network: nn.Module, path: str, where: str = "model.checkpoint") -> None:
    """Bring a float network to the weights in a file: a state_dict, or a mapping with one in `state_dict` or `model`.

    `where` is the key of the recipe that names the file. Names may begin with `module.`, as those of a network that
    was trained in several processes do.

    Raises:
        CheckpointError: the file cannot be read safely, or a tensor is missing, unknown or of another shape.
    """
    found = load_file(Path(path).expanduser())
    for key in ("state_dict", "model"):
        if isinstance(found.get(key), dict):
            found = found[key]
            break
    state = {str(name).removeprefix("module."): value for name, value in found.items()}
    here = network.state_dict()
    for name, tensor in here.items():
        if name not in state:
            raise CheckpointError(f"{where}: {path} has no tensor '{name}', which the model has")
        value = state[name]
        if not isinstance(value, Tensor) or value.shape != tensor.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(f"{where}: in {path} '{name}' is {shape}, in the model {tuple(tensor.shape)}")
    unknown = sorted(state.keys() - here.keys())
    if unknown:
        raise CheckpointError(f"{where}: {path} has the tensor '{unknown[0]}', which the model does not have")
    network.load_state_dict(state)
