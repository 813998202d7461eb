"""Networks for keywords, by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bnnapps.errors import RecipeError
from bnnapps.plugins.keywords.dfsmn import DFSMN, share_ends
from bnnapps.plugins.keywords.fsmn import FSMN
from bnnapps.plugins.keywords.recipe import KeywordModel
from bnnapps.plugins.keywords.small_networks import DSCNN, TCResNet


class Shape(NamedTuple):
    """A network without its weights."""

    name: str
    options: dict[str, Any]
    depths: int
    classes: int
    rows: int
    columns: int

    @classmethod
    def of(cls, settings: KeywordModel, classes: int, rows: int, columns: int) -> Shape:
        """The network that a recipe asks for."""
        depths = 1 if settings.thinnable is None else len(settings.thinnable)
        return cls(settings.name, dict(settings.options), depths, classes, rows, columns)

    def of_teacher(self, settings: KeywordModel) -> Shape:
        """The float network that teaches this one."""
        if settings.teacher is None:
            return self
        return self._replace(options={**self.options, **settings.teacher}, depths=1)


def _dfsmn(shape: Shape) -> nn.Module:
    return DFSMN(shape.classes, shape.rows, shape.columns, options=shape.depths, **shape.options)


_BUILDERS: dict[str, Callable[[Shape], nn.Module]] = {
    "dfsmn": _dfsmn,
    "fsmn": lambda shape: FSMN(shape.classes, shape.rows, shape.columns, **shape.options),
    "tc_resnet": lambda shape: TCResNet(shape.classes, shape.rows, **shape.options),
    "ds_cnn": lambda shape: DSCNN(shape.classes, **shape.options),
}


def build_shape(shape: Shape) -> nn.Module:
    """The float network, with random weights from torch's generator.

    Raises:
        RecipeError: an unknown option, or pictures that the network does not take.

    """
    try:
        network = _BUILDERS[shape.name](shape)
    except (TypeError, ValueError, KeyError) as problem:
        reason = " ".join(str(problem).split())
        raise RecipeError(f"model.name '{shape.name}' with options {shape.options}: {reason}") from None
    _check(network, shape)
    return network


def _check(network: nn.Module, shape: Shape) -> None:
    training = network.training
    try:
        with torch.no_grad():
            logits: Tensor = network.eval()(torch.zeros(1, 1, shape.rows, shape.columns))
    except RuntimeError as problem:
        reason = " ".join(str(problem).split())[:200]
        raise RecipeError(
            f"model.name '{shape.name}' cannot take pictures of {shape.rows} bands and {shape.columns} frames: "
            f"{reason}; set data.features or data.seconds otherwise"
        ) from None
    finally:
        network.train(training)
    assert logits.shape == (1, shape.classes)


@torch.no_grad()
def take_weights(network: nn.Module, other: nn.Module) -> None:
    """Give a network what another one of other options has too: tensors of the same name and shape.

    Norms and activations of further depths start as those of the whole network.
    """
    theirs = other.state_dict()
    own = network.state_dict()
    network.load_state_dict({k: t for k, t in theirs.items() if k in own and own[k].shape == t.shape}, strict=False)
    if isinstance(network, DFSMN) and getattr(other, "options", 1) == 1:
        share_ends([network])


def layer_names(network: nn.Module, option: int = 0) -> list[str]:
    """The modules whose outputs distillation compares: the memory layers that run at a depth, in order.

    Raises:
        RecipeError: the network has none.

    """
    if not isinstance(network, DFSMN | FSMN):
        kind = type(network).__name__
        raise RecipeError(
            f"losses on the features of memory layers need model.name dfsmn or fsmn, and the network is a {kind}: take "
            "another loss, or such a network"
        )
    return [f"layers.{i}" for i in network.running(option)]


def depths_of(network: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """A network at each depth that it was trained at: what its files are called, what it is, and a copy of it.

    The whole network has no suffix, and one with a single depth is given as it is.
    """
    if not isinstance(network, DFSMN) or network.options == 1:
        yield "", "", network
        return
    for option in range(network.options):
        count = len(network.running(option))
        thin = copy.deepcopy(network)
        thin.option = option
        yield f"-{count}-layers" if option else "", f"{count} of {len(network.layers)} layers", thin
