"""What cannot be binarized as it is, said before anything is changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnnapps.errors import BinarizeError
from bnnapps.nn.layers import PARTS, BinaryLayer

_WRAPPERS = {
    "DistributedDataParallel": "binarize `model.module`, then wrap it again",
    "DataParallel": "binarize `model.module`, then wrap it again",
    "FullyShardedDataParallel": "binarize the model before wrapping it",
    "OptimizedModule": "binarize the model before torch.compile, or `model._orig_mod`",
    "ScriptModule": "binarize the Python model before scripting it",
    "RecursiveScriptModule": "binarize the Python model before scripting it",
    "TopLevelTracedModule": "binarize the Python model before tracing it",
    "GraphModule": "binarize the Python model before tracing it",
}


def check_model(model: nn.Module) -> None:
    """Raise `BinarizeError` for what is no plain float model: not a module, a wrapper, binarized already, lazy."""
    if not isinstance(model, nn.Module):
        raise BinarizeError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    for name, module in model.named_modules():
        where = f"'{name}'" if name else "the model"
        kind = next((k.__name__ for k in type(module).__mro__ if k.__name__ in _WRAPPERS), None)
        if kind is None and "FSDPModule" in {k.__name__ for k in type(module).__mro__}:
            kind = "FullyShardedDataParallel"
        if kind is not None:
            raise BinarizeError(f"{where} is wrapped in {kind}: {_WRAPPERS[kind]}")
        if isinstance(module, BinaryLayer):
            raise BinarizeError(f"{where} is binarized already ({type(module).__name__}): call bnnapps.restore first")
        if any(is_lazy(p) for p in module.parameters(recurse=False)):
            raise BinarizeError(f"{where} is a lazy layer without sizes: run the model once first")


def check_layer(name: str, module: nn.Module) -> None:
    """Raise `BinarizeError` for a layer whose weight is computed by something else, or that lacks room for parts."""
    if torch.nn.utils.parametrize.is_parametrized(module):
        lists: Any = module.parametrizations
        kinds = sorted({type(p).__name__ for plist in lists.values() for p in plist})
        raise BinarizeError(
            f"'{name}' has a parametrization ({', '.join(kinds)}), so its weight is not a parameter: call "
            "torch.nn.utils.parametrize.remove_parametrizations first"
        )
    for hook in module._forward_pre_hooks.values():
        kind = type(hook).__name__
        if kind in ("WeightNorm", "SpectralNorm"):
            remove = "remove_weight_norm" if kind == "WeightNorm" else "remove_spectral_norm"
            label = "weight_norm" if kind == "WeightNorm" else "spectral_norm"
            raise BinarizeError(f"'{name}' has {label}: call torch.nn.utils.{remove} first")
    if isinstance(getattr(module, "weight", None), Tensor) and "weight" not in module._parameters:
        raise BinarizeError(
            f"'{name}' computes its weight, so that is not a parameter: undo what computes it first (for pruning, "
            "torch.nn.utils.prune.remove)"
        )
    if "forward" in vars(module):
        raise BinarizeError(
            f"'{name}' has a forward of its own on the instance, which would pass a binary one by: undo that first "
            "(for device_map in transformers, accelerate.hooks.remove_hook_from_submodules)"
        )
    for taken in (PARTS, "spec"):
        if hasattr(module, taken):
            raise BinarizeError(
                f"'{name}' has an attribute '{taken}', a name that a binary layer needs for itself: rename it, or keep "
                "the layer"
            )
    config = getattr(module, "config", None)
    implementation = str(getattr(config, "_attn_implementation", ""))
    if implementation.startswith(("flash", "flex", "paged")):
        raise BinarizeError(
            f"'{name}' uses the attention implementation '{implementation}', whose masks a binary attention cannot "
            "read: load the model with attn_implementation='sdpa'"
        )
