"""What a recipe for clouds of points may say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from bnnapps.plugins.pointclouds.data_config import CloudData
from bnnapps.recipe.schema import Recipe
from bnnapps.validation import Options, Record

Name = Literal["pointnet", "pointnet2", "dgcnn"]


class CloudModel(Record):
    """The network."""

    name: Name = "pointnet"
    """`pointnet` has a form for each target of the data; `pointnet2` and `dgcnn` tell classes of clouds."""
    options: Options = Field(default_factory=dict)
    """Further arguments of the network, such as {width: 0.25} or {transforms: false}."""
    checkpoint: str | None = None
    """A file of weights of the whole network to start from."""

    @field_validator("options")
    @classmethod
    def _no_classes(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(value.keys() & {"classes", "channels"})
        if taken:
            raise ValueError(f"'{taken[0]}' is set by the task from the data")
        return value


class CloudRecipe(Recipe):
    """A recipe of the task `pointclouds`."""

    data: CloudData = CloudData()
    model: CloudModel = CloudModel()
