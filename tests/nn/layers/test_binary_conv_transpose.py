from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import kept_bytes
from torch import Tensor, nn

import bnnapps
from bnnapps.errors import BinarizeError
from bnnapps.nn import (
    ActivationSpec,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    ConvSpec,
    WeightSpec,
)
from bnnapps.nn import functional as BF
from bnnapps.nn.functional.transposed import reach, swap_channels
from bnnapps.nn.layers.base import to_float
from bnnapps.nn.spec import OutputSpec

FLOAT: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BINARY: dict[int, Any] = {1: BinaryConvTranspose1d, 2: BinaryConvTranspose2d, 3: BinaryConvTranspose3d}
CONVOLVE: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
SIZE = (5, 4, 3)
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no bias": {"bias": False},
    "stride": {"stride": 2},
    "padding": {"padding": 1},
    "output padding": {"stride": 3, "output_padding": 2},
    "dilation": {"dilation": 2, "padding": 1},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4, "out_channels": 4},
    "depthwise with a multiplier": {"groups": 4, "out_channels": 8, "stride": 2},
    "all at once": {
        "stride": 2,
        "padding": 1,
        "output_padding": 1,
        "dilation": 2,
        "groups": 2,
        "bias": False,
    },
    "kernel of one": {"kernel_size": 1},
    "gaps": {"kernel_size": 1, "stride": 2},
}
by_options = pytest.mark.parametrize("name", OPTIONS)
by_dimension = pytest.mark.parametrize("dims", [1, 2, 3])


def pair(dims: int, spec: ConvSpec | None = None, **options: Any) -> tuple[Any, Any, Tensor]:
    """A float layer, its twin with the same real weights, and inputs, in double precision."""
    arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "dtype": torch.float64} | options
    layer, twin = FLOAT[dims](**arguments), BINARY[dims](**arguments, spec=spec)
    twin.load_state_dict(layer.state_dict())
    return layer, twin, torch.randn(2, 4, *SIZE[:dims], dtype=arguments["dtype"])


def filters(weight: Tensor, groups: int) -> list[tuple[tuple[Any, ...], Tensor]]:
    """Where the weight of each output channel lies, and what it holds; one loop, no reshaping."""
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    places = [
        (slice(g * rows, (g + 1) * rows), column) for g, column in itertools.product(range(groups), range(columns))
    ]
    return [(place, weight[place]) for place in places]


def scaled_signs(weight: Tensor, groups: int) -> Tensor:
    """sign(W) mean|W|, the mean over what belongs to one output channel."""
    result = torch.empty_like(weight)
    for place, one in filters(weight, groups):
        result[place] = BF.sign(one) * one.abs().mean()
    return result


