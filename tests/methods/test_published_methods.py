"""What each method is made of, as published, and which layers it takes by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from zoo import build

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.errors import BinarizeError
from bnnapps.methods import get_method, methods
from bnnapps.nn import Squash
from bnnapps.nn.spec import (
    AggregationSpec,
    AttentionSpec,
    BlockSpec,
    ConvSpec,
    EmbeddingSpec,
    LinearSpec,
    LookupSpec,
    MatmulSpec,
    NonlinearitySpec,
)

# method, slot, dotted field, published value
COMPOSITION: list[tuple[str, str, str, Any]] = [
    ("bigcn", "linear", "weight.scale_gradient", "full"),
    ("dwn", "lookup", "neighbours", "inverse"),
    ("dwn", "lookup", "weight.estimator.name", "identity"),
    ("dwn", "lookup", "weight.scale", "none"),
    ("dwn", "lookup", "weight.constraint", "clip"),
    ("dwn", "lookup", "weight.constraint_limit", 1.0),
    ("bipointnet", "linear", "weight.transform", "centre"),
    ("bipointnet", "linear", "weight.over", "layer"),
    ("bipointnet", "linear", "weight.scale", "none"),
    ("bipointnet", "linear", "output.scale", "layer"),
    ("bipointnet", "linear", "output.initial", "recovery"),
    ("bipointnet", "aggregation", "pool", "ema_max"),
    ("bipointnet", "nonlinearity", "becomes", "hardtanh"),
    ("poem", "linear", "weight.scale", "learned"),
    ("poem", "linear", "weight.transform", "none"),
    ("bigcn", "linear", "weight.scale_over", "filter"),
    ("bigcn", "linear", "activation.scale", "input_map"),
    ("bigcn", "linear", "input_gradient", "plain"),
    ("bgn", "linear", "weight.scale", "none"),
    ("bifsmn", "conv", "weight.scale_gradient", "straight"),
    ("bifsmn", "conv", "weight.estimator.name", "clip"),
    ("bifsmn", "conv", "weight.transform", "centre"),
    ("bifsmn", "conv", "weight.over", "layer"),
    ("bifsmn", "conv", "activation.scale", "none"),
    ("bifsmnv2", "conv", "weight.estimator.name", "lpb"),
    ("bifsmnv2", "conv", "weight.transform", "none"),
    ("bifsmnv2", "conv", "weight.scale", "mean_abs"),
    ("bifsmnv2", "linear", "activation.estimator.name", "lpb"),
    ("bifsmnv2", "linear", "activation.scale", "dual"),
    ("bifsmnv2", "linear", "activation.shift", "channel"),
    ("binarygnn", "linear", "weight.constraint", "clip"),
    ("binarygnn", "linear", "weight.scale", "none"),
    ("binarygnn", "linear", "output.scale", "channel"),
    ("binarygnn", "linear", "output.initial", "one"),
    ("binarygnn", "nonlinearity", "becomes", "sign"),
    ("bnn", "conv", "weight.scale", "none"),
    ("bnn", "conv", "weight.estimator.name", "identity"),
    ("bnn", "conv", "weight.constraint", "clip"),
    ("bnn", "conv", "activation.estimator.name", "clip"),
    ("bnn", "conv", "activation.estimator.limit", 1.0),
    ("bnn", "conv", "activation.scale", "none"),
    ("xnor", "conv", "weight.scale", "mean_abs"),
    ("xnor", "conv", "weight.scale_over", "filter"),
    ("xnor", "conv", "weight.scale_gradient", "full"),
    ("xnor", "conv", "weight.constraint", "centre_clip"),
    ("xnor", "conv", "weight.estimator.name", "clip"),
    ("xnor", "conv", "activation.scale", "input_map"),
    ("xnor", "conv", "activation.estimator.name", "clip"),
    ("bireal", "conv", "activation.estimator.name", "polynomial"),
    ("bireal", "conv", "weight.scale_over", "filter"),
    ("bireal", "conv", "weight.estimator.name", "clip"),
    ("irnet", "conv", "weight.transform", "standardize"),
    ("irnet", "conv", "weight.scale", "power_of_two"),
    ("irnet", "conv", "weight.scale_of", "transformed"),
    ("irnet", "conv", "weight.scale_gradient", "constant"),
    ("irnet", "conv", "weight.estimator.name", "ede"),
    ("irnet", "conv", "activation.estimator.name", "ede"),
    ("irnet", "conv", "activation.estimator.t_max", 10.0),
    ("reactnet", "conv", "activation.shift", "channel"),
    ("reactnet", "conv", "activation.estimator.name", "polynomial"),
    ("reactnet", "conv", "weight.estimator.name", "clip"),
    ("reactnet", "conv", "weight.scale_gradient", "straight"),
    ("dorefa", "conv", "weight.scale_over", "layer"),
    ("dorefa", "conv", "weight.estimator.name", "identity"),
    ("dorefa", "conv", "activation.unsigned", True),
    ("dorefa", "conv", "activation.scale", "unit"),
    ("dorefa", "conv", "gradient_bits", 32),
    ("dorefa_sign", "conv", "weight.scale_over", "filter"),
    ("dorefa_sign", "conv", "activation.estimator.name", "clip"),
    ("xnorpp", "conv", "weight.scale", "none"),
    ("xnorpp", "conv", "weight.estimator.name", "clip"),
    ("xnorpp", "conv", "activation.estimator.name", "clip"),
    ("xnorpp", "conv", "output.scale", "rank_one"),
    ("xnorpp", "conv", "output.initial", "one"),
    ("recu", "conv", "weight.transform", "recu"),
    ("recu", "conv", "weight.scale", "none"),
    ("recu", "conv", "weight.estimator.name", "identity"),
    ("recu", "conv", "activation.standardize", "sample"),
    ("recu", "conv", "activation.estimator.name", "polynomial"),
    ("recu", "conv", "output.scale", "channel"),
    ("recu", "conv", "output.initial", "uniform"),
    ("fda", "conv", "weight.estimator.name", "fourier"),
    ("fda", "conv", "weight.noise", True),
    ("fda", "conv", "weight.scale_over", "filter"),
    ("fda", "conv", "activation.estimator.terms", (9, 18)),
    ("fda", "conv", "activation.noise", True),
    ("fda", "embedding", "weight.noise", False),
    ("adabin", "conv", "weight.scale", "affine"),
    ("adabin", "conv", "weight.estimator.name", "ede"),
    ("adabin", "conv", "weight.estimator.t_min", 0.001),
    ("adabin", "conv", "activation.scale", "affine"),
    ("adabin", "conv", "activation.estimator.name", "polynomial"),
    ("adabin", "block", "nonlinearity", "maxout"),
    ("real2binary", "conv", "output.scale", "gate"),
    ("real2binary", "conv", "output.reduction", 8),
    ("real2binary", "conv", "weight.scale", "none"),
    ("real2binary", "block", "norm", "before"),
    ("real2binary", "block", "nonlinearity_at", "before_add"),
    ("lwsdet", "conv", "weight.transform", "search"),
    ("lwsdet", "conv", "weight.search_start", "random"),
    ("lwsdet", "conv", "weight.scale", "learned"),
    ("lwsdet", "conv", "activation.estimator.name", "polynomial"),
    ("lwsdet", "embedding", "weight.transform", "none"),
    ("lwsdet", "block", "nonlinearity_at", "before_norm"),
    ("asda", "conv", "weight.scale", "amplitude"),
    ("asda", "conv", "weight.amplitude_unit", 0.02),
    ("asda", "conv", "weight.amplitude_pull", 1e-4),
    ("asda", "conv", "activation.estimator.name", "polynomial"),
    ("asda", "block", "shortcut", "conv"),
    ("bop", "conv", "weight.scale", "none"),
    ("bop", "conv", "weight.estimator.name", "identity"),
    ("bop", "conv", "activation.estimator.name", "clip"),
    ("bireal", "block", "shortcut", "conv"),
    ("bireal", "block", "nonlinearity", "none"),
    ("irnet", "block", "nonlinearity", "hardtanh"),
    ("reactnet", "block", "nonlinearity", "rprelu"),
    ("recu", "block", "shortcut", "conv"),
    ("bnn", "block", "shortcut", "block"),
    ("bibert", "linear", "weight.transform", "centre"),
    ("bibert", "linear", "weight.over", "filter"),
    ("bibert", "linear", "weight.scale_of", "latent"),
    ("bibert", "linear", "weight.estimator.name", "clip"),
    ("bibert", "linear", "activation.estimator.name", "clip"),
    ("bibert", "embedding", "weight.scale_over", "filter"),
    ("bibert", "attention", "softmax", False),
    ("bibert", "attention", "weights.unsigned", True),
    ("bit", "linear", "weight.transform", "centre"),
    ("bit", "linear", "weight.over", "layer"),
    ("bit", "linear", "weight.scale_over", "layer"),
    ("bit", "linear", "weight.scale_of", "latent"),
    ("bit", "linear", "weight.estimator.name", "identity"),
    ("bit", "linear", "activation.scale", "elastic"),
    ("bit", "linear", "activation.shift", "channel"),
    ("bit", "embedding", "weight.over", "layer"),
    ("bit", "embedding", "weight.scale_over", "filter"),
    ("bit", "attention", "softmax", True),
    ("bit", "attention", "weights.unsigned", True),
    ("bit", "attention", "weights.scale", "elastic"),
    ("bit", "attention", "query.scale", "elastic"),
    ("bit", "attention", "query.shift", "none"),
    ("bit", "nonlinearity", "becomes", "relu"),
    ("naive", "attention", "softmax", True),
    ("naive", "attention", "weights.unsigned", False),
    ("binarybert", "linear", "weight.kind", "split"),
    ("binarybert", "linear", "weight.transform", "none"),
    ("binarybert", "linear", "weight.scale_over", "layer"),
    ("binarybert", "linear", "weight.estimator.name", "identity"),
    ("binarybert", "linear", "activation.bits", 8),
    ("binarybert", "linear", "activation.scale", "uniform"),
    ("binarybert", "embedding", "weight.scale_over", "filter"),
    ("binarybert", "attention", "weights.unsigned", True),
    ("binarybert_a4", "linear", "weight.kind", "split"),
    ("binarybert_a4", "linear", "activation.bits", 4),
    ("binarybert_a4", "linear", "activation.scale", "elastic"),
    ("binarybert_a4", "attention", "weights.unsigned", True),
    ("binarybert_a4", "nonlinearity", "becomes", "relu"),
    ("binarybert_ternary_a4", "linear", "weight.kind", "ternary"),
    ("binarybert_ternary_a4", "attention", "query.bits", 4),
    ("binarybert_ternary", "linear", "weight.kind", "ternary"),
    ("binarybert_ternary", "linear", "weight.scale_over", "layer"),
    ("binarybert_ternary", "embedding", "weight.scale_over", "filter"),
]


@pytest.mark.parametrize(("method", "slot", "field", "expected"), COMPOSITION)
def test_composition(method: str, slot: Any, field: str, expected: object) -> None:
    value: Any = get_method(method).layers[slot]
    for part in field.split("."):
        value = getattr(value, part)
    assert value == expected


SLOT_RECORDS = {
    "linear": LinearSpec,
    "conv": ConvSpec,
    "embedding": EmbeddingSpec,
    "attention": AttentionSpec,
    "nonlinearity": NonlinearitySpec,
    "matmul": MatmulSpec,
    "block": BlockSpec,
    "aggregation": AggregationSpec,
    "lookup": LookupSpec,
}
by_method = pytest.mark.parametrize("method", methods(), ids=lambda m: m.name)


@by_method
def test_every_method_has_a_source_and_records_of_the_right_kind(method: Any) -> None:
    assert method.title
    assert any(
        year in method.reference for year in ("2015", "2016", "2018", "2019", "2020", "2021", "2022", "2023", "2024")
    )
    assert method.training
    assert get_method(method.name) is method
    assert method.layers
    for slot, record in method.layers.items():
        assert type(record) is SLOT_RECORDS[slot]


@by_method
def test_projections_of_an_attention_are_the_linear_layers_of_the_method(method: Any) -> None:
    if "attention" in method.layers:
        projection, linear = method.layers["attention"].projection, method.layers["linear"]
        assert (projection.weight, projection.activation) == (linear.weight, linear.activation)


def test_linear_and_convolution_of_a_method_have_the_same_parts() -> None:
    for method in methods():
        if "conv" in method.layers:
            conv, linear = method.layers["conv"], method.layers["linear"]
            assert isinstance(conv, ConvSpec)
            assert isinstance(linear, LinearSpec)
            assert (conv.weight, conv.activation) == (linear.weight, linear.activation)


def test_an_unknown_method_is_named_with_the_nearest() -> None:
    with pytest.raises(BinarizeError, match="method: unknown method 'bibret'; the nearest are 'bibert'"):
        get_method("bibret")


def test_defect_9_methods_differ() -> None:
    assert len({repr(m.layers) for m in methods()}) == len(methods())


class Residual(nn.Module):
    """Named as torchvision names its shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.downsample = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(x)) + self.downsample(x)[..., 2:-2, 2:-2]


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), Residual(), nn.Linear(4, 4), nn.Linear(4, 2))


