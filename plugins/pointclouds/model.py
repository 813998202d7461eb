"""The network that a recipe asks for."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bnnapps.errors import RecipeError
from bnnapps.plugins.pointclouds.config import CloudModel
from bnnapps.plugins.pointclouds.data_config import Target
from bnnapps.plugins.pointclouds.dgcnn import DGCNN
from bnnapps.plugins.pointclouds.pointnet import PointNet, PointNetParts, PointNetScene
from bnnapps.plugins.pointclouds.pointnet2 import PointNet2

_NETWORKS: dict[tuple[str, str], type[nn.Module]] = {
    ("pointnet", "class"): PointNet,
    ("pointnet", "parts"): PointNetParts,
    ("pointnet", "scene"): PointNetScene,
    ("pointnet2", "class"): PointNet2,
    ("dgcnn", "class"): DGCNN,
}


class Shape(NamedTuple):
    """A network without its weights."""

    name: str
    target: str
    options: dict[str, Any]
    classes: int
    channels: int

    @classmethod
    def of(cls, settings: CloudModel, target: Target, classes: int, channels: int) -> Shape:
        """The network that a recipe asks for."""
        return cls(settings.name, target, dict(settings.options), classes, channels)


def build_shape(shape: Shape) -> nn.Module:
    """The float network, with random weights from torch's generator.

    Raises:
        RecipeError: there is no such network for the target, or an option does not fit.

    """
    kind: Any = _NETWORKS.get((shape.name, shape.target))
    if kind is None:
        known = [name for name, target in _NETWORKS if target == shape.target]
        raise RecipeError(
            f"model.name '{shape.name}' tells classes of clouds, and the target of the data is '{shape.target}': take "
            f"{' or '.join(known)}"
        )
    try:
        found: nn.Module = kind(shape.classes, shape.channels, **shape.options)
    except (TypeError, ValueError, RuntimeError) as problem:
        reason = " ".join(str(problem).split()).replace(f"{kind.__name__}.__init__() ", "")
        raise RecipeError(f"model.name '{shape.name}' with options {shape.options}: {reason}") from None
    return found


def check_points(network: nn.Module, shape: Shape, points: Tensor) -> None:
    """Raise `RecipeError` unless the network scores the clouds."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(points)
    except (RuntimeError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise RecipeError(
            f"model.name '{shape.name}' cannot take clouds of {points.shape[1]} points: {reason}: change "
            "data.points or model.options"
        ) from None
    finally:
        network.train(training)
