"""Architectures of the field, built from the blocks; importing this module registers them."""

from bnnapps.models import densenet, finn, lookup, quicknet, reactnet, resnet, vgg
from bnnapps.models.registry import ModelEntry, build, get_model, models, register_model

__all__ = [
    "ModelEntry",
    "build",
    "densenet",
    "finn",
    "get_model",
    "lookup",
    "models",
    "quicknet",
    "reactnet",
    "register_model",
    "resnet",
    "vgg",
]
