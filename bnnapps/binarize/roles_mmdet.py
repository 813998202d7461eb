"""First layers and heads of mmdet's detectors."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

HEADS = (
    "bbox_head",
    "rpn_head",
    "mask_head",
    "mask_iou_head",
    "semantic_head",
    "segm_head",
    "keypoint_head",
    "grid_head",
    "mask_branch",
    "panoptic_head",
)
"""Members of a detector, or of its `roi_head`, that put out scores, boxes and masks."""

_INNER = ("convs", "shared_convs", "shared_fcs", "cls_fcs", "reg_fcs", "fcs", "rpn_conv", "conv_fcs", "transformer")
"""Members of a head that only make features for its last layers."""


def detector_of(model: nn.Module) -> tuple[str, nn.Module] | None:
    """mmdet's detector, if the model is one or holds one, with its name in the model."""
    for name, module in model.named_modules():
        if any(k.__name__ == "BaseDetector" and k.__module__.startswith("mmdet.") for k in type(module).__mro__):
            return name, module
    return None


def mmdet_roles(model: nn.Module) -> tuple[str, list[str], list[str]] | None:
    """Where the roles are known from, the backbone, and the last layers of every head; `None` without mmdet.

    The last layers of a head are those that put out its results: its layers without the towers in front, which are
    `ConvModule`s, or stand under names such as `shared_fcs` and `rpn_conv`. So of Faster R-CNN they are `rpn_cls`,
    `rpn_reg`, `fc_cls` and `fc_reg`, and of SSD, whose heads have no towers, the whole head.
    """
    found = detector_of(model)
    if found is None:
        return None
    prefix, detector = found
    dot = f"{prefix}." if prefix else ""
    heads = [dot + name for name in _last_layers(detector)]
    return f"mmdet's {type(detector).__name__}", [f"{dot}backbone"], heads


def _last_layers(detector: nn.Module) -> Iterator[str]:
    for name, module in detector.named_modules():
        parts = name.split(".")
        where = next((i for i, part in enumerate(parts) if part in HEADS), None)
        if where is None or any(module.children()) or not any(True for _ in module.parameters(recurse=False)):
            continue
        inside = [detector.get_submodule(".".join(parts[: i + 1])) for i in range(where, len(parts) - 1)]
        towers = any(type(m).__name__ == "ConvModule" for m in inside)
        if not towers and not set(parts[where + 1 :]) & set(_INNER):
            yield name
