"""What holds for every method on every kind of model."""

from __future__ import annotations

import copy
import io
import json
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import CASES, METHODS, ZOO, binarize, binary, build, covered, example_inputs, result, rules

import bnnapps
from bnnapps.binarize import Plan
from bnnapps.methods import get_method, methods
from bnnapps.nn import BinaryConv2d, BinaryEmbedding, BinaryLayer, BinaryLinear, BinaryLookup, WeightBinarizer

by_case = pytest.mark.parametrize(("method", "model"), CASES)
WITH_PARAMETERS = [c for c in CASES if any(".binary." in f".{n}" for n in binary(*c, calibrated=False).state_dict())]


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return list(ours) == list(theirs) and all(
        torch.equal(ours[k], theirs[k]) and ours[k].dtype == theirs[k].dtype for k in ours
    )


def fingerprint(model: nn.Module) -> list[Any]:
    """Everything about the float model that must come back, except the values of its tensors."""
    return [
        (name, type(m), m.training, sorted(m.__dict__), list(m._modules), list(m._forward_pre_hooks), id(m))
        for name, m in model.named_modules(remove_duplicate=False)
    ] + [(name, id(p), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)]


def binary_layers(model: nn.Module) -> list[BinaryLayer[Any]]:
    return [m for m in model.modules() if isinstance(m, BinaryLayer)]


@by_case
@pytest.mark.parametrize("used", [False, True])
def test_restore_is_the_exact_inverse(method: str, model: str, used: bool) -> None:
    net = build(model)
    next(net.parameters()).requires_grad_(False)
    list(net.modules())[-1].eval()
    before, state = fingerprint(net), copy.deepcopy(net.state_dict())
    assert binarize(net, method, model) is net
    assert binary_layers(net)
    if used:
        result(net, ZOO[model].inputs()).sum().backward()
        copy.deepcopy(net)
    assert bnnapps.restore(net) is net
    assert fingerprint(net) == before
    assert same(net.state_dict(), state)
    assert not bnnapps.is_binarized(net)


@by_case
def test_it_computes_what_was_planned(method: str, model: str) -> None:
    net = build(model)
    plan = bnnapps.plan(net, rules(method, model), example_inputs=example_inputs(model))
    assert {e.type for e in plan.binarized} == set(covered(method, model))
    bnnapps.apply_plan(net, plan)
    plan.assert_ran(net, ZOO[model].inputs())
    assert bnnapps.plan_of(net) is plan
    assert len(binary_layers(net)) == len(plan.binarized)


@by_case
def test_names_parameters_and_keys_of_the_float_model_stay(method: str, model: str) -> None:
    net = build(model)
    parameters, keys = dict(net.named_parameters()), list(net.state_dict())
    binarize(net, method, model)
    assert {n: id(p) for n, p in net.named_parameters() if n in parameters} == {n: id(p) for n, p in parameters.items()}
    assert [k for k in net.state_dict() if ".binary." not in f".{k}"] == keys


@by_case
def test_a_float_checkpoint_loads_strictly_and_counts(method: str, model: str) -> None:
    source = build(model)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    net = binarize(build(model), method, model)
    net.load_state_dict(source.state_dict(), strict=True)
    expected = binarize(copy.deepcopy(source), method, model)
    inputs = ZOO[model].inputs()
    assert torch.equal(result(net.eval(), inputs), result(expected.eval(), inputs))
    bnnapps.restore(net)
    assert same(net.state_dict(), source.state_dict())


@pytest.mark.parametrize(("method", "model"), WITH_PARAMETERS)
def test_a_checkpoint_with_some_of_the_learned_parts_missing_does_not_load(method: str, model: str) -> None:
    net = binary(method, model)
    state = net.state_dict()
    parts = [k for k in state if ".binary." in f".{k}"]
    del state[parts[0]]
    with pytest.raises(RuntimeError, match="Missing key") as caught:
        net.load_state_dict(state)
    assert parts[0] in str(caught.value)


