from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from memory import kept_bytes
from torch import Tensor, nn

from bnnapps.nn import ActivationSpec, BinaryConv1d, BinaryConv2d, BinaryConv3d, ConvSpec, WeightSpec
from bnnapps.nn import functional as BF

FLOAT: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BINARY: dict[int, Any] = {1: BinaryConv1d, 2: BinaryConv2d, 3: BinaryConv3d}
CONVOLVE: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SIZE = (7, 6, 5)
MODES = ["zeros", "reflect", "replicate", "circular"]
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no bias": {"bias": False},
    "stride": {"stride": 2},
    "padding": {"padding": 1},
    "wide padding": {"padding": 2},
    "same": {"padding": "same"},
    "same, dilated": {"padding": "same", "dilation": 2},
    "valid": {"padding": "valid", "stride": 2},
    "dilation": {"dilation": 2, "padding": 2},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4, "out_channels": 4},
    "depthwise with a multiplier": {"groups": 4, "out_channels": 8, "padding": 1},
    "all at once": {"stride": 2, "padding": 2, "dilation": 2, "groups": 2, "bias": False},
    "kernel of one": {"kernel_size": 1},
    "double": {"dtype": torch.float64, "device": "cpu", "padding": 1},
}
by_options = pytest.mark.parametrize("name", OPTIONS)
by_dimension = pytest.mark.parametrize("dims", [1, 2, 3])
by_pad_value = pytest.mark.parametrize("pad_value", [-1, 0, 1])


def signs(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randint(0, 2, shape) * 2 - 1).to(dtype)


