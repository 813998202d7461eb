"""Finding where numbers stop being finite: in a batch, in a layer's output, in a model's state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def float_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors in nested mappings and sequences, with their places, such as `images` or `0.x`."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield name, value
        return
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        items = enumerate(value)
    for key, inner in items:
        yield from float_tensors(inner, f"{name}.{key}" if name else str(key))


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity: one pass over each and one wait for the device.

    A sum of finite numbers may overflow, so a sum that is not finite is looked at again, element by element.
    """
    sums = [t.detach().sum(dtype=torch.float32) for t in tensors]
    if not sums or bool(torch.isfinite(torch.stack([s.to(sums[0].device) for s in sums])).all()):
        return True
    return all(bool(torch.isfinite(t).all()) for t in tensors)


def describe_batch(batch: Any) -> str | None:
    """What is not finite in a batch, in words: which tensor, how many elements, and the first example; else `None`."""
    for name, tensor in float_tensors(batch):
        bad = ~torch.isfinite(tensor.detach())
        if bool(bad.any()):
            at = bad.nonzero()[0].tolist()
            kind = "NaN" if bool(torch.isnan(tensor[tuple(at)])) else "infinity"
            where = f"the input '{name}'" if name else "the input"
            first = f", the first ({kind}) in example {at[0]} at {at[1:]}" if at else f" ({kind})"
            return f"{where} has {int(bad.sum())} of {bad.numel()} elements that are not finite{first}"
    return None


def first_not_finite(models: Mapping[str, nn.Module | None], run: Callable[[], object]) -> str | None:
    """The first layer whose output is not finite while `run` computes, in words; `None`: there is none.

    Args:
        models: the networks to watch, by what they are called.
        run: computes with them.

    """
    found: list[str] = []

    def watch(who: str, name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            tensors = [t for _, t in float_tensors(output)]
            if not found and not all_finite(tensors):
                found.append(_described(who, name, module, args))

        return look

    handles = [
        module.register_forward_hook(watch(who, name))
        for who, model in models.items()
        if model is not None
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _described(who: str, name: str, module: nn.Module, args: Any) -> str:
    label = f"the {who}'s layer '{name}' ({type(module).__name__})" if name else f"the {who} itself"
    parameter = not_finite_state(module)
    if parameter is not None:
        return f"{label}, whose {parameter} is not finite"
    largest = max((float(t.detach().abs().max()) for _, t in float_tensors(args) if t.numel()), default=None)
    return label if largest is None else f"{label}, whose inputs reach {largest:.3g}"


def not_finite_state(model: nn.Module) -> str | None:
    """The first parameter or buffer that is not finite, such as `parameter 'weight'`; `None`: all are finite."""
    named: list[tuple[str, str, Tensor]] = [("parameter", n, t) for n, t in model.named_parameters()]
    named += [("buffer", n, t) for n, t in model.named_buffers() if t.is_floating_point()]
    if all_finite([t for _, _, t in named]):
        return None
    return next(f"{kind} '{name}'" for kind, name, t in named if not bool(torch.isfinite(t).all()))
