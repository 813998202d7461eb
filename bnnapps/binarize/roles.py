"""Which layers come first, and which are heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bnnapps.binarize.roles_mmdet import mmdet_roles
from bnnapps.forward import run_model

_TORCHVISION: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "AlexNet": (("features.0",), ("classifier.6",)),
    "ConvNeXt": (("features.0.0",), ("classifier.2",)),
    "DenseNet": (("features.conv0",), ("classifier",)),
    "EfficientNet": (("features.0.0",), ("classifier.1",)),
    "GoogLeNet": (("conv1.conv",), ("fc", "aux1.fc2", "aux2.fc2")),
    "Inception3": (("Conv2d_1a_3x3.conv",), ("fc", "AuxLogits.fc")),
    "MNASNet": (("layers.0",), ("classifier.1",)),
    "MobileNetV2": (("features.0.0",), ("classifier.1",)),
    "MobileNetV3": (("features.0.0",), ("classifier.3",)),
    "RegNet": (("stem.0",), ("fc",)),
    "ResNet": (("conv1",), ("fc",)),
    "ShuffleNetV2": (("conv1.0",), ("fc",)),
    "SqueezeNet": (("features.0",), ("classifier.1",)),
    "SwinTransformer": (("features.0.0",), ("head",)),
    "VGG": (("features.0",), ("classifier.6",)),
    "VisionTransformer": (("conv_proj",), ("heads",)),
}
"""First layers and heads of torchvision's classifiers, by class."""

_RPN = ("rpn.head.cls_logits", "rpn.head.bbox_pred")
_ROI = ("roi_heads.box_predictor", "roi_heads.mask_predictor", "roi_heads.keypoint_predictor")
_DENSE = ("head.classification_head.cls_logits", "head.regression_head.bbox_reg")
_TORCHVISION_DETECTORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "SSD": (("backbone",), ("head",)),
    "RetinaNet": (("backbone",), _DENSE),
    "FCOS": (("backbone",), (*_DENSE, "head.regression_head.bbox_ctrness")),
    # MaskRCNN and KeypointRCNN are subclasses.
    "FasterRCNN": (("backbone",), (*_RPN, *_ROI)),
}
"""First layers (the first one of their backbone) and heads of torchvision's detectors, by class: the layers that put
out scores and boxes."""

_TORCHVISION_SEGMENTATION: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "FCN": (("backbone",), ("classifier.4", "aux_classifier.4")),
    "DeepLabV3": (("backbone",), ("classifier.4", "aux_classifier.4")),
    "LRASPP": (("backbone",), ("classifier.low_classifier", "classifier.high_classifier")),
}
"""Likewise of torchvision's segmentation networks: the layers that put out a score for each class."""
_KNOWN = _TORCHVISION | _TORCHVISION_DETECTORS | _TORCHVISION_SEGMENTATION

LAYER_ROLES = "layer_roles"
"""An attribute in which a network names its first layers and its heads itself: `{"first": [...], "heads": [...]}`,
dotted names of layers or of modules that hold them."""


@dataclass(frozen=True)
class Roles:
    """The candidate layers in order, the first ones and the heads, and where that is known from."""

    order: tuple[str, ...]
    first: tuple[str, ...]
    heads: tuple[str, ...]
    source: str

    def first_layers(self, count: int) -> set[str]:
        """The `count` first layers: those of the role, then the next in order."""
        rest = [n for n in self.order if n not in self.first and n not in self.heads]
        return set(([*self.first, *rest])[:count]) if count else set()

    def last_layers(self, count: int) -> set[str]:
        """All heads for a count of 1; each further count adds the layer before them in order."""
        if not count:
            return set()
        rest = [n for n in self.order if n not in self.heads]
        return set(self.heads) | set(rest[max(0, len(rest) - (count - 1)) :])


def find_roles(
    model: nn.Module, candidates: Sequence[str], example_inputs: Any = None, uncounted: Sequence[str] = ()
) -> Roles:
    """Roles from the model's own metadata, else from execution order, else from definition order.

    `uncounted` candidates (without weights) belong to a head where the metadata says so, but are no first or last
    layer themselves.
    """
    order = tuple(n for n in candidates if n not in uncounted)
    found = _from_metadata(model)
    if found is not None:
        source, first_paths, head_paths = found
        first = _under(first_paths, order)
        heads = _under(head_paths, candidates)
        if first or heads:
            return Roles(order, first[:1], heads, source)
    if example_inputs is not None:
        executed = _execution_order(model, order, example_inputs)
        order = executed + tuple(n for n in order if n not in executed)
        return Roles(order, executed[:1], executed[-1:], "execution order on the example inputs")
    return Roles(order, order[:1], order[-1:], "definition order (give example inputs for the order of execution)")


def _from_metadata(model: nn.Module) -> tuple[str, list[str], list[str]] | None:
    own: Any = getattr(model, LAYER_ROLES, None)
    if isinstance(own, Mapping):
        return f"{type(model).__name__}.{LAYER_ROLES}", _listed(own.get("first")), _listed(own.get("heads"))
    of_mmdet = mmdet_roles(model)
    if of_mmdet is not None:
        return of_mmdet
    module = type(model).__module__.split(".")[0]
    names = {id(m): n for n, m in model.named_modules()}
    if any(k.__module__.startswith("transformers.") for k in type(model).__mro__):
        return "Hugging Face input embeddings and heads", *_hugging_face(model, names)
    cfg: Any = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if cfg is not None and module == "timm":
        entries = cfg if isinstance(cfg, dict) else cfg.__dict__
        return "timm pretrained_cfg", _listed(entries.get("first_conv")), _listed(entries.get("classifier"))
    if module == "torchvision":
        for kind in type(model).__mro__:
            if kind.__name__ in _KNOWN:
                first, heads = _KNOWN[kind.__name__]
                return f"torchvision's {kind.__name__}", list(first), list(heads)
    return None


def _hugging_face(model: nn.Module, names: dict[int, str]) -> tuple[list[str], list[str]]:
    embeddings = _called(model, "get_input_embeddings")
    first = [names[id(embeddings)]] if id(embeddings) in names else []
    heads: list[str] = []
    base: Any = getattr(model, "base_model", model)
    if base is not model and id(base) in names:
        inside = names[id(base)] + "."
        heads = [n for n in names.values() if n and not (n + ".").startswith(inside)]
    output = _called(model, "get_output_embeddings")
    if id(output) in names:
        heads.append(names[id(output)])
    return first, heads


def _called(model: nn.Module, getter: str) -> Any:
    try:
        return getattr(model, getter)()
    except (AttributeError, NotImplementedError):  # a model without embeddings says so in either way
        return None


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _under(paths: Iterable[str], order: Sequence[str]) -> tuple[str, ...]:
    chosen = set()
    for path in paths:
        chosen |= {n for n in order if n == path or n.startswith(path + ".")}
    return tuple(n for n in order if n in chosen)


def _execution_order(model: nn.Module, candidates: Sequence[str], example_inputs: Any) -> tuple[str, ...]:
    seen: list[str] = []
    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_pre_hook(lambda m, a, name=name: seen.append(name)) for name in candidates
    ]
    try:
        with torch.no_grad():
            run_model(model, example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(dict.fromkeys(seen))
