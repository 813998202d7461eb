from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
import torchvision
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bnnapps
from bnnapps.nn import ActivationSpec, ConvSpec, LinearSpec, WeightSpec
from bnnapps.profile import LayerRow, Summary, summarize


def row(summary: Summary, name: str) -> LayerRow:
    return next(r for r in summary.layers if r.name == name)


def one_layer(layer: nn.Module, method: Any, kind: str) -> nn.Module:
    return bnnapps.binarize(nn.Sequential(layer), [bnnapps.Rule(types=[kind], use=method)], keep_first=0, keep_last=0)


# Float layers


def test_linear() -> None:
    s = summarize(nn.Linear(8, 5), torch.ones(2, 3, 8))
    assert s.flops == 2 * 3 * 8 * 5
    assert s.bops == 0
    assert s.ops_paper == s.flops
    assert s.ops_all == s.flops + 2 * 3 * 5  # the bias
    assert (s.params_1bit, s.params_float) == (0, 8 * 5 + 5)
    assert s.packed_bytes == s.float_bytes == 4 * (8 * 5 + 5)
    only = s.layers[0]
    assert (only.name, only.type, only.kind, only.shape) == ("", "linear", "Linear", (2, 3, 5))
    assert (only.weight_bits, only.activation_bits, only.binary) == (32, 32, False)


@given(
    st.sampled_from([1, 2, 4]),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(1, 3),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_convolutions(groups: int, stride: int, dilation: int, padding: int, kernel: int, bias: bool) -> None:
    x = torch.ones(2, 4, 9, 10)
    layer = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias)
    _, _, height, width = layer(x).shape
    s = summarize(layer, x)
    assert s.flops == 2 * 8 * height * width * (4 // groups) * kernel**2
    assert s.ops_all - s.ops_paper == bias * 2 * 8 * height * width


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution(groups: int) -> None:
    s = summarize(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups, bias=False), torch.ones(2, 4, 5, 7))
    assert s.flops == 2 * (5 * 7) * 4 * (6 // groups) * 3 * 3  # each input pixel meets each weight of its group once
    assert s.layers[0].type == "conv_transpose2d"


def test_embedding_has_no_products() -> None:
    s = summarize(nn.Embedding(10, 4), torch.zeros(2, 3, dtype=torch.long))
    assert (s.flops, s.ops_all, s.params_float) == (0, 0, 40)


def test_other_operators_count_once_an_output_element() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Softmax(-1), nn.Dropout())
    s = summarize(model, torch.ones(2, 4, 6, 6))
    assert s.ops_paper == 0
    assert s.ops_all == 2 * 4 * 6 * 6 + 2 * 4 * 6 * 6 + 2 * 4 * 3 * 3 + 2 * 4 * 3 * 3
    assert [r.type for r in s.layers] == ["batchnorm2d", "relu", "maxpool2d", "softmax"]
    assert s.float_bytes == 4 * 8


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("self_attention", [True, False])
def test_multihead_attention(batch_first: bool, self_attention: bool) -> None:
    layer = nn.MultiheadAttention(16, 4, batch_first=batch_first)
    x = torch.ones(2, 5, 16) if batch_first else torch.ones(5, 2, 16)
    s = summarize(layer, (x, x, x) if self_attention else (x, x.clone(), x.clone()))
    assert s.flops == 4 * (2 * 5 * 16 * 16) + 2 * (2 * 5 * 5 * 16)  # four projections, two products
    assert [r.name for r in s.layers] == [""]
    assert s.params_float == 4 * (16 * 16 + 16)


def test_transformer_encoder_layer_counts_what_its_fused_path_hides() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, batch_first=True)
    s = summarize(layer, torch.ones(2, 5, 16))
    assert s.flops == 4 * (2 * 5 * 16 * 16) + 2 * (2 * 5 * 5 * 16) + 2 * (2 * 5 * 16 * 32)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers(kind: type[nn.Module], gates: int) -> None:
    s = summarize(kind(6, 5), torch.ones(7, 2, 6))
    assert s.flops == 7 * 2 * gates * (6 * 5 + 5 * 5)