@pytest.mark.parametrize("method", [m.name for m in methods() if "conv" in m.layers])
def test_convolutional_methods_keep_first_last_and_shortcuts(method: str) -> None:
    plan = bnnapps.plan(convolutional(), method, example_inputs=torch.randn(1, 3, 10, 10))
    assert [e.name for e in plan.binarized] == ["1.conv1", "1.conv2", "2"]
    assert {e.name: e.reason for e in plan.kept} == {
        "0": "keep_first: 1",
        "1.downsample.0": "shortcuts stay real",
        "3": "keep_last: 1",
    }


@pytest.mark.parametrize("method", [m.name for m in methods() if m.tasks == ("text",)])
def test_encoder_methods_take_embeddings_projections_and_attention_of_bert(method: str) -> None:
    plan = bnnapps.plan(build("bert"), method)
    binary = {e.name.replace("bert.encoder.layer.", "") for e in plan.binarized if not e.name.endswith("act_fn")}
    layer = ["attention.self", *(f"attention.self.{n}" for n in ("query", "key", "value")), "attention.output.dense"]
    layer += ["intermediate.dense", "output.dense"]
    expected = {"bert.embeddings.word_embeddings"} | {f"{i}.{n}" for i in (0, 1) for n in layer}
    assert binary == expected
    real = {e.name: e.reason for e in plan.kept if not e.name.endswith("act_fn")}
    assert real == {
        "bert.embeddings.position_embeddings": "position and segment tables stay real",
        "bert.embeddings.token_type_embeddings": "position and segment tables stay real",
        "classifier": "keep_last: 1",
    }


