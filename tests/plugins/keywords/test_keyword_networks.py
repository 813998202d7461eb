from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import bnnapps
from bnnapps.plugins.keywords.dfsmn import DFSMN, MemoryLayer, at_option, layers_of_option, share_ends
from bnnapps.plugins.keywords.fsmn import FSMN, CompactLayer, VectorLayer
from bnnapps.plugins.keywords.small_networks import DSCNN, TCResNet

PICTURES = torch.randn(3, 1, 32, 32)


def test_the_layers_of_each_depth() -> None:
    assert layers_of_option(0) == tuple(range(8))
    assert layers_of_option(1) == (1, 3, 5, 7)
    assert layers_of_option(2) == (3, 7)
    assert layers_of_option(3) == (7,)
    assert layers_of_option(1, 4) == (1, 3)
    for option, depth in ((4, 8), (-1, 8), (1, 3)):
        with pytest.raises(ValueError, match=f"option {option} of a network of {depth} layers"):
            layers_of_option(option, depth)


def test_dfsmn_has_the_published_shapes() -> None:
    network = DFSMN(12)
    assert network(PICTURES).shape == (3, 12)
    layer = network.layers[0]
    assert isinstance(layer, MemoryLayer)
    assert layer.memory.weight.shape == (128, 1, 5)  # depthwise: 640 weights, not 81,920
    assert layer.memory.weight.numel() == 640
    assert layer.widen.weight.shape == (256, 128, 1)
    assert network.project.in_features == 256
    assert network.classifier.in_features == 128 * 8
    convolutions = sum(p.numel() for n, p in network.named_parameters() if "conv" not in n and p.dim() > 1)
    by_hand = 16 * 25 + 16 * 32 * 25 + 256 * 128 + 8 * (640 + 2 * 128 * 256) + 1024 * 12
    assert convolutions == by_hand


def test_a_memory_layer_is_its_formula() -> None:
    torch.manual_seed(0)
    layer = MemoryLayer(4, 6, left=2, right=1, nonlinearity="relu").eval()
    x = torch.randn(2, 4, 7)
    weight = layer.memory.weight[:, 0]
    rows = torch.zeros_like(x)
    for t in range(7):
        for k in range(4):  # frames t - 2 to t + 1
            if 0 <= t + k - 2 < 7:
                rows[:, :, t] += weight[:, k] * x[:, :, t + k - 2]
    scale = (1 + layer.memory_norm.eps) ** -0.5
    m = (rows * scale).relu() + x
    wide = (torch.einsum("oc,nct->not", layer.widen.weight[:, :, 0], m) * scale).relu()
    y = (torch.einsum("oc,nct->not", layer.narrow.weight[:, :, 0], wide) * scale).relu() + m
    torch.testing.assert_close(layer(x), y)