def pair(dims: int, spec: ConvSpec | None = None, **options: Any) -> tuple[Any, Any, Tensor]:
    """A float convolution with weights +1 and -1, its twin, and real inputs."""
    arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3} | options
    layer = FLOAT[dims](**arguments)
    with torch.no_grad():
        layer.weight.copy_(signs(*layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(torch.round(layer.bias * 8) / 8)  # sums of such numbers are exact in any order
    twin = BINARY[dims](**arguments, spec=spec)
    twin.load_state_dict(layer.state_dict())
    return layer, twin, torch.randn(2, 4, *SIZE[:dims], dtype=options.get("dtype"))


@by_dimension
@by_options
@pytest.mark.parametrize("mode", MODES)
def test_equals_the_float_layer_on_signs(dims: int, name: str, mode: str) -> None:
    layer, twin, x = pair(dims, padding_mode=mode, **OPTIONS[name])
    x = BF.sign(x)
    assert torch.equal(twin(x), layer(x))
    with torch.no_grad():
        assert torch.equal(twin(x), layer(x))
    assert torch.equal(twin(x[0]), layer(x[0]))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0), "dilation": (1, 2)},
        {"kernel_size": (1, 4), "padding": "same"},
        {"kernel_size": (2, 2), "padding": "same", "padding_mode": "circular"},
        {"kernel_size": (3, 1), "padding": (2, 0), "padding_mode": "replicate"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_sizes_that_differ_by_direction(options: dict[str, Any]) -> None:
    layer, twin, x = pair(2, **options)
    assert torch.equal(twin(BF.sign(x)), layer(BF.sign(x)))


def padding_amounts(layer: Any) -> list[int]:
    """What stands beyond each border, last direction first, as `F.pad` takes it."""
    if layer.padding == "valid":
        return [0] * (2 * len(layer.kernel_size))
    amounts = []
    for i in reversed(range(len(layer.kernel_size))):
        if layer.padding == "same":
            total = layer.dilation[i] * (layer.kernel_size[i] - 1)
            amounts += [total // 2, total - total // 2]
        else:
            amounts += [layer.padding[i]] * 2
    return amounts


@by_dimension
@by_options
@by_pad_value
def test_pad_value_is_explicit_padding_of_the_binarized_map(dims: int, name: str, pad_value: int) -> None:
    layer, twin, x = pair(dims, ConvSpec(pad_value=pad_value), **OPTIONS[name])  # type: ignore[arg-type]
    padded = F.pad(BF.sign(x), padding_amounts(layer), value=float(pad_value))
    expected = CONVOLVE[dims](padded, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
    assert torch.equal(twin(x), expected)
    assert torch.equal(twin(x[1]), expected[1])
    with torch.no_grad():
        assert torch.equal(twin(x), expected)


@by_pad_value
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pad_value_is_for_constant_padding_only(pad_value: int, mode: str) -> None:
    layer, twin, x = pair(2, ConvSpec(pad_value=pad_value), padding=1, padding_mode=mode)  # type: ignore[arg-type]
    assert torch.equal(twin(x), layer(BF.sign(x)))


def test_pad_value_of_unsigned_codes() -> None:
    for pad_value in (0, 1):
        spec = ConvSpec(pad_value=pad_value, activation=ActivationSpec(unsigned=True))  # type: ignore[arg-type]
        layer, twin, x = pair(2, spec, padding=1)
        padded = F.pad(BF.step(x), [1] * 4, value=float(pad_value))
        assert torch.equal(twin(x), F.conv2d(padded, layer.weight, layer.bias))


def test_real_activations_are_padded_with_zeros() -> None:
    layer, twin, x = pair(2, ConvSpec(activation=None, pad_value=1), padding=1)
    torch.testing.assert_close(twin(x), layer(x))


@by_dimension
@by_options
def test_gradients_are_those_of_the_float_convolution_of_the_codes(dims: int, name: str) -> None:
    layer, twin, x = pair(dims, ConvSpec(weight=WeightSpec(scale="none"), pad_value=1), **OPTIONS[name])
    with torch.no_grad():
        twin.weight.mul_(torch.rand_like(twin.weight) * 1.5)
    x_twin, x_codes = x.clone().requires_grad_(), BF.sign(x).requires_grad_()
    codes = BF.sign(twin.weight).requires_grad_()
    padded = F.pad(x_codes, padding_amounts(layer), value=1.0)
    expected = CONVOLVE[dims](padded, codes, None, layer.stride, 0, layer.dilation, layer.groups)
    upstream = torch.randn_like(expected)
    expected.backward(upstream)
    twin(x_twin).backward(upstream)
    assert x_twin.grad is not None
    assert x_codes.grad is not None
    assert codes.grad is not None
    assert torch.equal(x_twin.grad, (x.abs() <= 1) * x_codes.grad)
    assert torch.equal(twin.weight.grad, (twin.weight.abs() <= 1) * codes.grad)


@by_dimension
def test_equals_the_formula_on_real_weights(dims: int) -> None:
    layer, twin, x = pair(dims, padding=1, groups=2, dtype=torch.float64)
    with torch.no_grad():
        twin.weight.normal_()
    w = twin.weight.detach()
    alpha = w.abs().mean(tuple(range(1, w.dim())), keepdim=True)
    expected = CONVOLVE[dims](BF.sign(x), BF.sign(w) * alpha, layer.bias, 1, 1, 1, 2)
    torch.testing.assert_close(twin(x), expected)


def numpy_box_filter(magnitude: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    padded = F.pad(magnitude, [padding] * 4)
    windows = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)
    return windows.mean((-1, -2))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (1, 1)])
def test_xnor_multiplies_by_the_map_of_mean_magnitudes(stride: int, padding: int) -> None:
    spec = ConvSpec(activation=ActivationSpec(scale="input_map"))
    layer, twin, x = pair(2, spec, stride=stride, padding=padding, dtype=torch.float64)
    k = numpy_box_filter(x.abs().mean(1), 3, stride, padding).unsqueeze(1)
    product = F.conv2d(BF.sign(x), layer.weight, None, stride, padding)
    expected = product * k + layer.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(twin(x), expected)
    torch.testing.assert_close(twin(x[0]), expected[0])


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_the_map_of_xnor_is_padded_as_the_layer_is(mode: str) -> None:
    spec = ConvSpec(activation=ActivationSpec(scale="input_map"))
    layer, twin, x = pair(2, spec, padding=1, padding_mode=mode, bias=False, dtype=torch.float64)
    magnitude = F.pad(x.abs().mean(1, keepdim=True), [1] * 4, mode=mode)
    k = F.conv2d(magnitude, torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64))
    torch.testing.assert_close(twin(x), layer(BF.sign(x)) * k)


