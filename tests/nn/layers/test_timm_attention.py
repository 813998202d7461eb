from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import timm
import torch
from timm.layers import Attention, AttentionRope
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from timm.models.pvt_v2 import Attention as PoolingAttention
from timm.models.swin_transformer import WindowAttention
from timm.models.swin_transformer_v2 import WindowAttention as CosineAttention
from torch import Tensor, nn

import bnnapps
from bnnapps.binarize import Rule
from bnnapps.binarize.registry import type_of
from bnnapps.errors import BinarizeError
from bnnapps.methods import methods
from bnnapps.nn import functional as BF
from bnnapps.nn.layers import BinaryTimmAttention

RESTING = ("binarybert", "binarybert_a4", "lwsdet")  # parameters of the binarizer learn in place of the weight
METHODS = [m.name for m in methods() if "attention" in m.layers]
KINDS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "ViT": (lambda: Attention(12, 2, qkv_bias=True), (2, 5, 12)),
    "normalized": (lambda: Attention(12, 2, qk_norm=True, norm_layer=nn.LayerNorm, gated=True), (2, 5, 12)),
    "rope": (lambda: AttentionRope(12, 2, qkv_fused=False, num_kv_heads=1), (2, 5, 12)),
    "BEiT": (lambda: BeitAttention(12, 2, qkv_bias=True, window_size=(2, 2)), (2, 5, 12)),
    "EVA": (lambda: EvaAttention(12, 2, qkv_bias=True, norm_layer=nn.LayerNorm), (2, 5, 12)),
    "Swin": (lambda: WindowAttention(12, 2, window_size=(2, 2)), (3, 4, 12)),
}
REAL: dict[str, Any] = {"method": "bit", "query": None, "key": None, "value": None, "weights": None}
by_kind = pytest.mark.parametrize("kind", KINDS)


def built(kind: str) -> nn.Sequential:
    layer = KINDS[kind][0]()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.7)
    return nn.Sequential(layer)


def rules(use: Any, types: tuple[str, ...] = ("timm.Attention",)) -> dict[str, Any]:
    return {"rules": [Rule(types=types, use=use)], "keep_first": 0, "keep_last": 0}


@by_kind
@pytest.mark.parametrize("fused", [True, False])
def test_with_real_operands_it_is_the_float_attention(kind: str, fused: bool) -> None:
    model, x = built(kind), torch.randn(KINDS[kind][1])
    model[0].fused_attn = fused
    expected = model(x)
    bnnapps.binarize(model, rules(REAL))
    assert isinstance(model[0], BinaryTimmAttention)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    bnnapps.restore(model)
    assert model[0].fused_attn is fused
    assert torch.equal(model(x), expected)


@by_kind
@pytest.mark.parametrize("method", METHODS)
def test_plan_binarize_copy_train_restore(kind: str, method: str) -> None:
    model, x = built(kind), torch.randn(KINDS[kind][1])
    state, before = copy.deepcopy(model.state_dict()), {n: dict(vars(m)) for n, m in model.named_modules()}
    expected = model(x)
    plan = bnnapps.plan(model, rules(method, ("timm.Attention", "linear")))
    assert [e.type for e in plan.binarized].count("timm.Attention") == 1
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, x)
    model.train()(x).square().sum().backward()
    learned = "binary.weight." if method in RESTING else ".weight"
    projections = [p for n, p in model.named_parameters() if learned in n and p.dim() >= 2]
    assert projections
    assert all(p.grad is not None for p in projections)
    model.zero_grad()
    model.eval()
    binary = model(x)
    assert not torch.allclose(binary, expected)
    assert torch.equal(copy.deepcopy(model)(x), binary)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), binary)
    bnnapps.restore(model)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(model(x), expected)
    assert {n: set(vars(m)) for n, m in model.named_modules()} == {n: set(v) for n, v in before.items()}


