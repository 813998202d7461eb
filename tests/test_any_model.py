"""Sixty architectures as their libraries make them: planned, binarized, run, trained for a step, restored."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from architectures.hugging_face import HUGGING_FACE
from architectures.pyg_models import PYG
from architectures.timm_models import TIMM
from architectures.torchvision_models import TORCHVISION
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize.registry import layer_types, type_of
from bnnapps.forward import call_model, run_model
from bnnapps.nn.layers import BinaryLayer

LIBRARIES = {"transformers": HUGGING_FACE, "timm": TIMM, "torchvision": TORCHVISION, "PyG": PYG}
ALL = {f"{library}, {name}": a for library, some in LIBRARIES.items() for name, a in some.items()}
METHODS = {"linear": "bireal", "conv": "bireal", "embedding": "bibert", "attention": "bibert"}


def build(name: str) -> nn.Module:
    """The model, without parameters of one value (zeros of a fresh head, for instance), so that everything is heard."""
    model = ALL[name].build()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def rules(model: nn.Module, keep: Mapping[str, str]) -> dict[str, Any]:
    """A rule for every type of layer that the model has, and that computes a product or looks up weights."""
    present = {found.key: found.slot for m in model.modules() if (found := type_of(m)) is not None}
    kinds = {
        method: [t for t, slot in present.items() if METHODS.get(slot) == method] for method in ("bireal", "bibert")
    }
    used: list[Any] = [{"types": types, "use": method} for method, types in kinds.items() if types]
    return {"rules": used + [{"match": m, "keep": r} for m, r in keep.items()], "keep_first": 1, "keep_last": 1}


def tensors(output: Any) -> Iterator[Tensor]:
    """Every float tensor of a model's output, whatever it is packed in."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors(value)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for value in output:
            yield from tensors(value)


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    with torch.no_grad():
        return [x.clone() for x in tensors(run_model(model, inputs))]


def latents(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The Parameters that binary layers take their codes from."""
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer):
            yield from ((f"{name}.{key}", module.get_parameter(key)) for key, _, _ in module.latents())


def test_there_are_sixty() -> None:
    assert {library: len(some) for library, some in LIBRARIES.items()} == {
        "transformers": 20,
        "timm": 20,
        "torchvision": 12,
        "PyG": 8,
    }


@pytest.mark.parametrize("name", ALL)
def test_it_becomes_binary_trains_and_comes_back(name: str) -> None:
    torch.manual_seed(0)
    model = build(name)
    inputs = ALL[name].inputs()
    state = copy.deepcopy(model.state_dict())
    before = outputs(model, inputs)
    plan = bnnapps.plan(model, rules(model, ALL[name].keep))
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, inputs)
    products = [e for e in plan.kept if layer_types()[e.type].slot in METHODS]
    assert not [e.name for e in products if e.reason == "no rule"]
    assert sum(isinstance(m, BinaryLayer) for m in model.modules()) == len(plan.binarized) >= 3
    binary = outputs(model, inputs)
    assert all(bool(x.isfinite().all()) for x in binary)
    assert any(not torch.equal(a, b) for a, b in zip(before, binary, strict=True))
    training = ALL[name].training
    loss = sum(x.square().mean() for x in tensors(call_model(model.train(), (training or ALL[name].inputs)())))
    assert isinstance(loss, Tensor)
    loss.backward()
    untouched = [n for n, w in latents(model) if w.requires_grad and w.grad is None]
    assert not untouched
    bnnapps.restore(model.eval())
    assert list(model.state_dict()) == list(state)
    buffers = {n for n, _ in model.named_buffers()}  # statistics of norms moved with the training step
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items() if k not in buffers)
    model.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(model, inputs), strict=True))