def remembered(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Two frames before, the frame itself, one after."""
    found = torch.zeros_like(x)
    for t in range(x.shape[2]):
        for k in range(4):
            if 0 <= t + k - 2 < x.shape[2]:
                found[:, :, t] += weight[:, 0, k] * x[:, :, t + k - 2]
    return found


def test_layers_of_fsmn_are_their_formulas() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 7)
    vector = VectorLayer(6, 0, 2, 1, "relu").eval()
    a, b = vector.of_input.weight[:, :, 0], vector.of_memory.weight[:, :, 0]
    total = torch.einsum("oc,nct->not", a, x)
    total = total + torch.einsum("oc,nct->not", b, remembered(x, vector.memory.conv.weight))
    torch.testing.assert_close(vector(x), (total * (1 + vector.norm.eps) ** -0.5).relu())
    compact = CompactLayer(4, 6, 2, 1, "relu").eval()
    low = torch.einsum("oc,nct->not", compact.project.weight[:, :, 0], x)
    low = low + remembered(low, compact.memory.conv.weight)
    total = torch.einsum("oc,nct->not", compact.widen.weight[:, :, 0], low)
    torch.testing.assert_close(compact(x), (total * (1 + compact.norm.eps) ** -0.5).relu())


@pytest.mark.parametrize("compact", [False, True])
def test_fsmn_learns_on_every_weight(compact: bool) -> None:
    network = FSMN(5, compact=compact, channels=8, hidden=16, depth=2)
    assert network(PICTURES).shape == (3, 5)
    bnnapps.binarize(network, "bifsmnv2")
    network(PICTURES).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert network.running() == (0, 1)


def test_a_thinner_network_runs_fewer_layers_with_norms_of_its_own() -> None:
    torch.manual_seed(0)
    network = DFSMN(5, options=3).train()
    ran: list[int] = []
    for i, layer in enumerate(network.layers):
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
    for option in range(3):
        with at_option(network, option) as thin:
            thin(PICTURES)
        assert network.option == 0
    assert ran == [*range(8), 1, 3, 5, 7, 3, 7]
    counts = [[int(n.num_batches_tracked) for n in layer.ends.norms] for layer in network.layers]
    assert counts == [[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 1]]
    with pytest.raises(ValueError, match="option 3: the network has the options 0 to 2"):
        at_option(network, 3)


def test_every_norm_may_have_its_own_statistics_at_each_depth() -> None:
    torch.manual_seed(0)
    network = DFSMN(5, options=3, channels=8, hidden=8, own_norms=True).train()
    with at_option(network, 2):
        network(5 * PICTURES)
    last = network.layers[7]
    assert isinstance(last, MemoryLayer)
    counts = [[int(norm.num_batches_tracked) for norm in last.norms(o)] for o in range(3)]  # type: ignore[arg-type]
    assert counts == [[0, 0], [0, 0], [1, 1]]
    with torch.no_grad():
        last.memory_norm.weight.fill_(3.0)
    share_ends([network])
    assert all((last.norms(o)[0].weight == 3).all() for o in range(3))  # type: ignore[operator, union-attr]
    keys = DFSMN(5, options=3, channels=8, hidden=8).state_dict().keys()
    assert {k for k in network.state_dict() if "thin_norms" not in k} == keys


def test_the_ends_of_all_options_can_start_from_the_first() -> None:
    network = DFSMN(5, options=2, channels=8, hidden=8)
    with torch.no_grad():
        network.layers[3].ends.norms[0].weight.fill_(3.0)  # type: ignore[union-attr, index]
    share_ends([network])
    assert (network.layers[3].ends.norms[1].weight == 3).all()  # type: ignore[union-attr, index]


def test_sizes_and_names_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="pictures of 30x32"):
        DFSMN(5, rows=30)
    with pytest.raises(ValueError, match="nonlinearity is 'gelu'"):
        DFSMN(5, nonlinearity="gelu")
    with pytest.raises(ValueError, match="option 4 of a network of 8 layers"):
        DFSMN(5, options=5)


@pytest.mark.parametrize("method", ["bnn", "xnor", "dorefa", "bireal", "irnet", "bifsmnv2"])
@pytest.mark.parametrize(
    ("build", "pictures", "real"),
    [
        (lambda: DFSMN(5, options=2), PICTURES, {"front.0", "classifier"}),
        (lambda: FSMN(5, compact=True, depth=2), PICTURES, {"front.0", "classifier"}),
        (lambda: TCResNet(5), torch.randn(3, 1, 40, 100), {"stem", "classifier"}),
        (lambda: DSCNN(5), torch.randn(3, 1, 40, 51), {"stem.0", "classifier"}),
    ],
    ids=["dfsmn", "fsmn", "tc_resnet", "ds_cnn"],
)
def test_rules_make_everything_between_the_first_and_the_last_layer_binary(build, pictures, real, method) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    network: nn.Module = build()
    state = copy.deepcopy(network.state_dict())
    layers = {n for n, m in network.named_modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)}
    plan = bnnapps.plan(network, method)
    short = {n for n in layers if ".downsample." in n}
    assert {e.name for e in plan.binarized} == layers - real - short
    bnnapps.apply_plan(network, plan)
    plan.assert_ran(network, pictures)
    network.train()
    network(pictures).square().sum().backward()
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.Conv2d) and m.groups > 1]
    assert all(m.weight.shape[1] == 1 for m in depthwise)  # groups are kept
    bnnapps.restore(network)
    weights = {k: v for k, v in network.state_dict().items() if "running" not in k and "num_batches" not in k}
    assert all(torch.equal(state[k], v) for k, v in weights.items())