def specs(plan: bnnapps.Plan) -> dict[str, Any]:
    return {e.name: e.spec for e in plan.binarized}


def hugging_face_vit() -> nn.Module:
    import transformers as t

    return t.ViTForImageClassification(
        t.ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
        )
    )


def hugging_face_distilbert() -> nn.Module:
    import transformers as t

    return t.DistilBertModel(t.DistilBertConfig(vocab_size=20, dim=8, n_layers=1, n_heads=2, hidden_dim=16))


FEED_FORWARD: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "BERT": (lambda: build("bert"), "bert.encoder.layer.0.output.dense", "bert.encoder.layer.0.attention.output.dense"),
    "ViT": (hugging_face_vit, "vit.layers.0.mlp.fc2", "vit.layers.0.mlp.fc1"),
    "DistilBERT": (hugging_face_distilbert, "transformer.layer.0.ffn.lin2", "transformer.layer.0.attention.out_lin"),
    "PyTorch": (lambda: build("tokens"), "linear2", "linear1"),
}


@pytest.mark.parametrize("model", FEED_FORWARD)
@pytest.mark.parametrize("method", ["bit", "binarybert", "binarybert_ternary", "binarybert_a4"])
def test_the_second_feed_forward_layer_reads_unsigned_codes(method: str, model: str) -> None:
    make, second, other = FEED_FORWARD[model]
    found = specs(bnnapps.plan(make(), method, keep_last=0))
    assert found[second].activation.unsigned
    assert not found[other].activation.unsigned
    assert found[second].weight == found[other].weight