class Attends(nn.Module):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, k)


def test_functional_attention() -> None:
    s = summarize(Attends(), {"q": torch.ones(2, 3, 5, 8), "k": torch.ones(2, 3, 7, 8)})
    assert s.flops == 2 * (2 * 3 * 5 * 7 * 8)


class Shares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.inner = nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight
        self.unused = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.inner(self.inner(self.table(x))))
        return output


def test_tied_weights_count_once_and_shared_layers_each_time() -> None:
    s = summarize(Shares(), torch.zeros(3, dtype=torch.long))
    assert s.flops == 3 * (2 * 4 * 4 + 4 * 10)
    assert s.params_float == 10 * 4 + 4 * 4 + 4 * 4
    assert (row(s, "table").params, row(s, "head").params) == (40, 0)
    assert row(s, "inner").flops == 3 * 2 * 4 * 4
    assert (row(s, "unused").flops, row(s, "unused").shape, row(s, "unused").params) == (0, None, 16)


@pytest.mark.parametrize("both", [True, False])
def test_tied_weights_are_bits_only_if_both_layers_are_binary(both: bool) -> None:
    model = Shares()
    rules = [bnnapps.Rule(match="table", use="bibert")] + [bnnapps.Rule(match="head", use="bibert")] * both
    s = summarize(bnnapps.binarize(model, rules, keep_first=0, keep_last=0), torch.zeros(3, dtype=torch.long))
    assert s.params_1bit == both * 10 * 4
    assert s.params_float == (4 * 4 + 4 * 4) + (2 * 10 if both else 10 * 4)  # scales, or the real table


# Binary layers


