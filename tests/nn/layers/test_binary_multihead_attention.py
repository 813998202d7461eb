from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnnapps
from bnnapps.nn import ActivationSpec, AttentionSpec, BinaryMultiheadAttention, LinearSpec, WeightSpec
from bnnapps.nn import functional as BF

REAL = AttentionSpec(
    query=None, key=None, value=None, weights=None, softmax=True, projection=LinearSpec(weight=None, activation=None)
)
BATCH, TARGET, SOURCE, EMBED, HEADS = 2, 5, 7, 8, 2
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "sizes of key and value": {"kdim": 6, "vdim": 10},
    "size of key": {"kdim": 6, "batch_first": True},
    "bias of key and value": {"add_bias_kv": True},
    "zero position": {"add_zero_attn": True},
    "both": {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    "everything": {
        "add_bias_kv": True,
        "add_zero_attn": True,
        "batch_first": True,
        "kdim": 6,
        "vdim": 10,
        "bias": False,
    },
}
by_options = pytest.mark.parametrize("name", OPTIONS)


def masks() -> dict[str, dict[str, Tensor]]:
    hidden = torch.zeros(BATCH, SOURCE, dtype=torch.bool)
    hidden[0, 5:], hidden[1, :2] = True, True
    causal = torch.ones(TARGET, SOURCE, dtype=torch.bool).triu(2)
    each_head = (torch.rand(BATCH * HEADS, TARGET, SOURCE) > 0.6) & ~torch.eye(TARGET, SOURCE, dtype=torch.bool)
    bias = torch.randn(TARGET, SOURCE, dtype=torch.float64)
    infinite = torch.zeros(TARGET, SOURCE, dtype=torch.float64).masked_fill(causal, -math.inf)
    return {
        "none": {},
        "padding": {"key_padding_mask": hidden},
        "real padding": {"key_padding_mask": torch.randn(BATCH, SOURCE, dtype=torch.float64)},
        "causal": {"attn_mask": causal},
        "real": {"attn_mask": bias},
        "infinite": {"attn_mask": infinite},
        "of each head": {"attn_mask": each_head},
        "real of each head": {"attn_mask": torch.randn(BATCH * HEADS, TARGET, SOURCE, dtype=torch.float64)},
        "both": {"attn_mask": causal, "key_padding_mask": hidden & ~torch.tensor([True, False] * 3 + [False])},
        "both real": {"attn_mask": infinite, "key_padding_mask": torch.randn(BATCH, SOURCE, dtype=torch.float64)},
    }


def pair(spec: AttentionSpec, **options: Any) -> tuple[nn.MultiheadAttention, BinaryMultiheadAttention]:
    layer = nn.MultiheadAttention(EMBED, HEADS, dtype=torch.float64, **options)
    for name, parameter in layer.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    twin = BinaryMultiheadAttention(EMBED, HEADS, dtype=torch.float64, **options, spec=spec)
    twin.load_state_dict(layer.state_dict())
    return layer.eval(), twin.eval()