@by_case
def test_saving_and_loading_gives_the_same_bits(method: str, model: str) -> None:
    net = binary(method, model)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.1)
    bnnapps.set_progress(net, 0.4)
    file = io.BytesIO()
    torch.save({"plan": bnnapps.plan_of(net).to_dict(), "state": net.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = bnnapps.apply_plan(build(model), Plan.from_dict(json.loads(json.dumps(saved["plan"]))))
    other.load_state_dict(saved["state"], strict=True)
    inputs = ZOO[model].inputs()
    assert torch.equal(result(net.eval(), inputs), result(other.eval(), inputs))
    assert torch.equal(result(net.train(), inputs), result(other.train(), inputs))
    assert same(net.state_dict(), other.state_dict())
    assert bnnapps.plan_of(other) == bnnapps.plan_of(net)


@by_case
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_compute_the_same_and_are_independent(method: str, model: str, how: str) -> None:
    net = binary(method, model)
    file = io.BytesIO()
    if how == "deepcopy":
        other = copy.deepcopy(net)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(net))
    else:
        torch.save(net, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    inputs = ZOO[model].inputs()
    expected = result(net.eval(), inputs)
    assert torch.equal(result(other.eval(), inputs), expected)
    assert [type(m) for m in other.modules()] == [type(m) for m in net.modules()]
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
    bnnapps.restore(other)
    assert type(other) is type(build(model))
    assert torch.equal(result(net, inputs), expected)


@by_case
def test_training_and_deployment_compute_the_same_bits(method: str, model: str) -> None:
    net = binary(method, model)
    bnnapps.set_progress(net, 1.0)  # the noise of FDA is gone at the end of the training
    for module in net.modules():
        if isinstance(module, WeightBinarizer) and module.spec.transform == "search":
            module.logits.data.mul_(1e6)  # a search that is certain: its expectations are signs
    inputs = ZOO[model].inputs()
    trained = result(net.train(), inputs)
    assert trained.requires_grad
    with torch.no_grad():
        assert torch.equal(result(net.eval(), inputs), trained)
        assert torch.equal(result(net.train(), inputs), trained)
    assert torch.equal(result(net.eval(), inputs), trained)
    with torch.inference_mode():
        assert torch.equal(result(net.eval(), inputs), trained)


def own_parameters(binarizer: WeightBinarizer) -> list[tuple[str, nn.Parameter]]:
    """What trains while the weight rests: the halves of a split weight, the logits of a search."""
    return list(binarizer.named_parameters(recurse=False))


def latent_weights(net: nn.Module) -> dict[str, Tensor]:
    """What trains in place of each weight: the weight itself, or what stands for it."""
    found: dict[str, Tensor] = {}
    for name, layer in net.named_modules():
        if isinstance(layer, BinaryLayer):
            for key, _, binarizer in layer.latents():
                own = own_parameters(binarizer)
                if own:
                    found |= {f"{name}.{key} {n} {id(binarizer)}": p for n, p in own}
                else:
                    found[f"{name}.{key}"] = layer.get_parameter(key)
    return found


@by_case
def test_defect_4_every_latent_weight_and_learned_part_gets_a_gradient(method: str, model: str) -> None:
    net = binary(method, model).train()
    if method == "dorefa":  # larger values reach 1/2, where its codes begin to differ from 0
        for weight in latent_weights(net).values():
            weight.data.mul_(3)
    output = result(net, ZOO[model].inputs())
    (output * torch.randn_like(output)).sum().backward()
    latent = latent_weights(net)
    assert latent
    for name, weight in latent.items():
        assert weight.grad is not None, name
        assert bool(weight.grad.isfinite().all()), name
        assert weight.grad.any(), name
    for name, parameter in net.named_parameters():
        if ".binary." in f".{name}":
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name


@by_case
def test_an_optimizer_made_before_still_steps_the_weights(method: str, model: str) -> None:
    net = build(model)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    binarize(net, method, model)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    output = result(net.train(), ZOO[model].inputs())
    (output * torch.randn_like(output)).sum().backward()
    optimizer.step()
    bnnapps.apply_constraints(net)
    rests = any(isinstance(m, WeightBinarizer) and own_parameters(m) for m in net.modules())
    weights = [n for n, p in net.named_parameters() if ".binary." not in f".{n}" and p.grad is not None]
    assert weights
    moved = [n for n in weights if not torch.equal(net.get_parameter(n), before[n])]
    assert moved
    if not rests:
        layers = [n for n, m in net.named_modules() if isinstance(m, BinaryLayer) and m.latents()]
        assert all(any(n.startswith(layer) for n in moved) for layer in layers)


@pytest.mark.parametrize("method", METHODS)
def test_a_binary_layer_learns_what_another_one_computes(method: str) -> None:
    layers: Any = get_method(method).layers
    teacher, student = (
        BinaryLinear(16, 8, spec=layers["linear"])
        if "linear" in layers
        else BinaryLookup(16, 8, 2, "tree", spec=layers["lookup"])
        for _ in range(2)
    )
    x = torch.randn(256, 16)
    target = teacher(x).detach()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    losses = []
    for step in range(60):
        bnnapps.set_progress(student, step / 60)
        loss = (student(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        student.constrain()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < 0.5 * losses[0]


@by_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("when", ["before", "after"])
def test_models_of_other_types(method: str, model: str, dtype: torch.dtype, when: str) -> None:
    if when == "before":
        net = binarize(build(model).to(dtype), method, model)
    else:
        net = binarize(build(model), method, model).to(dtype)

    def converted(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: converted(v) for k, v in value.items()}
        if isinstance(value, tuple):
            return tuple(converted(v) for v in value)
        return value.to(dtype) if value.is_floating_point() else value

    inputs = converted(ZOO[model].inputs())
    output = result(net.train(), inputs)
    assert output.dtype == dtype
    output.sum().backward()
    with torch.no_grad():
        evaluated = result(net.eval(), inputs)
    assert evaluated.dtype == dtype
    assert bool(evaluated.isfinite().all())


@by_case
def test_a_training_step_under_autocast(method: str, model: str) -> None:
    net = binary(method, model).train()
    inputs = ZOO[model].inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = result(net, inputs)
        loss = output.float().square().mean()
    loss.backward()
    for name, weight in latent_weights(net).items():
        assert weight.grad is not None, name
        assert weight.grad.dtype == torch.float32
        assert bool(weight.grad.isfinite().all()), name
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert bool(result(net.eval(), inputs).isfinite().all())


POSITIONS = (3, 3)
SLOTS: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "linear": (BinaryLinear, (6, 4), lambda: torch.randn(9, 6) / 3),
    "conv": (BinaryConv2d, (2, 4, 3), lambda: torch.randn(3, 2, 5, 5) / 3),
    "embedding": (BinaryEmbedding, (3, 6), lambda: torch.tensor([0, 1, 2, 0])),
}


@pytest.mark.parametrize(("method", "slot"), [(m.name, s) for m in methods() for s in m.layers if s in SLOTS])
def test_all_zero_filters_still_get_a_gradient(method: str, slot: str) -> None:
    kind, arguments, inputs = SLOTS[slot]
    spec = get_method(method).layers[slot]
    if method == "xnorpp" and slot == "conv":
        spec = spec.model_copy(update={"output": spec.output.model_copy(update={"size": POSITIONS})})
    layer = kind(*arguments, spec=spec)
    state = {k: v.clone() for k, v in layer.state_dict().items() if not k.startswith("binary.")}
    state["weight"][0] = 0
    layer.load_state_dict(state)
    output = layer(inputs())
    output.backward(torch.randn_like(output))
    for _, weight, binarizer in layer.latents():
        own = own_parameters(binarizer)
        for key, latent in own if own else [("weight", weight)]:
            assert latent.grad is not None
            assert bool(latent.grad.isfinite().all())
            grad = latent.grad[:, 0] if key == "logits" else latent.grad[0]
            assert float(grad.abs().max()) > (0 if binarizer.spec.scale == "learned" else 1e-3)


@by_case
def test_constraints_leave_working_weights(method: str, model: str) -> None:
    net = binary(method, model)
    spread = {n: p.detach().std() for n, p in net.named_parameters() if p.dim() > 1}
    for _ in range(3):
        bnnapps.apply_constraints(net)
    for name, deviation in spread.items():
        assert net.get_parameter(name).detach().std() >= deviation / 3, name


@by_case
def test_constraints_keep_learned_scales_positive(method: str, model: str) -> None:
    net = binary(method, model)
    scales = {n: p for n, p in net.named_parameters() if n.endswith(".alpha")}
    with torch.no_grad():
        for scale in scales.values():
            scale.fill_(-1.0)
    bnnapps.apply_constraints(net)
    assert all(p > 0 for p in scales.values())
    expected = any("elastic" in repr(e.spec) or "affine" in repr(e.spec) for e in bnnapps.plan_of(net).binarized)
    assert bool(scales) == expected


@by_case
def test_deployed_weights_have_few_levels_and_float_names(method: str, model: str) -> None:
    net = binary(method, model)
    deployed = bnnapps.binary_state_dict(net)
    state = net.state_dict()
    binarizers = {
        f"{name}.{key}": binarizer
        for name, layer in net.named_modules()
        if isinstance(layer, BinaryLayer)
        for key, _, binarizer in layer.latents()
    }
    assert set(deployed) == set(binarizers)
    for key, value in deployed.items():
        assert value.shape == state[key].shape
        assert not value.requires_grad
        levels = max(row.unique().numel() for row in binarizers[key].filters_first(value).flatten(1))
        assert levels <= {"binary": 2, "ternary": 3, "split": 4}[binarizers[key].spec.kind]


@by_case
def test_hooks_of_the_float_layers_survive(method: str, model: str) -> None:
    net = build(model)
    seen: list[str] = []
    target = next(
        e.name for e in bnnapps.plan(net, rules(method, model), example_inputs=example_inputs(model)).binarized
    )
    net.get_submodule(target).register_forward_hook(lambda *_: seen.append("forward"))
    net.get_submodule(target).register_forward_pre_hook(lambda *_: seen.append("before"))
    binarize(net, method, model)
    seen.clear()
    result(net, ZOO[model].inputs())
    assert set(seen) == {"forward", "before"}
    count = len(seen)
    bnnapps.restore(net)
    result(net, ZOO[model].inputs())
    assert len(seen) == 2 * count


@by_case
def test_frozen_layers_stay_frozen(method: str, model: str) -> None:
    net = build(model).requires_grad_(False)
    binarize(net, method, model)
    assert not any(p.requires_grad for n, p in net.named_parameters() if ".binary." not in f".{n}")
    for layer in binary_layers(net):
        for _, _, binarizer in layer.latents():
            assert not any(p.requires_grad for p in binarizer.parameters())
