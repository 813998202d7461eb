"""The network of a recipe, and how a checkpoint records it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from bnnapps.errors import CheckpointError, RecipeError, UsageError
from bnnapps.plugins.graphs.config import GraphModel, Target
from bnnapps.plugins.graphs.require import require_pyg
from bnnapps.training.checkpoint import load_file
from bnnapps.validation import validated


class Shape(NamedTuple):
    """A network without its weights: the keys of `model`, what it predicts, and its numbers of features and classes."""

    settings: dict[str, Any]
    target: Target
    features: int
    classes: int

    @classmethod
    def of(cls, settings: GraphModel, target: Target, features: int, classes: int) -> Shape:
        """The network that a recipe asks for."""
        return cls(settings.model_dump(mode="json", exclude={"checkpoint", "stages"}), target, features, classes)

    def of_stage(self, changes: dict[str, Any]) -> Shape:
        """The network with other options."""
        return self._replace(settings=self.settings | {"options": self.settings["options"] | changes})


def build_shape(shape: Shape) -> nn.Module:
    """The float network, with random weights from torch's generator.

    Raises:
        RecipeError: an unknown option.
        MissingExtraError: PyTorch Geometric is not installed.
    """
    require_pyg("the task 'graphs'")
    settings = validated(GraphModel, shape.settings, "model", RecipeError)
    if settings.name == "dgcnn":
        from bnnapps.plugins.graphs.dgcnn import BinaryDGCNN

        try:
            return BinaryDGCNN(shape.classes, **settings.options)
        except UsageError as problem:
            raise RecipeError(f"model.options: {problem}") from None
        except TypeError as problem:
            raise RecipeError(f"model.options {settings.options}: {' '.join(str(problem).split())}") from None
    from bnnapps.plugins.graphs.networks import build_network

    return build_network(settings, shape.target, shape.features, shape.classes)


def take_weights(network: nn.Module, other: nn.Module) -> None:
    """Give a network what another one of other options has too: tensors of the same name and shape."""
    own = network.state_dict()
    shared = {k: t for k, t in other.state_dict().items() if k in own and own[k].shape == t.shape}
    network.load_state_dict(shared, strict=False)


def load_weights(network: nn.Module, path: str, where: str = "model.checkpoint") -> None:
    """Bring a float network to the weights in a file: a state_dict, or a mapping that has one.

    Raises:
        CheckpointError: the file cannot be read safely, or a tensor is missing, unknown or of another shape.
    """
    found = load_file(Path(path).expanduser())
    for key in ("state_dict", "state", "model"):
        if isinstance(found.get(key), dict):
            found = found[key]
            break
    here = network.state_dict()
    for name, tensor in here.items():
        value = found.get(name)
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: {path} has no tensor '{name}', which the model has")
        if value.shape != tensor.shape:
            shapes = f"is {tuple(value.shape)}, in the model {tuple(tensor.shape)}"
            raise CheckpointError(f"{where}: in {path} '{name}' {shapes}")
    unknown = sorted(found.keys() - here.keys())
    if unknown:
        raise CheckpointError(f"{where}: {path} has the tensor '{unknown[0]}', which the model does not have")
    network.load_state_dict(found)
