"""Residual blocks that a rule puts together anew, against the same computation written out."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.models.resnet import BasicBlock as TimmBasic
from timm.models.resnet import Bottleneck as TimmBottleneck
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.errors import BinarizeError
from bnnapps.methods import Method, method
from bnnapps.methods.targets import convolutional
from bnnapps.nn import BlockSpec, ConvSpec, LinearSpec, Maxout, RPReLU
from bnnapps.nn.blocks import BasicBlock as OurBlock
from bnnapps.nn.blocks import PadShortcut
from bnnapps.nn.layers import BinaryLayer, ResidualBlock
from bnnapps.nn.layers.base import parts_of_twin, to_binary, to_float

NAME = "block-test"


@pytest.fixture(autouse=True)
def _method() -> Iterator[None]:
    """A method with plain parts for convolutions and blocks, for this file alone."""
    layers: Any = {"linear": LinearSpec(), "conv": ConvSpec(), "block": BlockSpec(shortcut="conv", nonlinearity="none")}
    method.register_method(Method(NAME, "a test", "nobody", layers, convolutional(NAME)))
    yield
    del method._METHODS[NAME]


def projection(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "torchvision basic": lambda: BasicBlock(4, 4),
    "torchvision basic strided": lambda: BasicBlock(4, 6, 2, projection(4, 6, 2)),
    "torchvision bottleneck": lambda: Bottleneck(8, 2),
    "torchvision bottleneck widening": lambda: Bottleneck(4, 2, 1, projection(4, 8, 1)),
    "torchvision bottleneck strided": lambda: Bottleneck(4, 2, 2, projection(4, 8, 2)),
    "timm basic": lambda: TimmBasic(4, 4),
    "timm basic strided": lambda: TimmBasic(4, 6, 2, projection(4, 6, 2)),
    "timm bottleneck strided": lambda: TimmBottleneck(4, 2, 2, projection(4, 8, 2)),
    "ours": lambda: OurBlock(4, 4),
    "ours strided": lambda: OurBlock(4, 6, 2),
    "ours padded": lambda: OurBlock(4, 6, 2, projection=False),
}
by_block = pytest.mark.parametrize("kind", BLOCKS)


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    block = BLOCKS[kind]()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return block


def images(block: nn.Module, size: int = 6) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, block.conv1.in_channels, size, size)


def rewritten(block: nn.Module, spec: BlockSpec) -> ResidualBlock:
    to_binary(block, ResidualBlock, spec, parts_of_twin(ResidualBlock, block, spec))
    assert isinstance(block, ResidualBlock)
    return block


def bn(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """BatchNorm, from its definition; on the batch's own statistics in training."""
    if norm.training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, var = norm.running_mean, norm.running_var
    v = (1, -1, 1, 1)
    scaled = (x - mean.view(v)) / (var.view(v) + norm.eps).sqrt()
    return scaled * norm.weight.view(v) + norm.bias.view(v)


