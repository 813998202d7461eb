"""Every architecture: its published numbers, and what its published method makes of it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import bnnapps
from bnnapps.errors import UsageError
from bnnapps.models import ModelEntry, build, get_model, models, register_model
from bnnapps.nn import BinaryConv2d, BinaryLayer

NAMES = [entry.name for entry in models()]
SMALL_IMAGES = {"vgg_small": 8, "tfc": 8, "sfc": 8, "lfc": 8, "dwn": 8, "cnv": 32, "cnv_n": 32, "cnv_mu": 32}
by_name = pytest.mark.parametrize("name", NAMES)


def meta(name: str, **options: Any) -> nn.Module:
    """The model at its published size, without memory for its weights."""
    with torch.device("meta"):
        return build(name, get_model(name).num_classes, **options)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def statistics(model: nn.Module) -> int:
    return sum(b.numel() for n, b in model.named_buffers() if "running" in n)


def method(name: str) -> Any:
    """As published, or one that a float architecture is often seen with."""
    published = get_model(name).method
    return "bireal" if published is None else published


PARAMETERS = {
    "resnet18": 11_689_512,  # torchvision
    "resnet34": 21_797_672,  # torchvision
    "meliusnet22": 6_944_584,  # Larq Zoo
    # CIFAR: 16 * 27 + (6 * 9 * 16^2 + 16*32*9 + 5*9*32^2 + 32*64*9 + 5*9*64^2) + norms 2 * 688 + 64 * 10 + 10
    "resnet20": 432 + 13824 + 4608 + 46080 + 18432 + 184320 + 1376 + 650,
    "vgg_small": 9 * (3 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512) + 2 * 1792 + 81930,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_published(name: str) -> None:
    assert count(meta(name)) == PARAMETERS[name]


def test_larq_counts_the_statistics_of_norms_in_bireal() -> None:
    model = meta("bireal18")
    assert count(model) + statistics(model) == 11_699_112


@pytest.mark.parametrize(
    ("name", "widths", "published"),
    [
        ("quicknet_small", (32, 64, 256), 12_655_688),
        ("quicknet", (64, 128, 256), 13_234_088),
        ("quicknet_large", (64, 128, 256), 23_342_248),
    ],
)
def test_larq_counts_fixed_blur_kernels_and_every_norm_twice(
    name: str, widths: tuple[int, ...], published: int
) -> None:
    blur, norm_of_the_stem = 9 * sum(widths), 2 * (widths[0] // 4)
    assert count(meta(name)) + blur + norm_of_the_stem == published


@pytest.mark.parametrize(
    ("name", "published"), [("binary_densenet28", 4.12), ("binary_densenet37", 5.25), ("binary_densenet45", 7.54)]
)
def test_sizes_of_binary_densenets_with_the_statistics_of_norms(name: str, published: float) -> None:
    model = meta(name)
    one_bit = sum(m.weight.numel() for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and "stages" in n)
    stored = one_bit / 8 + 4 * (count(model) - one_bit + statistics(model))
    assert round(stored / 2**20, 2) == published


OPERATIONS = {
    # BOPs in 1e9 and FLOPs in 1e8 at 224x224, one for each multiply-accumulate
    "bireal18": (1.68, 1.38),
    "bireal34": (3.53, 1.38),
    "reactnet_a": (4.82, 0.12),
    "meliusnet29": (5.47, 1.29),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_as_published(name: str) -> None:
    """Maps of 32x32 images are 1/49 of those of 224x224; the linear layer runs once."""
    model = bnnapps.binarize(build(name, 1000), method(name))
    found = bnnapps.summarize(model, torch.randn(1, 3, 32, 32))
    linear = next(row.flops for row in found.layers if row.name == "fc")
    bops, flops = 49 * found.bops, 49 * (found.flops - linear) + linear
    assert (round(bops / 1e9, 2), int(flops / 1e6) / 100) == pytest.approx(OPERATIONS[name], abs=0.011)


@by_name
def test_it_trains_as_published_and_goes_back(name: str) -> None:
    torch.manual_seed(0)
    entry = get_model(name)
    size = SMALL_IMAGES.get(name, 32)
    options = {"image_size": size} if name in SMALL_IMAGES else {}
    model = build(name, 3, in_channels=1, **options)
    x = torch.randn(2, 1, size, size)
    assert model(x).shape == (2, 3)
    state = copy.deepcopy(model.state_dict())
    flags = [(n, id(p), p.requires_grad) for n, p in model.named_parameters()]
    bnnapps.binarize(model, method(name), example_inputs=x)
    plan = bnnapps.plan_of(model)
    plan.assert_ran(model, x)
    bnnapps.restore(model)
    assert [(n, id(p), p.requires_grad) for n, p in model.named_parameters()] == flags
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    bnnapps.apply_plan(model, plan)
    model.train()(x).square().sum().backward()
    for parameter, value in model.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, parameter
            assert value.grad.isfinite().all(), parameter
    latent = [w for layer in model.modules() if isinstance(layer, BinaryLayer) for _, w, _ in layer.latents()]
    assert latent
    assert all(w.grad is not None for w in latent)
    assert entry.title


@pytest.mark.parametrize("name", ["bireal18", "meliusnet22", "quicknet_small", "resnet20", "vgg_small"])
def test_copies_compute_the_same(name: str) -> None:
    options = {"image_size": 8} if name == "vgg_small" else {}
    model, x = build(name, 2, **options).eval(), torch.randn(1, 3, 8 if options else 32, 8 if options else 32)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(copy.deepcopy(model)(x), expected)
        assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
        assert torch.equal(model(x), expected)


def real(name: str) -> set[str]:
    """The layers that could be binary and stay real."""
    return {e.name for e in bnnapps.plan(meta(name), method(name)).kept}


def test_what_stays_real_as_published() -> None:
    transitions = {f"transitions.{i}.conv" for i in range(3)}
    assert real("binary_densenet28") == {"stem.0", "fc"} | transitions
    assert real("meliusnet22") == {"stem.0", "stem.3", "stem.6", "fc"} | transitions
    assert real("quicknet") == {"stem.0", "stem.3", "stem.5", "fc"} | {f"sections.{i}.conv" for i in (1, 3, 5)}
    assert real("reactnet_a") == {"stem.0", "fc"}
    assert real("vgg_small") == {"features.0", "fc"}
    assert real("bireal18") == {"conv1", "fc"} | {f"layer{i}.0.downsample.1" for i in (2, 3, 4)}


def test_signs_of_the_larq_models_have_their_windows() -> None:
    for name, limit, pad in (("quicknet", 1.25, 1), ("meliusnet29", 1.3, 0), ("binary_densenet45", 1.3, 0)):
        specs = {repr(e.spec): e.spec for e in bnnapps.plan(meta(name), method(name)).binarized}
        assert len(specs) == 1
        spec: Any = next(iter(specs.values()))
        assert (spec.weight.estimator.name, spec.weight.estimator.limit) == ("clip", limit)
        assert (spec.activation.estimator.name, spec.activation.estimator.limit) == ("clip", limit)
        assert (spec.pad_value, spec.weight.scale) == (pad, "none")


def test_real_to_binary_is_resnet18_with_a_prelu_and_its_own_rule() -> None:
    model = bnnapps.binarize(meta("real2binary18"), "real2binary")
    used = [p for p in model.parameters() if p.requires_grad]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.weight.requires_grad]
    assert sum(p.numel() for p in used) + sum(2 * m.num_features for m in norms) == 11_995_624  # Larq Zoo


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_torchvision_weights_fit(name: str) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name)
    shapes = {k: v.shape for k, v in theirs.state_dict().items()}
    assert {k: v.shape for k, v in meta(name).state_dict().items()} == shapes


def test_torchvision_weights_compute_the_same() -> None:
    theirs = torchvision.models.resnet18(num_classes=4).eval()
    ours = build("resnet18", 4).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", ["resnet18", "bireal18", "binary_densenet28", "meliusnet22"])
def test_the_cifar_stem_keeps_the_size(name: str) -> None:
    model = build(name, 10, stem="cifar").eval()
    seen: list[torch.Size] = []
    first = next(m for m in model.modules() if type(m).__name__ in ("BasicBlock", "BiRealBlock", "DenseLayer"))
    first.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    with torch.no_grad():
        model(torch.randn(1, 3, 16, 16))
    assert seen[0][-2:] == (16, 16)


def test_reactnet_resnet_is_a_bireal_net_with_rprelu() -> None:
    model = build("bireal18", 10, nonlinearity="rprelu")
    assert sum(type(m).__name__ == "RPReLU" for m in model.modules()) == 16
    bnnapps.binarize(model, "reactnet")
    assert sum(isinstance(m, BinaryConv2d) for m in model.modules()) == 16


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'resnet19'; the nearest are '.*resnet18'"):
        build("resnet19", 10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"name": "resnet20", "num_classes": 0}, "num_classes is 0; expected a whole number"),
        ({"name": "resnet20", "num_classes": 2, "in_channels": "3"}, "in_channels is '3'"),
        ({"name": "resnet18", "num_classes": 2, "steem": "cifar"}, "unknown option 'steem'; the nearest are 'stem'"),
        ({"name": "quicknet", "num_classes": 2, "stem": "cifar"}, "unknown option 'stem'.*has none"),
        ({"name": "resnet18", "num_classes": 2, "stem": "tiny"}, "stem is 'tiny'; expected one of imagenet, cifar"),
        ({"name": "resnet20", "num_classes": 2, "stem_activation": "gelu"}, "stem_activation is 'gelu'"),
        ({"name": "resnet20", "num_classes": 2, "shortcut": "none"}, "shortcut is 'none'"),
        ({"name": "bireal18", "num_classes": 2, "nonlinearity": "tanh"}, "nonlinearity is 'tanh'"),
        ({"name": "vgg_small", "num_classes": 2, "image_size": 30}, "image_size is 30.*multiple of 8"),
    ],
)
def test_bad_requests(call: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(**call)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'resnet20' is registered already"):
        register_model(ModelEntry("resnet20", "", "", nn.Linear, (1, 1), 1))
    assert [e.name for e in models()] == sorted(NAMES)
    assert {"num_classes", "in_channels"}.isdisjoint(get_model("resnet18").options)