def test_it_is_the_published_formula() -> None:
    model, x = built("ViT"), torch.randn(2, 5, 12)
    bnnapps.binarize(model, rules("bibert"))
    layer: Any = model[0]
    q, k, v = layer.qkv(x).reshape(2, 5, 3, 2, 6).permute(2, 0, 3, 1, 4)
    weights = BF.step(BF.sign(q) @ BF.sign(k).mT)
    expected = layer.proj((weights @ BF.sign(v)).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(model(x), expected)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    weights = weights * mask
    expected = layer.proj((weights @ BF.sign(v)).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(layer(x, attn_mask=mask), expected)
    torch.testing.assert_close(layer(x, is_causal=True), expected)


def test_only_this_attention_is_reached_from_inside_it() -> None:
    inner, outer = built("ViT"), built("ViT")
    model = nn.Sequential(inner, outer)
    bnnapps.binarize(model, {"rules": [Rule(match="0.0", use="bibert")], "keep_first": 0, "keep_last": 0})
    x = torch.randn(1, 5, 12)
    middle = model[0](x)
    assert torch.equal(model(x), outer(middle))
    float_twin = Attention(12, 2, qkv_bias=True)
    float_twin.load_state_dict(outer[0].state_dict())
    assert torch.equal(outer(middle), float_twin(middle))


def test_dropout_is_active_in_training_only() -> None:
    model = nn.Sequential(Attention(12, 2, attn_drop=0.5))
    bnnapps.binarize(model, rules("bibert"))
    x = torch.randn(2, 5, 12)
    assert torch.equal(model.eval()(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


def test_a_learned_shift_has_one_number_for_each_feature_of_a_head() -> None:
    model = bnnapps.binarize(built("ViT"), rules({"method": "bit", "query.shift": "channel"}))
    layer: Any = model[0]
    assert layer.binary.query.shift.shape == (6,)
    pooling = nn.Sequential(PoolingAttention(12, num_heads=2))
    del pooling[0].head_dim
    with pytest.raises(BinarizeError, match="does not say how many features a head has"):
        bnnapps.binarize(pooling, rules({"method": "bit", "query.shift": "channel"}))
    assert type(pooling[0]) is PoolingAttention


def test_attention_that_the_operator_cannot_serve_has_no_twin() -> None:
    cosine = CosineAttention(12, (2, 2), 2)
    assert type_of(cosine) is None
    model = nn.Sequential(cosine)
    with pytest.raises(BinarizeError, match="which has no binary twin"):
        bnnapps.plan(model, [Rule(match="0", use="bibert")])


@pytest.mark.parametrize("kind", ["BEiT", "EVA"])
def test_a_projection_whose_weight_is_read_is_called_once_it_is_binary(kind: str) -> None:
    model, x = built(kind), torch.randn(2, 5, 12)
    expected = model(x)
    rules_ = {"rules": [Rule(match="0.qkv", use="bnn")], "keep_first": 0, "keep_last": 0}
    plan = bnnapps.plan(model, rules_)
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, x)
    layer: Any = model[0]
    assert layer.qkv_bias_separate
    model.train()(x).sum().backward()
    bnnapps.restore(model.eval())
    assert not layer.qkv_bias_separate
    assert torch.equal(model(x), expected)


def test_summary_of_a_vit_counts_binary_products() -> None:
    options: dict[str, Any] = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **options)
    bnnapps.binarize(model, [Rule(types=["timm.Attention", "linear"], use="bibert")])
    rows = {row.name: row for row in bnnapps.summarize(model, torch.randn(1, 3, 16, 16)).layers}
    attention = rows["blocks.0.attn"]
    assert (attention.bops, attention.flops, attention.weight_bits) == (2 * 5 * 5 * 12, 0, None)
    mlp = rows["blocks.0.mlp.fc1"]
    assert (mlp.type, mlp.bops, mlp.flops) == ("linear", 5 * 12 * 48, 0)
    assert rows["patch_embed.proj"].bops == rows["head"].bops == 0


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    gradients: list[list[Tensor]] = []
    options: dict[str, Any] = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2}
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **options)
        model.set_grad_checkpointing(checkpointing)
        bnnapps.binarize(model, [Rule(types=["timm.Attention", "linear"], use="bibert")])
        model.train()(torch.ones(1, 3, 16, 16)).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