def written_out(block: nn.Module, spec: BlockSpec, x: Tensor) -> Tensor:
    """The block from its parameters, without calling any of its members."""
    convs = [m for m in (block.conv1, block.conv2, getattr(block, "conv3", None)) if m is not None]
    own = [m for m in (block.bn1, block.bn2, getattr(block, "bn3", None)) if m is not None]
    new = list(block.binary.norms)

    def f(i: int, z: Tensor) -> Tensor:
        if spec.nonlinearity == "none":
            return z
        if spec.nonlinearity in ("keep", "relu"):
            return z.clamp(min=0)
        if spec.nonlinearity == "hardtanh":
            return z.clamp(-1, 1)
        member = block.binary.nonlinearities[i]
        v = (1, -1, 1, 1)
        if spec.nonlinearity == "prelu":
            return torch.where(z >= 0, z, member.weight.view(v) * z)
        if spec.nonlinearity == "maxout":
            return torch.where(z >= 0, member.positive.view(v) * z, member.negative.view(v) * z)
        s = z - member.gamma.view(v)
        return torch.where(s >= 0, s, member.slope.view(v) * s) + member.zeta.view(v)

    def shortcut(z: Tensor) -> Tensor:
        branch = block.downsample
        if branch is None:
            return z
        stride = block.stride
        if spec.downsample == "avgpool" and stride > 1:
            z = F.avg_pool2d(z, stride)
        elif stride > 1:
            z = z[:, :, ::stride, ::stride]
        if isinstance(branch, PadShortcut):
            extra = branch.out_channels - z.shape[1]
            blank = z.new_zeros(z.shape[0], extra // 2, *z.shape[2:])
            return torch.cat([blank, z, blank], 1)
        return bn(branch[1], torch.einsum("nchw,oc->nohw", z, branch[0].weight[:, :, 0, 0]))

    y = x
    for i, conv in enumerate(convs):
        stride = block.stride if i == len(convs) - 2 else 1
        z = bn(new[i], y) if spec.norm == "before" else y
        z = F.conv2d(z, conv.weight, None, stride, conv.kernel_size[0] // 2)
        if spec.nonlinearity_at == "before_norm":
            z = f(i, z)
        if spec.norm == "after":
            z = bn(own[i], z)
        add: Tensor | None = None
        if spec.shortcut == "block":
            add = shortcut(x) if i == len(convs) - 1 else None
        elif len(convs) == 2:
            add = shortcut(x) if i == 0 else y
        elif i > 0:
            add = shortcut(x) if i == 2 else (y if stride == 1 else None)
        if add is None:
            y = z if spec.nonlinearity_at == "before_norm" else f(i, z)
        elif spec.nonlinearity_at == "after_add":
            y = f(i, z + add)
        else:
            y = (f(i, z) if spec.nonlinearity_at == "before_add" else z) + add
    return y


SPECS = [
    BlockSpec(shortcut=s, norm=n, nonlinearity=a, nonlinearity_at=at, downsample=d)  # type: ignore[arg-type]
    for s, n, (a, at), d in itertools.product(
        ("block", "conv"),
        ("after", "before"),
        (
            ("keep", "after_add"),
            ("none", "after_add"),
            ("relu", "before_add"),
            ("hardtanh", "after_add"),
            ("prelu", "before_norm"),
            ("prelu", "before_add"),
            ("rprelu", "after_add"),
            ("maxout", "after_add"),
        ),
        ("keep", "avgpool"),
    )
    if not (n == "before" and at == "before_norm")
]


@by_block
def test_a_rewritten_block_computes_what_its_record_says(kind: str) -> None:
    block = make(kind)
    for spec in SPECS:
        twin = rewritten(copy.deepcopy(block), spec)
        for parameter in twin.binary.parameters():
            nn.init.uniform_(parameter, -1, 1)
        for training in (True, False):
            twin.train(training)
            x = images(twin)
            expected = written_out(twin, spec, x)
            assert torch.allclose(twin(x), expected, atol=1e-5), (spec, training)


@by_block
def test_the_default_record_changes_nothing(kind: str) -> None:
    block = make(kind)
    twin = rewritten(copy.deepcopy(block), BlockSpec())
    x = images(block)
    for training in (True, False):
        assert torch.equal(twin.train(training)(x), block.train(training)(x))
    assert [n for n, _ in twin.named_parameters()] == [n for n, _ in block.named_parameters()]


@by_block
def test_going_back_is_exact_for_every_record(kind: str) -> None:
    block = make(kind)
    block.bn1.weight.requires_grad_(False)
    before = [(n, id(p), p.requires_grad) for n, p in block.named_parameters()]
    members = [(n, type(m), sorted(m.__dict__), repr(m)) for n, m in block.named_modules()]
    state, x = copy.deepcopy(block.state_dict()), images(block)
    expected = block.eval()(x)
    for spec in SPECS:
        twin = rewritten(block, spec)
        to_float(twin)
        assert [(n, id(p), p.requires_grad) for n, p in block.named_parameters()] == before
        assert [(n, type(m), sorted(m.__dict__), repr(m)) for n, m in block.named_modules()] == members
        assert all(torch.equal(v, state[k]) for k, v in block.state_dict().items())
        assert torch.equal(block(x), expected)


@by_block
def test_what_rests_takes_no_gradient_and_all_else_does(kind: str) -> None:
    for spec in SPECS:
        block = rewritten(make(kind), spec)
        block(images(block)).square().sum().backward()
        resting = {id(p) for p in block.resting()}
        for name, parameter in block.named_parameters():
            assert parameter.requires_grad == (id(parameter) not in resting), (name, spec)
            assert (parameter.grad is not None) == parameter.requires_grad, (name, spec)
        names = {n for n, p in block.named_parameters() if id(p) in resting}
        norms = {n for n, _ in block.named_parameters() if n.startswith("bn")}
        assert names == (norms if spec.norm == "before" else set())


@pytest.mark.parametrize("size", [5, 6, 7])
@pytest.mark.parametrize("kind", ["torchvision basic strided", "ours padded", "timm bottleneck strided"])
def test_a_pooled_branch_has_the_size_of_the_strided_convolution(kind: str, size: int) -> None:
    block = rewritten(make(kind), BlockSpec(downsample="avgpool"))
    assert block(images(block, size)).shape[-1] == (size + 1) // 2
    x = torch.arange(25.0).view(1, 1, 5, 5)
    pooled = block.binary.pool(x)
    assert pooled[0, 0, 2, 2] == 24
    assert pooled[0, 0, 2, 0] == (20 + 21) / 2
    assert pooled[0, 0, 0, 0] == (0 + 1 + 5 + 6) / 4


def test_nonlinearities_follow_their_formulas() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0]).view(1, 3, 1).requires_grad_()
    maxout = Maxout(3)
    assert maxout(x).flatten().tolist() == [-0.5, 0.0, 3.0]
    maxout(x).sum().backward()
    assert maxout.positive.grad.tolist() == [0, 0, 3]
    assert maxout.negative.grad.tolist() == [-2, 0, 0]
    assert x.grad.flatten().tolist()[::2] == [0.25, 1.0]
    assert RPReLU(3)(x).flatten().tolist() == [-0.5, 0.0, 3.0]


