"""Switches of float modules that would pass binary children by: set when a model becomes binary, and put back."""

from __future__ import annotations

from torch import nn

from bnnapps.nn.layers.base import BinaryLayer

_SAVED = "_bnnapps_switches"


def close_bypasses(model: nn.Module) -> None:
    """Set every switch of the model under which a parent would compute with the weights of its binary children."""
    for module in model.modules():
        switches = _switches(module)
        if switches:
            module.__dict__[_SAVED] = {name: module.__dict__[name] for name in switches}
            module.__dict__.update(switches)


def reopen_bypasses(model: nn.Module) -> None:
    """The inverse of `close_bypasses`."""
    for module in model.modules():
        module.__dict__.update(module.__dict__.pop(_SAVED, {}))


def _switches(module: nn.Module) -> dict[str, bool]:
    """The switches that have to change, with their new values."""
    found: dict[str, bool] = {}
    if isinstance(module, nn.TransformerEncoder) and any(isinstance(m, BinaryLayer) for m in module.modules()):
        # In eval mode it would hand its layers nested tensors, for a fused path.
        found["use_nested_tensor"] = False
    if "qkv_bias_separate" in vars(module) and isinstance(module._modules.get("qkv"), BinaryLayer):
        # timm's BEiT, EVA and Swin V2 would multiply by `qkv.weight` themselves, to add three biases at once.
        found["qkv_bias_separate"] = True
    return found