@pytest.mark.parametrize(
    ("overrides", "bits", "stored"),
    [
        ({}, 1, (40 // 8, 40, 0, 5 + 5)),
        ({"weight.scale_over": "layer"}, 1, (40 // 8, 40, 0, 1 + 5)),
        ({"weight.scale": "none"}, 1, (40 // 8, 40, 0, 5)),
        ({"weight.kind": "ternary"}, 2, (2 * 40 // 8, 0, 40, 5 + 5)),
        ({"weight.kind": "split"}, 2, (2 * 40 // 8, 80, 0, 2 * 5 + 5)),
        ({"activation.scale": "elastic", "activation.bits": 2}, 2, (40 // 8, 40, 0, 5 + 5 + 1)),
        ({"activation.scale": "elastic", "activation.bits": 4, "weight.kind": "ternary"}, 8, (10, 0, 40, 5 + 5 + 1)),
        ({"activation.scale": "elastic", "activation.unsigned": True}, 1, (40 // 8, 40, 0, 5 + 5 + 1)),
        ({"activation.shift": "channel"}, 1, (40 // 8, 40, 0, 5 + 5 + 8)),
    ],
)
def test_binary_linear(overrides: dict[str, Any], bits: int, stored: tuple[int, int, int, int]) -> None:
    model = one_layer(nn.Linear(8, 5), {"method": "xnor", "activation.scale": "none", **overrides}, "linear")
    s = summarize(model, torch.ones(2, 3, 8))
    assert s.flops == 0
    assert s.bops == 2 * 3 * 8 * 5 * bits
    assert s.layers[0].macs == 2 * 3 * 8 * 5
    assert s.ops_paper == s.bops / 64
    weight_bytes, one_bit, two_bit, real = stored
    assert (s.params_1bit, s.params_2bit, s.params_float) == (one_bit, two_bit, real)
    assert s.packed_bytes == weight_bytes + 4 * real
    assert s.float_bytes == 4 * (8 * 5 + 5)
    assert s.layers[0].binary


def test_bits_are_rounded_up_to_bytes() -> None:
    s = summarize(one_layer(nn.Linear(3, 3, bias=False), "bnn", "linear"), torch.ones(1, 3))
    assert s.packed_bytes == math.ceil(9 / 8)


def test_other_operators_of_a_binary_linear_layer() -> None:
    s = summarize(one_layer(nn.Linear(8, 5), {"method": "reactnet"}, "linear"), torch.ones(2, 8))
    # shift and sign of the input; scale and bias of the output; nothing for the latent weight
    assert s.ops_all - s.ops_paper == 2 * 2 * 8 + 2 * 2 * 5


@pytest.mark.parametrize("one_sided", [LinearSpec(activation=None), LinearSpec(weight=None)])
def test_one_real_operand_makes_a_real_product(one_sided: LinearSpec) -> None:
    layer = bnnapps.nn.BinaryLinear(8, 5, spec=one_sided)
    s = summarize(layer, torch.ones(2, 8))
    assert (s.flops, s.bops) == (2 * 8 * 5, 0)
    assert not s.layers[0].binary
    assert s.params_1bit == (8 * 5 if one_sided.weight else 0)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("pad_value", [0, 1])
@pytest.mark.parametrize("groups", [1, 2])
def test_binary_convolution(mode: str, pad_value: int, groups: int) -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=1, groups=groups, bias=False, padding_mode=mode)
    x = torch.ones(2, 4, 9, 9)
    s = summarize(one_layer(layer, {"method": "bireal", "pad_value": pad_value}, "conv2d"), x)
    assert (s.flops, s.bops) == (0, 2 * 6 * 5 * 5 * (4 // groups) * 9)


def test_map_of_input_scales_is_real() -> None:
    s = summarize(one_layer(nn.Conv2d(1, 1, 3, padding=1), "xnor", "conv2d"), torch.ones(2, 1, 5, 5))
    assert s.bops == 2 * 5 * 5 * 9
    assert s.flops == 2 * 5 * 5 * 9  # K, the box filter


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv3d])
def test_binary_convolutions_of_other_dimensions(kind: type[nn.Module]) -> None:
    dims = 1 if kind is nn.Conv1d else 3
    s = summarize(one_layer(kind(4, 6, 3), "bnn", kind.__name__.lower()), torch.ones(2, 4, *[5] * dims))
    assert (s.flops, s.bops) == (0, 2 * 6 * 3**dims * 4 * 3**dims)


def test_binary_embedding() -> None:
    s = summarize(one_layer(nn.Embedding(10, 8), "bibert", "embedding"), torch.zeros(2, 3, dtype=torch.long))
    assert (s.flops, s.bops) == (0, 0)
    assert s.ops_all == 2 * 3 * 8  # the scale
    assert s.packed_bytes == 80 // 8 + 4 * 10
    assert (s.layers[0].binary, s.layers[0].weight_bits, s.layers[0].activation_bits) == (True, 1, None)


@pytest.mark.parametrize(
    ("overrides", "bits"),
    [({}, 1), ({"activation_bits": 2}, 2), ({"activation_bits": 2, "projection.weight.kind": "ternary"}, 2)],
)
def test_binary_multihead_attention(overrides: dict[str, Any], bits: int) -> None:
    model = one_layer(
        nn.MultiheadAttention(16, 4, batch_first=True), {"method": "bit", **overrides}, "multihead_attention"
    )
    x = torch.ones(2, 5, 16)
    weight = 2 if overrides.get("projection.weight.kind") else 1
    s = summarize(model[0], (x, x, x))
    assert s.flops == 0
    assert s.bops == 4 * (2 * 5 * 16 * 16) * bits * weight + 2 * (2 * 5 * 5 * 16) * bits * bits
    assert s.params_1bit + s.params_2bit == 4 * 16 * 16
    # biases; a scale each projection; a shift and alpha each projection; alphas of q, k, v and the weights
    assert s.params_float == 4 * 16 + 4 + 4 * (16 + 1) + 4
    assert s.layers[0].weight_bits == weight


def test_packed_projections_have_a_scale_for_each_filter() -> None:
    model = one_layer(nn.MultiheadAttention(16, 4, bias=False), "bibert", "multihead_attention")
    x = torch.ones(5, 2, 16)
    s = summarize(model[0], (x, x, x))
    assert (s.params_1bit, s.params_float) == (4 * 16 * 16, 4 * 16)


def test_an_operand_of_attention_that_stays_real() -> None:
    model = one_layer(
        nn.MultiheadAttention(16, 4, batch_first=True), {"method": "bibert", "value": None}, "multihead_attention"
    )
    x = torch.ones(2, 5, 16)
    s = summarize(model[0], (x, x, x))
    assert s.flops == 2 * 5 * 5 * 16
    assert s.bops == 4 * (2 * 5 * 16 * 16) + 2 * 5 * 5 * 16


def test_methods_that_are_not_known_here_follow_their_parts() -> None:
    spec = ConvSpec(weight=WeightSpec(), activation=ActivationSpec(bits=3, scale="elastic"))
    s = summarize(bnnapps.nn.BinaryConv2d(2, 4, 3, spec=spec), torch.ones(1, 2, 4, 4))
    assert s.bops == 3 * (4 * 2 * 2) * (2 * 9)


# Whole networks


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18()


def resnet_macs() -> tuple[int, int, int, int]:
    """First layer, the 3x3 convolutions of the stages, the 1x1 shortcuts, the classifier."""
    first = 112 * 112 * 64 * 3 * 49
    stages = 4 * (56 * 56 * 64 * 64 * 9)
    shortcuts = 0
    for size, width in ((28, 128), (14, 256), (7, 512)):
        stages += size * size * width * 9 * (width // 2 + 3 * width)
        shortcuts += size * size * width * (width // 2)
    return first, stages, shortcuts, 512 * 1000


def test_float_resnet_18(resnet: nn.Module) -> None:
    s = summarize(resnet, torch.zeros(1, 3, 224, 224))
    assert s.flops == sum(resnet_macs())
    assert s.flops == pytest.approx(1.81e9, rel=0.005)  # as every paper gives it
    assert s.float_bytes == 4 * sum(p.numel() for p in resnet.parameters())


def test_bireal_resnet_18(resnet: nn.Module) -> None:
    model = bnnapps.binarize(copy.deepcopy(resnet), "bireal")
    s = summarize(model, torch.zeros(1, 3, 224, 224))
    first, stages, shortcuts, classifier = resnet_macs()
    assert s.bops == stages
    assert s.flops == first + shortcuts + classifier
    # Published: 1.63e8 (Liu et al., 2018), which leaves out the classifier's 0.005e8.
    assert (s.ops_paper - classifier) / 1e8 == pytest.approx(1.63, abs=0.005)
    # Published: 4.03 MB, of 2^20 bytes, with the running statistics of BatchNorm.
    statistics = 4 * sum(b.numel() for n, b in model.named_buffers() if "running" in n)
    assert (s.packed_bytes + statistics) / 2**20 == pytest.approx(4.03, abs=0.02)


@pytest.fixture(scope="module")
def bert() -> nn.Module:
    with torch.device("meta"):  # drawing 110 million random numbers would take longer than all the counting
        model: nn.Module = transformers.BertForSequenceClassification(transformers.BertConfig())
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().zero_()
    return model


TOKENS = {"input_ids": torch.zeros(1, 128, dtype=torch.long)}


def bert_macs() -> tuple[int, int, int]:
    """The linear layers of the encoder, the products of attention, the pooler."""
    return 12 * 128 * (4 * 768 * 768 + 2 * 768 * 3072), 12 * 2 * 128 * 128 * 768, 768 * 768


def test_bert_base(bert: nn.Module) -> None:
    s = summarize(bert, TOKENS)
    assert s.flops == sum(bert_macs()) + 768 * 2
    # The papers of this line give 22.5 GFLOPs and 418 MB: two operations a MAC, and 2^20 bytes.
    assert 2 * s.flops / 1e9 == pytest.approx(22.5, rel=0.01)
    assert s.float_bytes / 2**20 == pytest.approx(418, abs=0.5)


@pytest.mark.parametrize("method", ["bibert", "bit"])
def test_binary_bert_base(bert: nn.Module, method: str) -> None:
    s = summarize(bnnapps.binarize(bert, method), TOKENS)
    bnnapps.restore(bert)
    assert s.bops == sum(bert_macs())
    assert s.flops == 768 * 2
    # Published: 0.4 GFLOPs with two operations a MAC and with what is not a product.
    assert (2 * s.ops_paper + (s.ops_all - s.ops_paper)) / 1e9 == pytest.approx(0.4, abs=0.05)
    tables, norms = (512 + 2) * 768, 25 * 2 * 768
    biases = 12 * (4 * 768 + 3072 + 768) + 768
    classifier = 2 * 768 + 2
    assert s.params_1bit == 30522 * 768 + 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 768 * 768
    if method == "bibert":
        scales = 30522 + biases  # one each row, and one each output feature
        learned = 0
    else:
        scales = 30522 + 12 * 6 + 1
        learned = 12 * (4 + 5 * (768 + 1) + 3072 + 1) + 768 + 1  # alphas of attention; shift and alpha of each input
    assert s.params_float == tables + norms + biases + classifier + scales + learned
    # Published: 13.4 MB of 2^20 bytes, which counts neither scales nor the position and segment tables.
    if method == "bibert":
        assert (s.packed_bytes - 4 * (scales + tables)) / 2**20 == pytest.approx(13.4, abs=0.1)


def test_tied_decoder_of_a_masked_language_model() -> None:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = transformers.BertForMaskedLM(config)
    s = summarize(model, {"input_ids": torch.zeros(1, 4, dtype=torch.long)})
    assert s.params_float == sum(p.numel() for p in model.parameters())
    assert row(s, "cls.predictions.decoder").macs == 4 * 16 * 50


# What a summary is


def test_nothing_changes() -> None:
    model = bnnapps.binarize(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4)), "bit", keep_first=0
    )
    model.train()
    model[2].eval()
    state, hooks = copy.deepcopy(model.state_dict()), [len(m._forward_hooks) for m in model.modules()]
    flags, random = [m.training for m in model.modules()], torch.get_rng_state()
    fused = torch.backends.mha.get_fastpath_enabled()
    summarize(model, torch.ones(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
    assert [m.training for m in model.modules()] == flags
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.backends.mha.get_fastpath_enabled() == fused


def test_a_forward_pass_that_fails_leaves_no_hooks() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(RuntimeError):
        summarize(model, torch.ones(2, 3))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert summarize(model, torch.ones(2, 4)).flops == 2 * 4 * 4


def test_totals_are_the_sums_of_the_rows_and_json_holds_all() -> None:
    s = summarize(bnnapps.binarize(nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))), "bnn"), torch.ones(2, 4))
    for name in ("flops", "bops", "params_1bit", "params_2bit", "params_float", "packed_bytes", "float_bytes"):
        assert getattr(s, name) == sum(getattr(r, name) for r in s.layers)
    data = json.loads(json.dumps(s.to_dict()))
    assert data["ops_all"] == s.ops_all
    assert [layer["name"] for layer in data["layers"]] == ["0", "1", "2"]
    assert data["layers"][1]["binary"] is True
    assert all(layer["type"] and layer["kind"] and layer["shape"] for layer in data["layers"])


def test_table() -> None:
    model = nn.Sequential(nn.Linear(64, 64), *(nn.Linear(64, 64) for _ in range(3)), nn.ReLU(), nn.Linear(64, 10))
    text = str(summarize(bnnapps.binarize(model, "bnn"), torch.ones(1, 64)))
    assert "{1..3}  ×3" in text
    assert "1 · 1" in text
    assert "float · float" in text
    assert "everything else" in text
    assert "?" not in text
    assert "One MAC is one" in text
    assert max(map(len, text.splitlines())) <= 120
