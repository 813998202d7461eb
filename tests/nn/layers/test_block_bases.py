"""Blocks with several bases (Group-Net, BPAC), against the same computation written out."""

from __future__ import annotations

import copy
import io
import json
import pickle
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

import bnnapps
from bnnapps.binarize import Plan, Rule
from bnnapps.errors import BinarizeError
from bnnapps.nn import BinaryConv2d, BlockSpec
from bnnapps.nn.layers import ResidualBlock
from bnnapps.nn.layers.bases import begun, offset
from bnnapps.optim.groups import parameter_kinds
from bnnapps.report.records import Costs
from bnnapps.training.handover import hand_over, learned_parts


def resnet(block: type[nn.Module] = BasicBlock) -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.ResNet(block, [1, 1, 1, 1], num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def bpac() -> dict[str, Any]:
    """The rules of BPAC with five bases, as in the paper."""
    stages = {"layer3": [2, 3, 4, 5, 6], "layer4": [6, 7, 8, 9, 10]}
    rules = [
        {"match": f"{s}.*", "types": ["residual_block"], "use": {"method": "groupnet", "dilations": d}}
        for s, d in stages.items()
    ]
    return {"method": "groupnet", "rules": rules}


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def binary(block: type[nn.Module] = BasicBlock, method: str = "groupnet", **overrides: Any) -> nn.Module:
    rules = {"method": method, "overrides": {"bases": 3, **overrides}}
    return bnnapps.binarize(resnet(block), rules, example_inputs=IMAGES)


def trained(model: nn.Module) -> nn.Module:
    """The model with every parameter moved, so that no two bases agree by chance."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


# Arithmetic


def level_product(conv: nn.Conv2d, x: Tensor, dilation: int, stride: int) -> Tensor:
    """A binary convolution from its definition: alpha sign(W) over 1{x >= 1/2}, zeros beyond the border."""
    weight = conv.weight
    alpha = weight.abs().mean((1, 2, 3), keepdim=True)
    signs = torch.where(weight >= 0, 1.0, -1.0)
    return F.conv2d((x >= 0.5).float(), alpha * signs, None, stride, dilation, dilation)


def norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    v = (1, -1, 1, 1)
    scaled = (x - bn.running_mean.view(v)) / (bn.running_var.view(v) + bn.eps).sqrt()
    return scaled * bn.weight.view(v) + bn.bias.view(v)


def written_out(block: Any, x: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """A basic Group-Net block from its parameters, without calling any of its members."""
    spec, shared = block.spec, x
    if block.downsample is not None:
        conv = block.downsample[0]
        shared = norm(block.downsample[1], F.conv2d(x, conv.weight, None, conv.stride))
    bases = [block, *block.binary.bases]
    scales = block.binary.scales
    stride = block.conv1.stride

    def half(member: Any, which: int, y: Tensor, added: Tensor, d: int) -> Tensor:
        conv, bn = (member.conv1, member.bn1) if which == 1 else (member.conv2, member.bn2)
        z = level_product(conv, y, d, stride if which == 1 else (1, 1)).clamp(min=0)
        z = norm(bn, z)
        return z if added is None else z + added

    each = spec.shortcut == "conv"
    maps = [half(b, 1, x, shared if each else None, d) for b, d in zip(bases, dilations, strict=True)]
    if block.binary.gates is not None:
        t = 1 / (1 + torch.exp(-block.binary.gates[0]))
        together = sum(s * y for s, y in zip(scales, maps, strict=True))
        maps = [t[k] * y + (1 - t[k]) * together for k, y in enumerate(maps)]
    found = [half(b, 2, y, y if each else shared, d) for b, y, d in zip(bases, maps, dilations, strict=True)]
    return sum(s * y for s, y in zip(scales, found, strict=True))


@pytest.mark.parametrize("shortcut", ["conv", "block"])
@pytest.mark.parametrize("gates", [False, True])
@pytest.mark.parametrize("dilations", [None, [1, 2, 3]])
def test_a_block_is_the_weighted_sum_of_its_bases(shortcut: str, gates: bool, dilations: list[int] | None) -> None:
    model = trained(binary(shortcut=shortcut, gates=gates, dilations=dilations)).eval()
    torch.manual_seed(1)
    for name in ("layer1.0", "layer2.0"):
        block = model.get_submodule(name)
        assert isinstance(block, ResidualBlock)
        x = torch.randn(2, block.conv1.in_channels, 9, 7)
        expected = written_out(block, x, (1, 1, 1) if dilations is None else tuple(dilations))
        # Values reach 20, and the sums of scaled weights that are written out round: up to 6e-5, the block's own 4e-6.
        assert torch.allclose(block(x), expected, atol=1e-4)


def test_one_base_is_the_block_itself() -> None:
    with_groups = bnnapps.binarize(resnet(), {"method": "groupnet", "overrides": {"bases": 1}})
    without = bnnapps.binarize(resnet(), {"method": "groupnet", "overrides": {"bases": 1, "convs": None}})
    assert torch.equal(with_groups.eval()(IMAGES), without.eval()(IMAGES))
    assert not [n for n, _ in with_groups.named_parameters() if "bases" in n or "scales" in n]


def test_scales_begin_at_one_over_k_and_gates_at_one_half() -> None:
    block: Any = binary(bases=4, gates=True).layer1[0]
    assert block.binary.scales.tolist() == [0.25] * 4
    assert block.binary.gates.tolist() == [[0.0] * 4]
    assert torch.sigmoid(block.binary.gates).unique().tolist() == [0.5]


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_every_base_learns(block: type[nn.Module]) -> None:
    model = binary(block, gates=True)
    output = model.train()(IMAGES)
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.startswith("layer4"):  # a map of 1x1 leaves BatchNorm in training little to learn from
            assert bool(parameter.grad.isfinite().all()), name
    scales = [p for n, p in model.named_parameters() if n.endswith("binary.scales")]
    assert len(scales) == 4
    assert all(bool(s.grad.any()) for s in scales)


# What a base starts from


@pytest.mark.parametrize(
    ("bases", "expected"),
    [(2, [0, -1]), (3, [0, -1, 1]), (4, [0, -0.5, 0.5, -1]), (5, [0, -0.5, 0.5, -1, 1])],
)
def test_shifts_spread_over_one_deviation(bases: int, expected: list[float]) -> None:
    assert [offset(k, bases) for k in range(bases)] == expected
    weight = torch.randn(4, 3, 3, 3)
    for k, u in enumerate(expected):
        assert torch.allclose(begun(weight, k, bases, "shifted"), weight + u * weight.std(correction=0))


def test_shuffled_weights_are_those_of_the_filter_in_another_order() -> None:
    weight = torch.randn(4, 3, 3, 3)
    one, again, two = (begun(weight, k, 3, "shuffled") for k in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    assert not torch.equal(one, weight)
    for found, own in zip(one, weight, strict=True):
        assert torch.equal(found.flatten().sort().values, own.flatten().sort().values)


@pytest.mark.parametrize("start", ["shifted", "shuffled"])
def test_bases_start_from_a_float_checkpoint(start: str) -> None:
    source = trained(resnet())
    model = binary(start=start)
    model.load_state_dict(source.state_dict(), strict=True)
    expected = bnnapps.binarize(
        copy.deepcopy(source), {"method": "groupnet", "overrides": {"bases": 3, "start": start}}
    )
    assert torch.equal(model.eval()(IMAGES), expected.eval()(IMAGES))
    assert all(torch.equal(v, expected.state_dict()[k]) for k, v in model.state_dict().items())


# Contracts


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("method", ["groupnet", "bpac"])
def test_going_back_is_exact(block: type[nn.Module], method: str) -> None:
    model = resnet(block)
    members = [(n, id(m), type(m), sorted(m.__dict__), repr(m)) for n, m in model.named_modules()]
    parameters = [(n, id(p), p.requires_grad) for n, p in model.named_parameters()]
    state, expected = copy.deepcopy(model.state_dict()), model.eval()(IMAGES)
    bnnapps.binarize(model, "groupnet" if method == "groupnet" else bpac())
    keys = [k for k in model.state_dict() if ".binary." not in k]
    assert keys == list(state)
    bnnapps.restore(model)
    assert [(n, id(m), type(m), sorted(m.__dict__), repr(m)) for n, m in model.named_modules()] == members
    assert [(n, id(p), p.requires_grad) for n, p in model.named_parameters()] == parameters
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(model(IMAGES), expected)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "plan and state"])
def test_copies_compute_the_same(how: str) -> None:
    model = trained(binary(method="groupnet", gates=True, dilations=[1, 2, 4]))
    if how == "deepcopy":
        other = copy.deepcopy(model)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save({"plan": bnnapps.plan_of(model).to_dict(), "state": model.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        plan = Plan.from_dict(json.loads(json.dumps(saved["plan"])))
        assert plan == bnnapps.plan_of(model)
        other = bnnapps.apply_plan(resnet(), plan)
        other.load_state_dict(saved["state"], strict=True)
    expected = model.eval()(IMAGES)
    assert torch.equal(other.eval()(IMAGES), expected)
    trained(other)
    bnnapps.restore(other)
    assert not any(isinstance(m, ResidualBlock) for m in other.modules())
    assert torch.equal(model(IMAGES), expected)


def test_every_convolution_of_every_base_is_binary_and_computes() -> None:
    model = binary()
    convs = {n: m for n, m in model.named_modules() if ".bases." in n and isinstance(m, nn.Conv2d)}
    assert len(convs) == 4 * 2 * 2
    ran: list[str] = []
    for name, conv in convs.items():
        assert isinstance(conv, BinaryConv2d)
        conv.register_forward_hook(lambda *_, n=name: ran.append(n))
    model.eval()(IMAGES)
    assert sorted(ran) == sorted(convs)


def test_bases_follow_the_rules_of_their_convolutions() -> None:
    rules = [
        Rule(types=["conv2d", "residual_block"], use={"method": "groupnet", "bases": 2}),
        Rule(match="layer1.0.conv2", keep="to see"),
        Rule(match="layer2.0.conv1", use="xnor"),
    ]
    plan = bnnapps.plan(resnet(), rules)
    specs = {e.name: e.spec for e in plan.entries}
    assert specs["layer1.0"].convs == (specs["layer1.0.conv1"], None)
    assert specs["layer2.0"].convs == (specs["layer2.0.conv1"], specs["layer2.0.conv2"])
    model = bnnapps.apply_plan(resnet(), plan)
    base = model.layer1[0].binary.bases[0]
    assert isinstance(base.conv1, BinaryConv2d)
    assert type(base.conv2) is nn.Conv2d


def test_operations_and_bits_count_k_times() -> None:
    one, many = binary(bases=1), binary(bases=4)
    single, several = (bnnapps.summarize(m, IMAGES[:1]) for m in (one, many))
    assert several.bops == 4 * single.bops
    assert several.flops == single.flops  # the shortcut branch is common to all bases
    assert several.params_1bit == 4 * single.params_1bit
    assert several.float_bytes == single.float_bytes
    rows = {row.name: row for row in several.layers}
    own, base = rows["layer2.0.conv1"], rows["layer2.0.binary.bases.1.conv1"]
    assert (own.bops, own.params_1bit, own.shape) == (base.bops, base.params_1bit, base.shape)
    norms = sum(2 * m.num_features for n, m in many.named_modules() if ".bases." in n and isinstance(m, nn.BatchNorm2d))
    filters = sum(m.out_channels for n, m in many.named_modules() if ".bases." in n and isinstance(m, nn.Conv2d))
    assert several.params_float == single.params_float + norms + filters + 4 * 4


def test_the_float_network_is_charged_for_one_base() -> None:
    real = bnnapps.summarize(resnet(), IMAGES[:1])
    for model in (binary(bases=4), bnnapps.binarize(resnet(), bpac(), example_inputs=IMAGES)):
        found = bnnapps.summarize(model, IMAGES[:1])
        assert sum(row.float_macs for row in found.layers) == real.flops
        costs = Costs.model_validate(found.to_dict())
        assert costs.float_macs == real.flops < costs.macs


def test_weights_of_bases_are_latent_for_the_optimizer() -> None:
    kinds = {name: kind for name, _, kind in parameter_kinds(binary())}
    assert kinds["layer1.0.binary.bases.1.conv2.weight"] == "latent"
    assert kinds["layer1.0.binary.scales"] == "parts"
    assert kinds["layer1.0.binary.bases.0.bn1.weight"] == "parts"


def test_a_later_stage_takes_over_what_the_bases_learned() -> None:
    first = trained(binary(weight=None))
    learned = learned_parts(first)
    floats = bnnapps.restore(copy.deepcopy(first))
    second = bnnapps.binarize(floats, {"method": "groupnet", "overrides": {"bases": 3}})
    hand_over(second, learned)
    before, after = first.state_dict(), second.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if "bases" in k or "scales" in k)
    assert any("bases" in k for k in after)


def test_bpac_gives_each_base_its_dilation() -> None:
    model = bnnapps.binarize(resnet(), bpac(), example_inputs=IMAGES)
    for stage, expected in (("layer2", [1] * 5), ("layer3", [2, 3, 4, 5, 6]), ("layer4", [6, 7, 8, 9, 10])):
        block = model.get_submodule(f"{stage}.0")
        for conv in ("conv1", "conv2"):
            found = [b.get_submodule(conv) for b in (block, *block.binary.bases)]
            assert [c.dilation for c in found] == [(d, d) for d in expected]
            assert [c.padding for c in found] == [(d, d) for d in expected]
    plain = resnet().eval()(IMAGES)
    assert model.eval()(IMAGES).shape == plain.shape


def test_frozen_blocks_get_frozen_bases() -> None:
    model = resnet()
    model.layer1.requires_grad_(False)
    bnnapps.binarize(model, {"method": "groupnet", "overrides": {"bases": 2}})
    assert not any(p.requires_grad for n, p in model.named_parameters() if n.startswith("layer1") and "bases" in n)
    assert all(p.requires_grad for n, p in model.named_parameters() if n.startswith("layer2"))


def test_hooks_of_a_block_stay_with_the_block() -> None:
    model, seen = resnet(), []
    model.layer1[0].conv1.register_forward_hook(lambda *_: seen.append(1))
    bnnapps.binarize(model, {"method": "groupnet", "overrides": {"bases": 3}})
    model.eval()(IMAGES)
    assert seen == [1]


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bases": 3, "dilations": [1, 2]}, "dilations has 2 numbers for 3 bases"),
        ({"bases": 2, "dilations": [0, 2]}, "every number must be at least 1"),
        ({"bases": 1, "gates": True}, "gates stand between several bases"),
        ({"bases": 0}, "greater than or equal to 1"),
    ],
)
def test_records_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BinarizeError, match=message):
        bnnapps.plan(resnet(), {"method": "groupnet", "overrides": changes})


def test_a_convolution_that_changes_the_size_cannot_be_dilated() -> None:
    model = resnet()
    model.layer1[0].conv1.padding = (0, 0)
    with pytest.raises(BinarizeError, match=r"'layer1.0' has a 3x3 convolution with padding \(0, 0\)"):
        bnnapps.plan(model, {"method": "groupnet", "overrides": {"bases": 1, "dilations": [2]}})


def test_blocks_of_timm_have_bases_too() -> None:
    model = timm.create_model("resnet18", num_classes=4)
    bnnapps.binarize(model, {"method": "groupnet", "overrides": {"bases": 2}})
    bnnapps.plan_of(model).assert_ran(model, IMAGES)
    assert isinstance(model.layer1[0].binary.bases[0], ResidualBlock)
    assert BlockSpec(bases=2).dilations is None