def run(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    geometry = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    result: Tensor = CONVOLVE[len(layer.kernel_size)](x, weight, bias, *geometry)
    return result


@by_dimension
@by_options
def test_equals_the_float_layer_on_signs(dims: int, name: str) -> None:
    layer, twin, x = pair(dims, **OPTIONS[name], dtype=torch.float32)
    for conv in (layer, twin):
        with torch.no_grad():
            conv.weight.copy_(BF.sign(layer.weight))
            if conv.bias is not None:
                conv.bias.copy_(torch.round(layer.bias * 8) / 8)  # sums of such numbers are exact in any order
    x = BF.sign(x)
    assert torch.equal(twin(x), layer(x))
    with torch.no_grad():
        assert torch.equal(twin(x), layer(x))
    assert torch.equal(twin(x[0]), layer(x[0]))


@by_dimension
@by_options
def test_scales_belong_to_output_channels(dims: int, name: str) -> None:
    layer, twin, x = pair(dims, **OPTIONS[name])
    weight = scaled_signs(layer.weight.detach(), layer.groups)
    torch.testing.assert_close(twin(x), run(layer, BF.sign(x), weight, layer.bias))
    torch.testing.assert_close(twin.binary_tensors()["weight"], weight)
    assert torch.equal(twin(x[1]), twin(x)[1])


@by_dimension
@by_options
def test_real_operands_make_the_float_layer(dims: int, name: str) -> None:
    layer, twin, x = pair(dims, ConvSpec(weight=None, activation=None), **OPTIONS[name])
    torch.testing.assert_close(twin(x), layer(x))
    assert torch.equal(twin.binary_tensors()["weight"], layer.weight)


@by_dimension
@by_options
def test_gradients_are_those_of_the_float_convolution_of_the_codes(dims: int, name: str) -> None:
    """With scale * sign as one quantizer ("straight"), the weight receives the gradient of scale * code."""
    layer, twin, x = pair(dims, **OPTIONS[name])
    with torch.no_grad():
        twin.weight.mul_(1.5 / twin.weight.abs().max())
    latent = twin.weight.detach()
    x_twin, x_codes = x.clone().requires_grad_(), BF.sign(x).requires_grad_()
    weight = scaled_signs(latent, layer.groups).requires_grad_()
    expected = run(layer, x_codes, weight)
    upstream = torch.randn_like(expected)
    expected.backward(upstream)
    twin(x_twin).backward(upstream)
    assert x_twin.grad is not None
    assert x_codes.grad is not None
    assert weight.grad is not None
    assert not (latent.abs() <= 1).all()
    torch.testing.assert_close(x_twin.grad, (x.abs() <= 1) * x_codes.grad)
    torch.testing.assert_close(twin.weight.grad, (latent.abs() <= 1) * weight.grad)
    if layer.bias is not None:
        torch.testing.assert_close(twin.bias.grad, upstream.sum([0, *range(2, 2 + dims)]))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "weight",
    [
        WeightSpec(transform="centre"),
        WeightSpec(transform="centre", over="channel", scale_of="latent"),
        WeightSpec(transform="standardize", scale="power_of_two"),
        WeightSpec(scale_gradient="full"),
        WeightSpec(scale="affine"),
        WeightSpec(kind="ternary", scale_over="filter"),
        WeightSpec(scale_over="layer"),
        WeightSpec(transform="recu"),
    ],
    ids=str,
)
def test_every_transform_sees_the_filters_of_the_equal_convolution(weight: WeightSpec, groups: int) -> None:
    """A 1x1 transposed convolution is a 1x1 convolution with the channels of its weight swapped."""
    spec = ConvSpec(weight=weight)
    twin = BinaryConvTranspose2d(4, 6, 1, groups=groups, dtype=torch.float64, spec=spec)
    same = bnnapps.nn.BinaryConv2d(4, 6, 1, groups=groups, dtype=torch.float64, spec=spec)
    with torch.no_grad():
        for g in range(groups):
            rows, columns = 4 // groups, 6 // groups
            block = twin.weight[g * rows : (g + 1) * rows]
            same.weight[g * columns : (g + 1) * columns] = block.transpose(0, 1)
        assert same.bias is not None
        assert twin.bias is not None
        same.bias.copy_(twin.bias)
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    upstream = torch.randn(3, 6, 2, 2, dtype=torch.float64)
    ours, theirs = twin(x), same(x)
    torch.testing.assert_close(ours, theirs)
    ours.backward(upstream)
    theirs.backward(upstream)
    assert twin.weight.grad is not None
    assert same.weight.grad is not None
    torch.testing.assert_close(twin.weight.grad, swap_channels(same.weight.grad, groups))


def test_output_size_chooses_among_the_sizes_that_a_stride_leaves_open() -> None:
    layer, twin, x = pair(2, stride=3, groups=2)
    for size in ([15, 12], [17, 13], [2, 6, 16, 14]):
        expected = run(layer, BF.sign(x), scaled_signs(layer.weight.detach(), 2), layer.bias)
        found = twin(x, output_size=size)
        assert found.shape[2:] == tuple(size[-2:])
        assert found.shape == layer(x, output_size=size).shape
        torch.testing.assert_close(found[..., :14, :11], expected[..., :14, :11])
    assert twin(x[0], [16, 13]).shape == (6, 16, 13)
    for wrong in ([14, 12], [18, 12], [15]):
        with pytest.raises(ValueError, match="output"):
            twin(x, wrong)


@pytest.mark.parametrize("pad_value", [-1, 1])
def test_a_pad_value_has_no_meaning(pad_value: int) -> None:
    spec = ConvSpec(pad_value=pad_value)  # type: ignore[arg-type]
    with pytest.raises(BinarizeError, match=f"pad_value is {pad_value}, but a transposed convolution pads nothing"):
        BinaryConvTranspose2d(4, 6, 3, padding=1, spec=spec)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 6, 3))
    rules = [{"types": ["conv2d", "conv_transpose2d"], "use": {"method": "bnn", "pad_value": pad_value}}]
    with pytest.raises(BinarizeError, match="but '1', a transposed convolution, pads nothing"):
        bnnapps.plan(model, rules, keep_first=0, keep_last=0)
    assert [type(m) for m in model] == [nn.Conv2d, nn.ConvTranspose2d]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 3), st.integers(0, 2))
