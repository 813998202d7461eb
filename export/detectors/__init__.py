"""Detectors as graphs: backbone, heads, decoding of boxes, and suppression, for images of one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import ExportError, UsageError

__all__ = ["as_graph", "images_of", "is_detector"]

_PACKAGE = "torchvision.models.detection"


def is_detector(model: nn.Module) -> bool:
    """Whether the model is called as torchvision's detectors are: with a list of images."""
    return hasattr(model, "graph_form") or any(kind.__module__.startswith(_PACKAGE) for kind in type(model).__mro__)


def as_graph(model: nn.Module, example_inputs: Any) -> Tensor:
    """Give a detector a `forward` that takes a batch of images (B, 3, H, W) and returns named tensors, in place.

    `num_detections` (B,), and, for the K best of each image in falling order, `labels` (B, K), `scores` (B, K) and
    `boxes` (B, K, 4) in pixels of the image; behind `num_detections` follow zeros. Labels are those of the detector.

    Args:
        model: an SSD, RetinaNet or Faster R-CNN of torchvision, or a subclass, in eval mode; or a detector whose method
            `graph_form()` gives a class to mix in, with `prepare(height, width)` and `forward`.
        example_inputs: images of one size, as the detector takes them, or as one tensor.

    Returns:
        The images as one tensor.

    Raises:
        ExportError: a detector of another kind, or one with masks or key points.
        UsageError: the images differ in size, or are none.

    """
    images = images_of(example_inputs)
    form = _form_of(model)
    kind = type(model)
    model.__class__ = type(kind.__name__, (form, kind), {"__module__": kind.__module__})
    with torch.no_grad():
        model.prepare(images.shape[-2], images.shape[-1])  # type: ignore[operator]
    return images


def _form_of(model: nn.Module) -> type:
    own: Any = getattr(model, "graph_form", None)
    if own is not None:
        form: type = own()
        return form
    from torchvision.models.detection import FasterRCNN, RetinaNet
    from torchvision.models.detection.ssd import SSD

    from bnnapps.export.detectors.single_stage import RetinaNetForm, SSDForm
    from bnnapps.export.detectors.two_stage import FasterRCNNForm

    forms = ((FasterRCNN, FasterRCNNForm), (SSD, SSDForm), (RetinaNet, RetinaNetForm))
    found = next((form for kind, form in forms if isinstance(model, kind)), None)
    if found is None:
        raise ExportError(
            f"a detector of the kind {type(model).__name__} has no ONNX form: take an SSD, RetinaNet or Faster R-CNN"
        )
    heads: Any = getattr(model, "roi_heads", None)
    if heads is not None and (heads.has_mask() or heads.has_keypoint()):
        raise ExportError(f"{type(model).__name__} predicts masks or key points, which have no ONNX form here")
    return found


def images_of(given: Any) -> Tensor:
    """One tensor (B, 3, H, W) from images in any of the forms that a detector is called with."""
    if isinstance(given, dict):
        given = given.get("images")
    if isinstance(given, Sequence) and len(given) == 1 and not isinstance(given[0], Tensor):
        given = given[0]
    if isinstance(given, Sequence) and given and all(isinstance(x, Tensor) and x.dim() == 3 for x in given):
        sizes = {tuple(image.shape) for image in given}
        if len(sizes) > 1:
            raise UsageError(
                f"the example images have the sizes {sorted(sizes)}: a file is made for images of one size"
            )
        given = torch.stack(list(given))
    if isinstance(given, Sequence) and len(given) == 1:
        given = given[0]
    if isinstance(given, Tensor) and given.dim() == 3:
        given = given[None]
    if not isinstance(given, Tensor) or given.dim() != 4 or not len(given):
        raise UsageError(
            "example_inputs of a detector are images: a list of tensors (3, H, W), or one tensor (B, 3, H, W)"
        )
    return given.detach().cpu()