def test_defect_1_the_shift_reaches_the_forward_pass() -> None:
    _, twin, x = pair(2, ConvSpec(activation=ActivationSpec(shift="channel")))
    before = twin(x)
    with torch.no_grad():
        twin.binary.activation.shift[1] = 100.0
    ones = x.clone()
    ones[:, 1] = 1.0
    assert not torch.equal(twin(x), before)
    assert torch.equal(twin(x), twin(ones))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_defects_2_and_3_groups_and_dilation_count(dims: int) -> None:
    layer, twin, x = pair(dims, groups=4, out_channels=4, bias=False)
    assert twin.weight.shape == layer.weight.shape == (4, 1, *[3] * dims)
    assert twin.weight.numel() == 4 * 3**dims
    assert twin.bias is None
    _, dilated, x = pair(dims, dilation=2)
    assert dilated(x).shape[2:] == tuple(s - 4 for s in SIZE[:dims])


def test_defect_3_the_memory_layer_of_a_speech_network_keeps_its_640_weights() -> None:
    layer = BinaryConv1d(128, 128, 5, groups=128, bias=False)
    assert sum(p.numel() for p in layer.parameters()) == 640


def test_defect_7_weights_start_as_those_of_the_float_layer() -> None:
    torch.manual_seed(3)
    layer = nn.Conv2d(4, 6, 3)
    torch.manual_seed(3)
    twin = BinaryConv2d(4, 6, 3)
    assert torch.equal(twin.weight, layer.weight)
    assert 0.3 < float((twin.weight > 0).float().mean()) < 0.7


@pytest.mark.parametrize("pad_value", [-1, 1])
def test_defect_8_no_zeros_among_the_codes(pad_value: int) -> None:
    spec = ConvSpec(weight=WeightSpec(scale="none"), pad_value=pad_value)  # type: ignore[arg-type]
    twin = BinaryConv2d(3, 4, 3, padding=1, bias=False, spec=spec)
    assert bool((twin(torch.zeros(2, 3, 5, 5)) != 0).all())  # a sum of 27 signs is odd
    with torch.no_grad():
        twin.weight.zero_()
    assert torch.equal(twin(torch.ones(1, 3, 3, 3))[0, 0, 1, 1], torch.tensor(27.0))


def test_channels_last_gives_the_same_numbers() -> None:
    _, twin, x = pair(2, ConvSpec(pad_value=1), padding=1)
    plain = twin(x)
    upstream = torch.randn_like(plain)
    plain.backward(upstream)
    expected = twin.weight.grad.clone()
    twin.weight.grad = None
    found = twin.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert torch.equal(found, plain)
    found.backward(upstream)
    torch.testing.assert_close(twin.weight.grad, expected)


def test_training_keeps_a_small_part_of_what_the_float_layer_keeps() -> None:
    layer, twin, _ = pair(2, ConvSpec(weight=WeightSpec(scale="none")), padding=1)
    x = torch.randn(8, 4, 32, 32, requires_grad=True) * 2
    assert kept_bytes(lambda: twin(x * 1)) <= kept_bytes(lambda: layer(x * 1)) / 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_result_has_the_dtype_of_the_float_layer(dtype: torch.dtype) -> None:
    for spec in (ConvSpec(pad_value=1), ConvSpec(activation=ActivationSpec(scale="input_map"))):
        twin = BinaryConv2d(4, 6, 3, padding=1, dtype=dtype, spec=spec)
        x = torch.randn(2, 4, 5, 5).to(dtype)
        assert twin(x).dtype == dtype
        with torch.no_grad():
            assert twin(x).dtype == dtype


def test_a_split_convolution_merges_when_it_becomes_float_again() -> None:
    from bnnapps.nn.layers.base import to_float

    weight = WeightSpec.model_validate({"kind": "split", "estimator": "identity"})
    twin = BinaryConv2d(4, 6, 3, spec=ConvSpec(weight=weight))
    with torch.no_grad():
        twin.binary.weight.first.add_(0.25)  # type: ignore[union-attr]
    expected = twin.binary.weight.first + twin.binary.weight.second  # type: ignore[union-attr]
    to_float(twin)
    assert type(twin) is nn.Conv2d
    assert torch.equal(twin.weight, expected)