def test_reach_counts_pairs_of_input_and_tap(
    size: int, kernel: int, stride: int, padding: int, dilation: int, extra: int
) -> None:
    out = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
    if out < 1:
        return
    expected = [
        sum(i * stride - padding + k * dilation == o for i in range(size) for k in range(kernel)) for o in range(out)
    ]
    found = reach([size], [out], [kernel], [stride], [padding], [dilation], torch.device("cpu"))
    assert found.tolist() == expected


def test_reach_is_a_product_over_directions() -> None:
    found = reach((3, 4), (5, 9), (3, 2), (1, 2), (0, 0), (1, 2), torch.device("cpu"))
    one = torch.ones(1, 1, 3, 4)
    expected = F.conv_transpose2d(one, torch.ones(1, 1, 3, 2), stride=(1, 2), dilation=(1, 2))
    assert torch.equal(found.float(), expected[0, 0])


@by_dimension
@pytest.mark.parametrize("name", ["default", "all at once", "gaps", "output padding"])
def test_xnor_multiplies_by_the_mean_magnitude_of_what_reaches_a_position(dims: int, name: str) -> None:
    spec = ConvSpec(activation=ActivationSpec(scale="input_map"))
    layer, twin, x = pair(dims, spec, **OPTIONS[name])
    magnitude = x.abs().mean(1, keepdim=True)
    box = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64)
    geometry = (None, layer.stride, layer.padding, layer.output_padding, 1, layer.dilation)
    sums, counts = (CONVOLVE[dims](m, box, *geometry) for m in (magnitude, torch.ones_like(magnitude)))
    k = torch.where(counts > 0, sums / counts, 0.0)
    expected = run(layer, BF.sign(x), scaled_signs(layer.weight.detach(), layer.groups)) * k
    if layer.bias is not None:
        expected = expected + layer.bias.view(-1, *[1] * dims)
    torch.testing.assert_close(twin(x), expected)
    torch.testing.assert_close(twin(x[0]), expected[0])


def test_input_of_one_magnitude_loses_nothing_to_the_map() -> None:
    """Where |x| is constant, x = |x| sign(x), so the map makes real activations of the signs again."""
    layer, twin, x = pair(2, ConvSpec(weight=None, activation=ActivationSpec(scale="input_map")), stride=2)
    x = BF.sign(x) * 0.75
    torch.testing.assert_close(twin(x), layer(x))


@by_options
@pytest.mark.parametrize("operands", ["weight", "activation", "both"])
def test_affine_codes_are_the_convolution_of_their_values(name: str, operands: str) -> None:
    weight = WeightSpec(scale="affine") if operands != "activation" else WeightSpec()
    activation = ActivationSpec(scale="affine") if operands != "weight" else ActivationSpec()
    _, twin, x = pair(2, ConvSpec(weight=weight, activation=activation), **OPTIONS[name])
    if operands != "weight":
        with torch.no_grad():
            twin.binary.activation.alpha.fill_(0.6)
            twin.binary.activation.beta.fill_(0.3)
    values = twin.binary.activation(x).values()
    torch.testing.assert_close(twin(x), run(twin, values, twin.binary_tensors()["weight"], twin.bias))
    torch.testing.assert_close(twin(x[0]), twin(x)[0])


def test_learned_parts_have_the_sizes_of_the_input() -> None:
    spec = ConvSpec(activation=ActivationSpec(shift="channel", scale="elastic"))
    layer, twin, x = pair(2, spec, groups=2)
    activation = twin.binary.activation
    assert activation.shift.shape == (4,)
    twin(x)
    torch.testing.assert_close(activation.alpha.double(), 2 * x.abs().mean().view(1))
    with torch.no_grad():
        activation.shift[1] = 100.0
    ones = x.clone()
    ones[:, 1] = 1.0
    assert torch.equal(twin.eval()(x), twin(ones))
    weight = scaled_signs(layer.weight.detach(), 2) * activation.alpha.detach()
    torch.testing.assert_close(twin(x), run(layer, BF.sign(ones), weight, layer.bias))