@pytest.mark.parametrize("method", [m.name for m in methods() if "attention" in m.layers])
def test_only_methods_of_few_bits_with_a_learned_scale_replace_gelu(method: str) -> None:
    plan = bnnapps.plan(build("bert"), method)
    replaced = [e.name for e in plan.binarized if e.type == "gelu"]
    assert len(replaced) == (2 if method in ("bit", "binarybert_a4", "binarybert_ternary_a4") else 0)


def test_gelu_becomes_relu_forward_and_backward() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU(approximate="tanh"), nn.Linear(4, 4))
    bnnapps.binarize(model, [Rule(types=["gelu"], use="bit")], keep_first=0, keep_last=0)
    x = torch.tensor([-1.0, -0.0, 2.0], requires_grad=True)
    y = model[1](x)
    assert y.tolist() == [0, 0, 2]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 1]
    assert isinstance(model[1], nn.GELU)
    assert type(bnnapps.restore(model)[1]) is nn.GELU  # type: ignore[index]
    assert model[1].approximate == "tanh"


def test_squash_becomes_a_sign_forward_and_backward() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Squash(), nn.Linear(4, 4), nn.Tanh())
    x = torch.tensor([-2.0, -0.5, -0.0, 0.5], requires_grad=True)
    assert torch.equal(model[1](x), x.tanh())
    bnnapps.binarize(model, "binarygnn")
    assert [type(m).__name__ for m in model] == ["BinaryLinear", "BinarySquash", "Linear", "Tanh"]
    y = model[1](x)
    assert y.tolist() == [-1, -1, 1, 1]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1]
    assert type(bnnapps.restore(model)[1]) is Squash  # type: ignore[index]


def test_bgn_reads_a_binary_embedding_with_a_real_head() -> None:
    plan = bnnapps.plan(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 2)), "bgn")
    found = [(e.spec.weight is not None, e.spec.activation is not None) for e in plan.entries]
    assert found == [(True, False), (True, False), (False, True)]


def test_a_method_says_what_is_missing_from_the_model() -> None:
    with pytest.raises(BinarizeError, match="matches nothing: the model has no layer of these types; it has none"):
        bnnapps.plan(nn.Sequential(nn.ReLU()), "bibert")


def test_binarybert_starts_from_the_function_of_its_ternary_network() -> None:
    x = torch.randint(1, 20, (3, 5))
    halves = {"keep_first": 0, "keep_last": 0}
    types = ["embedding", "linear", "multihead_attention"]
    ternary, split = (
        bnnapps.binarize(build("tokens").double(), {"rules": [Rule(types=types, use=m)], **halves})
        for m in ("binarybert_ternary", "binarybert")
    )
    torch.testing.assert_close(split(x), ternary(x), rtol=1e-6, atol=1e-6)
