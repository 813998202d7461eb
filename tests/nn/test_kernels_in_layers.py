"""Layers on the 1-bit kernels: equal to the last bit to what they compute without them, gradients included."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory import kept_bytes
from torch import Tensor, nn

from bnnapps.kernels import library
from bnnapps.methods.method import methods
from bnnapps.nn import (
    ActivationSpec,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryLinear,
    ConvSpec,
    EstimatorSpec,
    LinearSpec,
    WeightSpec,
    kernels,
    packed,
)
from bnnapps.nn import functional as BF

pytestmark = pytest.mark.skipif(not packed.has_vector_kernels(), reason="needs the vector kernels of the library")

CONVS = (BinaryConv1d, BinaryConv2d, BinaryConv3d)


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small layers go to the kernels too."""
    monkeypatch.setattr(packed, "LEAST_TERMS", 1)
    monkeypatch.setattr(packed, "LEAST_PRODUCTS", 1)
    yield
    kernels(True)


class Calls:
    """Counts calls of the operators."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packed = 0
        whole = BF.pack_filters

        def counted(w: Tensor) -> Tensor:
            self.packed += 1
            return whole(w)

        monkeypatch.setattr(packed, "pack_filters", counted)


def on_bits(function: Any) -> bool:
    """Whether a kernel ran."""
    with torch.profiler.profile() as profile:
        function()
    return any(event.key in ("bnnapps::conv", "bnnapps::dense") for event in profile.key_averages())


def evaluated(layer: nn.Module, x: Tensor) -> list[Tensor]:
    layer.eval()
    with torch.no_grad():
        return [layer(x)]


def trained(layer: nn.Module, x: Tensor) -> list[Tensor]:
    layer.train()
    own = x.clone(memory_format=torch.preserve_format).requires_grad_()
    result = layer(own)
    weights = torch.linspace(-1, 1, result.numel()).view(result.shape)
    wanted = [own, *(p for p in layer.parameters() if p.requires_grad)]
    gradients = torch.autograd.grad((result * weights).sum(), wanted, allow_unused=True)
    return [result, *(g for g in gradients if g is not None)]


def assert_same(layer: nn.Module, x: Tensor) -> None:
    for compute in (evaluated, trained):
        with kernels(False):
            expected = compute(layer, x)
        found = compute(layer, x)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b), compute.__name__
            assert a.is_contiguous() == b.is_contiguous()


@given(
    rank=st.integers(1, 3),
    data=st.data(),
    groups=st.sampled_from((1, 1, 2, 5)),
    channels=st.sampled_from((1, 8, 32, 33)),
    outputs=st.sampled_from((1, 7, 32)),
    pad_value=st.sampled_from((-1, 0, 1)),
    unsigned=st.booleans(),
    bias=st.booleans(),
)
def test_every_geometry_of_a_convolution(
    rank: int,
    data: st.DataObject,
    groups: int,
    channels: int,
    outputs: int,
    pad_value: int,
    unsigned: bool,
    bias: bool,
) -> None:
    def per_dimension(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(rank))

    if unsigned and pad_value == -1:
        pad_value = 0
    spec = ConvSpec(pad_value=pad_value, activation=ActivationSpec(unsigned=unsigned))
    sizes = (per_dimension(1, 3), per_dimension(1, 2), per_dimension(0, 2), per_dimension(1, 2))
    layer = CONVS[rank - 1](channels * groups, outputs * groups, *sizes, groups, bias, spec=spec)
    x = torch.randn(2, channels * groups, *per_dimension(5, 7))
    x[torch.rand(x.shape) < 0.1] = 0.0
    assert_same(layer, x)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_paddings(padding: str) -> None:
    for kernel in (3, 2):
        assert_same(BinaryConv2d(32, 8, kernel, padding=padding), torch.randn(1, 32, 5, 6))


def layers_of_methods() -> list[Any]:
    makers = {"conv": lambda spec: BinaryConv2d(32, 16, 3, padding=1, spec=spec), "linear": _linear}
    found = []
    for method in methods():
        for slot, make in makers.items():
            spec: Any = method.layers.get(slot)  # type: ignore[call-overload]
            if spec is not None:
                found.append(pytest.param(slot, make, spec, id=f"{method.name}-{slot}"))
    return found


def _linear(spec: Any) -> BinaryLinear:
    return BinaryLinear(70, 20, spec=spec)


@pytest.mark.parametrize(("slot", "make", "spec"), layers_of_methods())
def test_every_method(slot: str, make: Any, spec: Any) -> None:
    if spec.output is not None and spec.output.size is None:
        spec = spec.model_copy(update={"output": spec.output.model_copy(update={"size": (6, 6)})})
    layer, x = make(spec), torch.randn(2, 32, 6, 6) if slot == "conv" else torch.randn(3, 5, 70)
    for compute in (trained, evaluated):
        with kernels(False):
            compute(layer, x)  # a learned scale takes its start
            torch.manual_seed(1)
            expected = compute(layer, x)
        torch.manual_seed(1)
        found = compute(layer, x)
        assert torch.equal(found[0], expected[0])
        for a, b in zip(found[1:], expected[1:], strict=True):
            assert torch.equal(a, b) if slot == "conv" else torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [(), (3,), (2, 4)])
@pytest.mark.parametrize(
    "activation",
    [
        {},
        {"unsigned": True},
        {"shift": "channel"},
        {"scale": "elastic"},
        {"scale": "elastic", "unsigned": True},
        {"scale": "unit", "unsigned": True},
        {"scale": "input_map"},
        {"estimator": EstimatorSpec(name="polynomial", keep_bits=2)},
    ],
    ids=str,
)
def test_linear_layers(rows: tuple[int, ...], activation: dict[str, Any]) -> None:
    layer = BinaryLinear(70, 20, spec=LinearSpec(activation=ActivationSpec(**activation)))
    if activation.get("shift") == "channel":
        nn.init.normal_(layer.binary.activation.shift)  # type: ignore[union-attr]
    x = torch.randn(*rows, 70)
    with kernels(False):
        trained(layer, x)  # a learned scale takes its start
        torch.manual_seed(1)
        expected = evaluated(layer, x) + trained(layer, x)
    torch.manual_seed(1)
    found = evaluated(layer, x) + trained(layer, x)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    for a, b in zip(found[2:], expected[2:], strict=True):
        torch.testing.assert_close(a, b)  # without byte products the scale multiplies elsewhere


@pytest.mark.parametrize("scale", ["input_map", "sample"])
def test_scales_that_are_no_number(scale: Any) -> None:
    layer = BinaryConv2d(32, 8, 3, padding=1, spec=ConvSpec(activation=ActivationSpec(scale=scale)))
    assert_same(layer, torch.randn(2, 32, 6, 6))


def test_channels_last_and_a_sample_without_a_batch() -> None:
    layer = BinaryConv2d(32, 48, 3, padding=1)
    assert_same(layer, torch.randn(2, 32, 6, 6).contiguous(memory_format=torch.channels_last))
    assert_same(layer, torch.randn(32, 6, 6))
    with_gaps = torch.randn(2, 6, 6, 64)[..., ::2].permute(0, 3, 1, 2)
    assert torch.equal(evaluated(layer, with_gaps)[0], evaluated(layer, with_gaps.contiguous())[0])


def test_what_the_kernels_do_not_take() -> None:
    """The present path computes, whatever it is."""
    layer, x = BinaryConv2d(32, 8, 3, padding=1).eval(), torch.randn(2, 32, 6, 6)
    assert on_bits(lambda: layer(x))
    with kernels(False):
        assert not on_bits(lambda: layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert not on_bits(lambda: layer(x))
    assert not on_bits(lambda: copy.deepcopy(layer).double()(x.double()))
    assert not on_bits(lambda: BinaryConv2d(32, 8, 3, padding=1, padding_mode="reflect")(x))
    assert not on_bits(lambda: BinaryConv2d(32, 8, 3, spec=ConvSpec(weight=WeightSpec(kind="ternary")))(x))
    with torch.no_grad():
        exported = torch.export.export(layer, (x,))
    assert "bnnapps" not in exported.graph_module.code
    with pytest.raises(RuntimeError, match="channels"):
        layer(torch.randn(2, 31, 6, 6))


@pytest.mark.usefixtures("always")
def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = BinaryConv2d(32, 8, 3, padding=1).eval(), torch.randn(2, 32, 6, 6)
    with torch.no_grad():
        expected = layer(x)
        library.load_library.cache_clear()
        monkeypatch.setattr(library, "library_path", lambda: None)
        try:
            assert not packed.has_vector_kernels()
            assert torch.equal(layer(x), expected)
        finally:
            library.load_library.cache_clear()


def test_small_layers_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = BinaryLinear(64, 8), torch.randn(4, 64)
    assert on_bits(lambda: layer(x))
    monkeypatch.setattr(packed, "LEAST_PRODUCTS", 64 * 8 * 4 + 1)
    assert not on_bits(lambda: layer(x))
    monkeypatch.setattr(packed, "LEAST_PRODUCTS", 64 * 8 * 4)
    monkeypatch.setattr(packed, "LEAST_TERMS", 65)
    assert not on_bits(lambda: layer(x))


def test_the_switch_is_an_argument_and_a_context() -> None:
    assert packed.kernels_on()
    with kernels(False):
        assert not packed.kernels_on()
        with kernels(True):
            assert packed.kernels_on()
        assert not packed.kernels_on()
    assert packed.kernels_on()
    kernels(False)
    assert not packed.kernels_on()


def test_a_packed_weight_is_kept_until_the_weight_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    layer, x = BinaryConv2d(32, 8, 3), torch.randn(2, 32, 6, 6)

    def check(changed: bool) -> None:
        before = calls.packed
        found = evaluated(layer, x)[0]
        assert calls.packed == before + changed
        with kernels(False):
            assert torch.equal(found, evaluated(layer, x)[0])

    check(True)
    check(False)
    with torch.no_grad():
        layer.weight.neg_()
    check(True)
    layer.load_state_dict({k: v.neg() for k, v in layer.state_dict().items()})
    check(True)
    layer.weight.data = torch.randn_like(layer.weight)
    check(True)
    layer.half().float()
    check(True)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1.0)
    layer(x).sum().backward()
    optimizer.step()
    check(True)
    check(False)


def test_a_weight_that_is_made_anew_for_each_call_is_packed_anew() -> None:
    layer, x = BinaryLinear(64, 32), torch.randn(3, 64)
    for seed in range(20):
        weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(seed))
        parameters = {"weight": weight, "bias": layer.bias}
        with torch.no_grad():
            found = torch.func.functional_call(layer, parameters, (x,))
            with kernels(False):
                assert torch.equal(found, torch.func.functional_call(layer, parameters, (x,)))
        del weight, parameters


def test_copies_and_files_hold_nothing_of_it() -> None:
    layer, x = BinaryLinear(64, 32), torch.randn(3, 64)
    keys, size = list(layer.state_dict()), len(pickle.dumps(layer))
    expected = evaluated(layer, x)[0]
    assert list(layer.state_dict()) == keys
    assert len(pickle.dumps(layer)) == size
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.neg_()
    assert not torch.equal(evaluated(twin, x)[0], expected)
    assert torch.equal(evaluated(pickle.loads(pickle.dumps(layer)), x)[0], expected)
    assert torch.equal(evaluated(layer, x)[0], expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [64, 128])
def test_a_write_through_data_is_seen(channels: int, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(channels, channels, 3, bias=False).to(memory_format=layout).eval()
    x = torch.randn(2, channels, 16, 16)
    with torch.no_grad():
        before = layer(x)
        layer.weight.data.mul_(-1)
        assert torch.equal(layer(x), -before)
        layer.weight.detach().numpy()[...] *= -1
        assert torch.equal(layer(x), before)


def test_what_was_kept_goes_with_the_layer() -> None:
    layer = BinaryLinear(64, 32)
    before = len(packed._kept)
    evaluated(layer, torch.randn(3, 64))
    assert len(packed._kept) == before + 1
    del layer
    assert len(packed._kept) == before


@pytest.mark.parametrize("channels", [64, 40])
def test_training_keeps_no_more_than_without(channels: int) -> None:
    layer, x = BinaryConv2d(channels, 8, 3, padding=1), torch.randn(2, channels, 8, 8, requires_grad=True)
    with kernels(False):
        expected = kept_bytes(lambda: layer(x * 1))
    assert kept_bytes(lambda: layer(x * 1)) <= expected


def test_frozen_operands_ask_for_nothing() -> None:
    layer, x = BinaryConv2d(64, 8, 3), torch.randn(2, 64, 8, 8)
    layer.weight.requires_grad_(False)
    own = x.clone().requires_grad_()
    layer(own).sum().backward()
    assert layer.weight.grad is None
    assert own.grad is not None
    layer.weight.requires_grad_(True)
    layer(x).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads(threads: int) -> None:
    layer, x = BinaryConv2d(64, 64, 3, padding=1), torch.randn(4, 64, 14, 14)
    expected = evaluated(layer, x)[0]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(evaluated(layer, x)[0], expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [BinaryConv2d(32, 8, 3, padding=1), BinaryLinear(64, 24)], ids=["conv", "linear"])
def test_a_compiled_layer_equals_the_layer(layer: nn.Module) -> None:
    x = torch.randn(2, 32, 6, 6) if isinstance(layer, BinaryConv2d) else torch.randn(5, 64)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    layer.eval()
    with torch.no_grad():
        assert torch.equal(compiled(x), layer(x))
    compiled = torch.compile(layer, backend="aot_eager")
    for a, b in zip(trained(compiled, x), trained(layer, x), strict=True):
        torch.testing.assert_close(a, b)


def test_the_operators_are_well_formed() -> None:
    x, weight = torch.randn(2, 40, 6, 5), BF.pack_filters(torch.randn(8, 40, 3, 3))
    bits = torch.ops.bnnapps.pack(x, torch.zeros(40))
    geometry = (40, 1, [3, 3], [2, 1], [1, 1], [1, 0], [1, 0], 0, False)
    scale, bias = torch.rand(8), torch.rand(8)
    rows = torch.ops.bnnapps.pack(torch.randn(7, 40), torch.zeros(1))
    dense = BF.pack_filters(torch.randn(8, 40))
    for name, arguments in (
        ("pack", (x, torch.zeros(1))),
        ("unpack", (bits, 40, -1.0, True)),
        ("conv", (bits, weight, *geometry, scale, bias, False, False)),
        ("conv", (bits, weight, *geometry, None, None, True, False)),
        ("dense", (rows, dense, 40, False, scale, None, False)),
    ):
        torch.library.opcheck(getattr(torch.ops.bnnapps, name).default, arguments)