@pytest.mark.parametrize("scale", ["channel", "rank_one", "gate"])
def test_output_scales_multiply_before_the_bias(scale: str) -> None:
    output = OutputSpec(scale=scale, size=(7, 6), initial="mean_abs", reduction=2)  # type: ignore[arg-type]
    spec = ConvSpec(weight=WeightSpec(scale="none"), output=output)
    twin = BinaryConvTranspose2d(4, 6, 3, groups=2, dtype=torch.float64, spec=spec)
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64)
    product = run(twin, BF.sign(x), BF.sign(twin.weight.detach()))
    made: Any = twin.binary.output
    assert twin.bias is not None
    torch.testing.assert_close(twin(x), made(product, x) + twin.bias.view(-1, 1, 1))
    torch.testing.assert_close(twin(x[0]), twin(x)[0])
    if scale != "gate":
        means = torch.stack([one.abs().mean() for _, one in filters(twin.weight.detach(), 2)])
        torch.testing.assert_close(made.factors[0].flatten(), means)


@pytest.mark.parametrize("groups", [1, 2])
def test_constraints_centre_the_input_channels_of_each_filter(groups: int) -> None:
    _, twin, _ = pair(2, ConvSpec(weight=WeightSpec(constraint="centre_clip")), groups=groups)
    with torch.no_grad():
        twin.weight.mul_(8).add_(0.3)
    before = twin.weight.detach().clone()
    twin.constrain()
    for (_, after), (_, one) in zip(filters(twin.weight.detach(), groups), filters(before, groups), strict=True):
        torch.testing.assert_close(after, (one - one.mean(0, keepdim=True)).clamp(-1, 1))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("changed", [False, True])
def test_a_split_weight_is_split_by_filter_and_merges(groups: int, changed: bool) -> None:
    weight = WeightSpec.model_validate({"kind": "split", "estimator": "identity", "scale_over": "filter"})
    layer, twin, x = pair(2, ConvSpec(weight=weight), groups=groups)
    halves = twin.binary.weight
    torch.testing.assert_close(
        swap_channels(halves.first + halves.second, groups), layer.weight, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(twin(x), run(layer, BF.sign(x), twin.binary_tensors()["weight"], layer.bias))
    with torch.no_grad():
        if changed:
            halves.first.add_(0.25)
    expected = swap_channels(halves.first + halves.second, groups) if changed else layer.weight.clone()
    to_float(twin)
    assert type(twin) is nn.ConvTranspose2d
    assert torch.equal(twin.weight, expected)


def test_split_halves_train_where_the_weight_does_even_if_made_without_gradients() -> None:
    weight = WeightSpec.model_validate({"kind": "split", "estimator": "identity"})
    with torch.no_grad():
        twin = BinaryConvTranspose2d(4, 6, 3, spec=ConvSpec(weight=weight))
    assert twin.binary.weight is not None
    assert twin.binary.weight.first.requires_grad


@pytest.mark.parametrize("groups", [1, 4])
def test_training_keeps_bits(groups: int) -> None:
    _, twin, _ = pair(2, ConvSpec(weight=WeightSpec(scale="none")), groups=groups, out_channels=4, dtype=torch.float32)
    layer = FLOAT[2](4, 4, 3, groups=groups)
    x = torch.randn(8, 4, 16, 16, requires_grad=True) * 2
    assert kept_bytes(lambda: twin(x * 1)) <= kept_bytes(lambda: layer(x * 1)) / 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_result_has_the_dtype_of_the_float_layer(dtype: torch.dtype) -> None:
    for scale in ("none", "input_map", "elastic"):
        twin = BinaryConvTranspose2d(4, 6, 3, dtype=dtype, spec=ConvSpec(activation=ActivationSpec(scale=scale)))  # type: ignore[arg-type]
        x = torch.randn(2, 4, 5, 5).to(dtype)
        assert twin(x).dtype == dtype
        with torch.no_grad():
            assert twin(x).dtype == dtype


class Upsampling(nn.ConvTranspose2d):
    """A subclass that computes the same."""


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies(how: Any) -> None:
    _, twin, x = pair(2, groups=2)
    assert torch.equal(how(twin)(x), twin(x))
    rules = [bnnapps.Rule(types=["conv_transpose2d"], use="bireal")]
    model: Any = bnnapps.binarize(nn.Sequential(Upsampling(4, 6, 3).double()), rules, keep_first=0, keep_last=0)
    assert isinstance(model[0], Upsampling)
    assert type(model[0]) is not Upsampling
    assert torch.equal(how(model)(x), model(x))
    assert type(bnnapps.restore(how(model))[0]) is Upsampling


def test_an_upsampling_network_learns() -> None:
    torch.manual_seed(0)
    teacher, student = (BinaryConvTranspose2d(8, 6, 3, stride=2, groups=2) for _ in range(2))
    x = torch.randn(32, 8, 5, 5)
    target = teacher(x).detach()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = (student(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < 0.3 * losses[0]