class Halve(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


@pytest.mark.parametrize("shortcut", ["block", "conv"])
def test_further_members_of_timm_stay_in_their_places(shortcut: Any) -> None:
    block = TimmBasic(4, 4, 2, projection(4, 4, 2), attn_layer="se", aa_layer=nn.AvgPool2d, drop_path=Halve()).eval()
    x = images(block)
    spec = BlockSpec(shortcut=shortcut, nonlinearity="none")
    twin = rewritten(copy.deepcopy(block), spec)
    first = block.aa(block.bn1(block.conv1(x)))
    if shortcut == "conv":
        first = first / 2 + block.downsample(x)
        expected = block.se(block.bn2(block.conv2(first))) / 2 + first
    else:
        expected = block.se(block.bn2(block.conv2(first))) / 2 + block.downsample(x)
    assert torch.allclose(twin(x), expected, atol=1e-6)
    same = rewritten(copy.deepcopy(block), BlockSpec())
    assert torch.equal(same(x), block(x))


def test_a_block_that_narrows_inside_keeps_one_shortcut() -> None:
    block = rewritten(TimmBasic(4, 4, reduce_first=2), BlockSpec(shortcut="conv"))
    assert block.binary.added == ("nothing", "branch")
    assert block(images(block)).shape == (2, 4, 6, 6)


@pytest.mark.parametrize("down", ["avg_down", "3x3"])
def test_a_branch_of_another_form_stays(down: str) -> None:
    options: dict[str, Any] = {"avg_down": True} if down == "avg_down" else {"down_kernel_size": 3}
    block = timm.create_model("resnet18", **options).layer2[0]
    branch = repr(block.downsample)
    twin = rewritten(block, BlockSpec(downsample="avgpool"))
    assert twin.binary.pool is None
    assert repr(twin.downsample) == branch


MODELS: dict[str, Callable[[], nn.Module]] = {
    "torchvision": lambda: torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5),
    "torchvision bottleneck": lambda: torchvision.models.ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5),
    "timm": lambda: timm.models.resnet.ResNet(TimmBasic, [1, 1, 1, 1], num_classes=5),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    "spec", [SPECS[0], BlockSpec(shortcut="conv", norm="before", nonlinearity="prelu", downsample="avgpool")], ids=str
)
def test_a_rule_on_the_type_rewrites_a_whole_model(kind: str, spec: BlockSpec) -> None:
    torch.manual_seed(0)
    model, x = MODELS[kind](), torch.randn(2, 3, 32, 32)
    state = copy.deepcopy(model.state_dict())
    flags = [(n, id(p), p.requires_grad) for n, p in model.named_parameters()]
    use = {"method": NAME, **spec.model_dump()}
    rules = [
        Rule(types=["conv2d"], use=NAME),
        Rule(types=["residual_block"], use=use),
        Rule(match="*.downsample.*", keep="real"),
    ]
    plan = bnnapps.plan(model, rules, example_inputs=x)
    blocks = [e for e in plan.binarized if e.type == "residual_block"]
    assert [(e.name, e.spec, e.reason) for e in blocks] == [(f"layer{i}.0", spec, "rule 2") for i in (1, 2, 3, 4)]
    assert next(e for e in plan.entries if e.name == "conv1").reason == "keep_first: 1"
    bnnapps.binarize(model, rules)
    plan.assert_ran(model, x)
    model.train()(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.eval()
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), expected)
        bnnapps.restore(other)
        assert not any(isinstance(m, BinaryLayer) for m in other.modules())
    assert torch.equal(model(x), expected)
    trained = {k: v for k, v in model.state_dict().items() if ".binary." not in k}
    bnnapps.restore(model)
    assert [(n, id(p), p.requires_grad) for n, p in model.named_parameters()] == flags
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(v, trained[k]) for k, v in model.state_dict().items())
    assert all(
        torch.equal(v, state[k]) for k, v in model.state_dict().items() if "running" not in k and "num_" not in k
    )