def inputs(options: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    sizes = [(TARGET, EMBED), (SOURCE, options.get("kdim") or EMBED), (SOURCE, options.get("vdim") or EMBED)]
    made = [torch.randn(BATCH, *size, dtype=torch.float64) for size in sizes]
    query, key, value = made if options.get("batch_first") else [x.transpose(0, 1) for x in made]
    return query, key, value


@by_options
@pytest.mark.parametrize("mask", masks())
def test_with_real_operands_it_is_the_float_attention(name: str, mask: str) -> None:
    layer, twin = pair(REAL, **OPTIONS[name])
    qkv = inputs(OPTIONS[name])
    for average in (True, False):
        expected = layer(*qkv, **masks_of(mask), average_attn_weights=average)
        found = twin(*qkv, **masks_of(mask), average_attn_weights=average)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    output, weights = twin(*qkv, **masks_of(mask), need_weights=False)
    torch.testing.assert_close(output, expected[0], rtol=1e-9, atol=1e-9)
    assert weights is None


def masks_of(name: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return masks()[name]


@by_options
@pytest.mark.parametrize("mask", [m for m in masks() if "each head" not in m])
def test_unbatched_inputs(name: str, mask: str) -> None:
    layer, twin = pair(REAL, **OPTIONS[name])
    qkv = [x.select(0 if OPTIONS[name].get("batch_first") else 1, 0) for x in inputs(OPTIONS[name])]
    given = {k: v[0] if k == "key_padding_mask" else v for k, v in masks_of(mask).items()}
    torch.testing.assert_close(twin(*qkv, **given), layer(*qkv, **given), rtol=1e-9, atol=1e-9)


def test_unbatched_mask_of_each_head() -> None:
    layer, twin = pair(REAL)
    qkv = [x[:, 0] for x in inputs({})]
    mask = torch.randn(HEADS, TARGET, SOURCE, dtype=torch.float64)
    torch.testing.assert_close(twin(*qkv, attn_mask=mask), layer(*qkv, attn_mask=mask), rtol=1e-9, atol=1e-9)


def binary_projection(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    alpha = weight.abs().mean(1)
    product = BF.sign(x) @ BF.sign(weight).t() * alpha
    return product if bias is None else product + bias


def oracle(
    layer: nn.MultiheadAttention, qkv: tuple[Tensor, Tensor, Tensor], mask: Tensor | None, softmax: bool
) -> tuple[Tensor, Tensor]:
    """Bi-Attention (or its softmax version) for batch-first inputs; `mask` true where a query may not look."""
    packed = layer.in_proj_weight
    weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight) if packed is None else packed.chunk(3)
    biases = [None] * 3 if layer.in_proj_bias is None else list(layer.in_proj_bias.chunk(3))
    q, k, v = (binary_projection(*operands) for operands in zip(qkv, weights, biases, strict=True))
    if layer.bias_k is not None and layer.bias_v is not None:
        k = torch.cat([k, layer.bias_k.expand(BATCH, 1, EMBED)], 1)
        v = torch.cat([v, layer.bias_v.expand(BATCH, 1, EMBED)], 1)
    if layer.add_zero_attn:
        zero = torch.zeros(BATCH, 1, EMBED, dtype=k.dtype)
        k, v = torch.cat([k, zero], 1), torch.cat([v, zero], 1)
    q, k, v = (BF.sign(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.mT / math.sqrt(EMBED / HEADS)
    if mask is not None:
        scores = scores.masked_fill(F.pad(mask, (0, scores.shape[-1] - mask.shape[-1])), -1e30)
    attended = BF.step(scores.softmax(-1)) if softmax else BF.step(scores)
    context = (attended @ v).transpose(1, 2).flatten(2)
    return binary_projection(context, layer.out_proj.weight, layer.out_proj.bias), attended.mean(1)


@by_options
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
def test_binary_attention_is_the_formula(name: str, masked: bool, softmax: bool) -> None:
    layer, twin = pair(AttentionSpec(softmax=softmax), **OPTIONS[name])
    qkv = inputs(OPTIONS[name])
    batch_first = qkv if OPTIONS[name].get("batch_first") else tuple(x.transpose(0, 1) for x in qkv)
    given = masks_of("both") if masked else {}
    mask = (given["attn_mask"] | given["key_padding_mask"].unsqueeze(1)).unsqueeze(1) if masked else None
    expected, attended = oracle(layer, batch_first, mask, softmax)  # type: ignore[arg-type]
    output, weights = twin(*qkv, **given)
    torch.testing.assert_close(output if OPTIONS[name].get("batch_first") else output.transpose(0, 1), expected)
    torch.testing.assert_close(weights, attended)


@pytest.mark.parametrize("kind", ["bool", "real", "infinite"])
def test_hidden_positions_have_no_influence_without_a_softmax(kind: str) -> None:
    _, twin = pair(AttentionSpec(), batch_first=True)
    query, key, value = inputs({"batch_first": True})
    hidden = masks_of("padding")["key_padding_mask"]
    lowest = {
        "bool": hidden,
        "real": hidden.double() * -1e4,
        "infinite": torch.zeros(2, 7).double().masked_fill(hidden, -math.inf),
    }
    before = twin(query, key, value, key_padding_mask=lowest[kind])
    key, value = (torch.where(hidden.unsqueeze(-1), torch.randn_like(x) * 9, x) for x in (key, value))
    after = twin(query, key, value, key_padding_mask=lowest[kind])
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert not before[1].masked_select(hidden.unsqueeze(1)).any()


@pytest.mark.parametrize("softmax", [False, True])
def test_a_query_that_may_look_nowhere_gives_numbers(softmax: bool) -> None:
    _, twin = pair(AttentionSpec(softmax=softmax), batch_first=True)
    qkv = [x.requires_grad_() for x in inputs({"batch_first": True})]
    output, _ = twin(*qkv, key_padding_mask=torch.ones(BATCH, SOURCE, dtype=torch.bool))
    assert bool(output.isfinite().all())
    gradients = torch.autograd.grad(output.sum(), qkv)
    assert all(bool(g.isfinite().all()) for g in gradients)


def test_self_attention_with_one_tensor() -> None:
    layer, twin = pair(REAL)
    x = torch.randn(4, 2, EMBED, dtype=torch.float64)
    torch.testing.assert_close(twin(x, x, x), layer(x, x, x))


def test_causal_hint() -> None:
    layer, twin = pair(REAL)
    x = torch.randn(5, 2, EMBED, dtype=torch.float64)
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    expected = layer(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]
    torch.testing.assert_close(twin(x, x, x, attn_mask=mask, is_causal=True)[0], expected)
    with pytest.raises(ValueError, match="pass attn_mask too"):
        twin(x, x, x, is_causal=True)


def test_nested_tensors_are_refused() -> None:
    _, twin = pair(AttentionSpec(), batch_first=True)
    nested = torch.nested.nested_tensor([torch.randn(3, EMBED), torch.randn(4, EMBED)], layout=torch.jagged)
    with pytest.raises(ValueError, match="no nested tensors"):
        twin(nested, nested, nested)


def test_dropout_takes_attended_positions_away_and_only_in_training() -> None:
    spec = AttentionSpec(projection=LinearSpec(weight=None, activation=None))
    twin = BinaryMultiheadAttention(EMBED, HEADS, dropout=0.5, spec=spec)
    x = torch.randn(200, 1, EMBED)
    _, still = twin.eval()(x, x, x, average_attn_weights=False)
    _, again = twin(x, x, x, average_attn_weights=False)
    assert torch.equal(still, again)
    _, dropped = twin.train()(x, x, x, average_attn_weights=False)
    assert set(dropped.unique().tolist()) == {0.0, 1.0}
    assert not (dropped > still).any()
    assert float(dropped.sum() / still.sum()) == pytest.approx(0.5, abs=0.02)


LEARNED = AttentionSpec(
    weights=ActivationSpec(unsigned=True, scale="elastic"),
    softmax=True,
    projection=LinearSpec(activation=ActivationSpec(shift="channel", scale="elastic")),
)


@pytest.mark.parametrize(
    "spec", [AttentionSpec(), AttentionSpec(softmax=True), LEARNED], ids=["bi", "softmax", "learned"]
)
@pytest.mark.parametrize("name", ["default", "everything"])
def test_defect_4_query_key_and_value_projections_get_a_gradient(spec: AttentionSpec, name: str) -> None:
    options = OPTIONS[name]
    _, twin = pair(spec, **options)
    twin.train()
    output, _ = twin(*inputs(options))
    output.square().sum().backward()
    for key, parameter in twin.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
    rows = twin.in_proj_weight.grad.chunk(3) if twin._qkv_same_embed_dim else ()  # type: ignore[union-attr]
    separate = () if rows else (twin.q_proj_weight.grad, twin.k_proj_weight.grad, twin.v_proj_weight.grad)
    for gradient in (*rows, *separate):
        assert gradient is not None
        assert gradient.any()


SPLIT = AttentionSpec(
    projection=LinearSpec(weight=WeightSpec.model_validate({"kind": "split", "estimator": "identity"}))
)


@by_options
def test_each_projection_is_split_from_its_own_weight(name: str) -> None:
    layer, twin = pair(SPLIT, **OPTIONS[name])
    packed = layer.in_proj_weight
    weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight) if packed is None else packed.chunk(3)
    for key, weight in zip(("q", "k", "v", "out"), (*weights, layer.out_proj.weight), strict=True):
        halves = twin.binary.projection(key).weight
        assert halves is not None
        torch.testing.assert_close(halves.first + halves.second, weight, rtol=1e-12, atol=1e-12)
        assert halves.first.requires_grad


def test_constraints_reach_the_packed_weight() -> None:
    weight = WeightSpec(constraint="clip")
    _, twin = pair(AttentionSpec(projection=LinearSpec(weight=weight)))
    with torch.no_grad():
        twin.in_proj_weight.mul_(100)  # type: ignore[union-attr]
        twin.out_proj.weight.mul_(100)
    twin.constrain()
    for parameter in (twin.in_proj_weight, twin.out_proj.weight):
        assert parameter is not None
        assert float(parameter.detach().abs().max()) == 1.0


@by_options
def test_deployed_weights_are_scale_times_code_under_the_float_names(name: str) -> None:
    layer, twin = pair(AttentionSpec(), **OPTIONS[name])
    deployed = twin.binary_tensors()
    expected = {k: v for k, v in layer.named_parameters() if k.endswith("weight")}
    assert set(deployed) == set(expected)
    for key, weight in expected.items():
        w = weight.detach()
        torch.testing.assert_close(deployed[key], BF.sign(w) * w.abs().mean(1, keepdim=True))


def encoder(norm_first: bool = False, activation: str = "relu") -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        EMBED, HEADS, 16, dropout=0.0, batch_first=True, norm_first=norm_first, activation=activation
    )
    return nn.TransformerEncoder(layer, 2)


WHERE = {"attention": ["multihead_attention"], "feed-forward": ["linear"], "both": ["multihead_attention", "linear"]}


@pytest.mark.parametrize("types", WHERE.values(), ids=WHERE)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_fused_path_of_the_transformer_encoder_does_not_pass_binary_layers_by(
    types: list[str], padded: bool, grad: bool, activation: str
) -> None:
    model = encoder(activation=activation)
    plan = bnnapps.plan(model, [bnnapps.Rule(types=types, use="bibert")], keep_first=0, keep_last=0)
    bnnapps.apply_plan(model, plan)
    x = torch.randn(3, 6, EMBED)
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[1, 4:] = padded
    given = {"src": x, "src_key_padding_mask": mask} if padded else {"src": x}
    plan.assert_ran(model, given)
    trained = model.train()(**given)
    with torch.set_grad_enabled(grad):
        evaluated = model.eval()(**given)
    if "multihead_attention" in types:
        assert torch.equal(evaluated, trained)
    else:  # the attention is real, and has a fused path of its own that rounds differently
        torch.testing.assert_close(evaluated, trained, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_encoder_takes_its_fast_path_back_when_restored() -> None:
    model = encoder().eval()
    x, mask = torch.randn(3, 6, EMBED), torch.zeros(3, 6, dtype=torch.bool)
    mask[1, 4:] = True
    with torch.no_grad():
        before = model(x, src_key_padding_mask=mask)
        nested = model.use_nested_tensor
        bnnapps.binarize(model, "bibert", keep_last=0)
        bnnapps.restore(model)
        assert model.use_nested_tensor == nested
        assert torch.equal(model(x, src_key_padding_mask=mask), before)
    hooks = [m for m in model.modules() if m._forward_pre_hooks or m._forward_hooks]
    assert not hooks