def test_a_method_with_a_block_takes_residual_blocks_by_its_name_alone() -> None:
    model = MODELS["torchvision"]()
    plan = bnnapps.plan(model, NAME)
    assert {e.type for e in plan.binarized} == {"conv2d", "residual_block"}
    assert "shortcut per conv" in str(plan)
    plain = bnnapps.plan(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)), NAME)
    assert {e.type for e in plain.binarized} == {"conv2d"}


def test_keep_counts_pass_blocks_by() -> None:
    model = MODELS["torchvision"]()
    rules = [Rule(types=["conv2d", "linear", "residual_block"], use=NAME)]
    plan = bnnapps.plan(model, rules, keep_first=2, keep_last=2)
    kept = {e.name for e in plan.kept}
    assert kept == {"conv1", "layer1.0.conv1", "fc", "layer4.0.downsample.0"}


def test_an_override_of_a_convolution_is_left_to_the_convolutions() -> None:
    use = {"method": NAME, "activation": None, "shortcut": "block"}
    plan = bnnapps.plan(MODELS["torchvision"](), [Rule(types=["conv2d", "residual_block"], use=use)])
    specs = {e.type: e.spec for e in plan.binarized}
    assert specs["conv2d"].activation is None
    assert specs["residual_block"].shortcut == "block"


def test_whether_an_input_is_never_negative_is_seen_in_the_rewritten_block() -> None:
    model, x = MODELS["torchvision"](), torch.randn(2, 3, 32, 32)
    warned = bnnapps.plan(model, NAME, example_inputs=x).warnings
    assert len(warned) == 1
    assert warned[0].startswith("'layer1.0.conv1': the input is never negative")  # behind the stem's ReLU
    rules = [Rule(types=["conv2d", "residual_block"], use={"method": NAME, "norm": "before"})]
    assert not bnnapps.plan(model, rules, example_inputs=x).warnings
    assert not any(isinstance(m, BinaryLayer) for m in model.modules())


def test_a_subclass_is_no_residual_block() -> None:
    class Other(BasicBlock):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(BinarizeError, match="no layer of these types"):
        bnnapps.plan(nn.Sequential(Other(4, 4)), [Rule(types=["residual_block"], use=NAME)])


def test_norm_before_needs_batch_norms() -> None:
    block = BasicBlock(4, 4, norm_layer=lambda c: nn.GroupNorm(2, c))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), block)
    use = {"method": NAME, "norm": "before"}
    with pytest.raises(BinarizeError, match=r"'1' normalises by GroupNorm.*use norm 'after'"):
        bnnapps.plan(model, [Rule(types=["residual_block"], use=use)])
    assert type(block) is BasicBlock


def test_a_record_without_a_place_for_its_norm_is_refused() -> None:
    use = {"method": NAME, "norm": "before", "nonlinearity_at": "before_norm"}
    with pytest.raises(BinarizeError, match="nonlinearity_at is 'before_norm', but norm 'before'"):
        bnnapps.plan(MODELS["torchvision"](), [Rule(types=["residual_block"], use=use)])


def test_what_rests_is_not_stored() -> None:
    x = torch.randn(1, 3, 32, 32)
    model = MODELS["torchvision"]()
    plain = bnnapps.summarize(model, x)
    bnnapps.binarize(model, [Rule(types=["residual_block"], use={"method": NAME, "norm": "before"})])
    before = bnnapps.summarize(model, x)
    own = sum(
        2 * m.num_features for n, m in model.named_modules() if n.split(".")[-1] in ("bn1", "bn2") and "layer" in n
    )
    new = sum(p.numel() for n, p in model.named_parameters() if ".binary." in n)
    assert before.params_float == plain.params_float - own + new
    assert before.float_bytes == plain.float_bytes
    rows = {row.name: row for row in before.layers}
    assert rows["layer1.0"].params_float == 2 * (64 + 64)
    assert rows["layer1.0.conv1"].flops == 64 * 64 * 9 * 8 * 8
