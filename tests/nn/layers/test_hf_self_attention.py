from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from torch import Tensor, nn

import bnnapps
from bnnapps.errors import BinarizeError
from bnnapps.nn import functional as BF
from bnnapps.nn.layers import BinaryHFSelfAttention

WORDS: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "initializer_range": 0.4,
    "pad_token_id": 0,
}
SIGHT: dict[str, Any] = {
    k: v for k, v in WORDS.items() if k not in ("vocab_size", "max_position_embeddings", "pad_token_id")
}
SIGHT |= {"image_size": 16, "patch_size": 8}
DISTIL: dict[str, Any] = {
    "vocab_size": 50,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 32,
    "initializer_range": 0.4,
}
TOKENS: dict[str, Any] = {"eos_token_id": 1, "bos_token_id": 2, "cls_token_id": 3, "sep_token_id": 4}
MODELS: dict[str, Callable[[], Any]] = {
    "BERT": lambda: t.BertForSequenceClassification(t.BertConfig(**WORDS)),
    "RoBERTa": lambda: t.RobertaForSequenceClassification(t.RobertaConfig(**WORDS)),
    "DistilBERT": lambda: t.DistilBertForSequenceClassification(t.DistilBertConfig(**DISTIL)),
    "ELECTRA": lambda: t.ElectraForSequenceClassification(t.ElectraConfig(**WORDS, embedding_size=8)),
    "ViT": lambda: t.ViTForImageClassification(t.ViTConfig(**SIGHT)),
    "ModernBERT": lambda: t.ModernBertForSequenceClassification(t.ModernBertConfig(**WORDS, **TOKENS)),
    "GPT-2": lambda: t.GPT2ForSequenceClassification(
        t.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=40, pad_token_id=0, eos_token_id=1)
    ),
}
ENCODERS = [n for n in MODELS if n != "GPT-2"]
TEXT = [n for n in MODELS if n != "ViT"]
METHODS = ["bibert", "bit", "naive", "binarybert"]
by_model = pytest.mark.parametrize("name", MODELS)
by_encoder = pytest.mark.parametrize("name", ENCODERS)


def build(name: str) -> Any:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def inputs(name: str) -> dict[str, Tensor]:
    if name == "ViT":
        return {"pixel_values": torch.randn(2, 3, 16, 16)}
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    words = torch.randint(5, 50, (2, 7))
    return {"input_ids": words.masked_fill(mask == 0, 0), "attention_mask": mask}


def logits(model: Any, given: dict[str, Tensor], **options: Any) -> Tensor:
    found: Tensor = model(**given, **options).logits
    return found


def attentions(model: nn.Module) -> list[BinaryHFSelfAttention]:
    return [m for m in model.modules() if isinstance(m, BinaryHFSelfAttention)]


def calibrated(model: Any, given: dict[str, Tensor]) -> Any:
    with torch.no_grad():
        model.train()(**given)
    return model.eval()


@by_model
@pytest.mark.parametrize("method", METHODS)
def test_plan_binarize_run_copy_restore(name: str, method: str) -> None:
    model, given = build(name), inputs(name)
    state, expected = copy.deepcopy(model.state_dict()), logits(model, given)
    configs = [m.config for m in model.modules() if hasattr(m, "config")]
    plan = bnnapps.plan(model, method)
    assert sum(e.type == "hf.SelfAttention" for e in plan.binarized) == 2
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, given)
    calibrated(model, given)
    with torch.no_grad():
        binary = logits(model, given)
        assert not torch.allclose(binary, expected)
        assert torch.equal(logits(copy.deepcopy(model), given), binary)
        assert torch.equal(logits(pickle.loads(pickle.dumps(model)), given), binary)
    bnnapps.restore(model)
    assert [m.config for m in model.modules() if hasattr(m, "config")] == configs
    assert all(
        a is b for a, b in zip([m.config for m in model.modules() if hasattr(m, "config")], configs, strict=True)
    )
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(logits(model, given), expected)


REAL = {
    "rules": [
        {
            "types": ["hf.SelfAttention"],
            "use": {"method": "bit", "query": None, "key": None, "value": None, "weights": None},
        }
    ],
    "keep_first": 0,
    "keep_last": 0,
}


@by_model
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_with_real_operands_it_is_the_float_attention(name: str, implementation: str) -> None:
    model, given = build(name), inputs(name)
    model.set_attn_implementation(implementation)
    expected = logits(model, given)
    bnnapps.binarize(model, REAL)
    assert len(attentions(model)) == 2
    torch.testing.assert_close(logits(model, given), expected, rtol=1e-4, atol=1e-4)
    unpadded = {k: v[:1] for k, v in given.items() if k != "attention_mask"}
    found = logits(model, unpadded)
    torch.testing.assert_close(found, logits(bnnapps.restore(model), unpadded), rtol=1e-4, atol=1e-4)


@by_model
@pytest.mark.parametrize("method", METHODS)
def test_eager_and_sdpa_give_the_same_binary_result(name: str, method: str) -> None:
    given, found = inputs(name), []
    for implementation in ("eager", "sdpa"):
        model = build(name)
        model.set_attn_implementation(implementation)
        bnnapps.binarize(model, method)
        calibrated(model, given)
        with torch.no_grad():
            found.append(logits(model, given))
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("method", ["bibert", "bit"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_padded_positions_do_not_reach_the_others(name: str, method: str, implementation: str) -> None:
    model, given = build(name), inputs(name)
    model.set_attn_implementation(implementation)
    bnnapps.binarize(model, method)
    calibrated(model, given)
    base = getattr(model, model.base_model_prefix)
    with torch.no_grad():
        before = base(**given)[0]
        other = torch.where(given["attention_mask"] == 0, torch.randint(5, 50, (2, 7)), given["input_ids"])
        after = base(input_ids=other, attention_mask=given["attention_mask"])[0]
        seen = given["attention_mask"].bool()
        assert torch.equal(before[seen], after[seen])
        changed = torch.where(given["attention_mask"] == 1, torch.randint(5, 50, (2, 7)), given["input_ids"])
        assert not torch.equal(base(input_ids=changed, attention_mask=given["attention_mask"])[0][seen], before[seen])


@pytest.mark.parametrize("method", ["bibert", "bit"])
def test_a_causal_model_does_not_look_ahead(method: str) -> None:
    model, given = build("GPT-2"), inputs("GPT-2")
    bnnapps.binarize(model, method)
    calibrated(model, given)
    for mask in ({}, {"attention_mask": torch.ones(2, 7, dtype=torch.long)}):
        with torch.no_grad():
            before = model.transformer(input_ids=given["input_ids"], **mask)[0]
            later = given["input_ids"].clone()
            later[:, 4:] = 9
            after = model.transformer(input_ids=later, **mask)[0]
        assert torch.equal(before[:, :4], after[:, :4])
        assert not torch.equal(before[:, 4:], after[:, 4:])


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (2, -1)).transpose(1, 2)


@pytest.mark.parametrize("method", ["bibert", "bit", "naive"])
def test_attention_of_bert_is_the_published_formula(method: str) -> None:
    model, given = build("BERT").double(), inputs("BERT")
    bnnapps.binarize(model, method)
    calibrated(model, given)
    attention = attentions(model)[0]
    x = torch.randn(2, 7, 16, dtype=torch.float64)
    hidden = given["attention_mask"][:, None, None, :] == 0
    with torch.no_grad():
        context, weights = attention(x, attention_mask=~hidden)
        q, k, v = (heads(layer(x)) for layer in (attention.query, attention.key, attention.value))
        parts = attention.binary
        scales = [1.0 if method != "bit" else float(b.alpha) for b in (parts.query, parts.key, parts.value)]
        scores = (BF.sign(q) * scales[0]) @ (BF.sign(k) * scales[1]).mT / 8**0.5
        scores = scores.masked_fill(hidden, -1e300)
        if method == "bibert":
            expected = BF.step(scores)
        elif method == "naive":
            expected = BF.sign(scores.softmax(-1))
        else:
            alpha = float(parts.weights.alpha)  # type: ignore[union-attr]
            expected = alpha * BF.step(scores.softmax(-1) - alpha / 2)
        torch.testing.assert_close(weights, expected)
        torch.testing.assert_close(context, (expected @ (BF.sign(v) * scales[2])).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@by_encoder
def test_hidden_states_and_attentions_can_be_asked_for(name: str, implementation: str) -> None:
    model, given = build(name), inputs(name)
    model.set_attn_implementation("eager")
    count = len(model(**given, output_hidden_states=True).hidden_states)
    model.set_attn_implementation(implementation)
    bnnapps.binarize(model, "bibert")
    with torch.no_grad():
        plain = logits(model, given)
        output = model(**given, output_hidden_states=True, output_attentions=implementation == "eager")
    assert torch.equal(output.logits, plain)
    assert len(output.hidden_states) == count
    if implementation == "eager":
        assert len(output.attentions) == 2
        assert all(set(a.unique().tolist()) <= {0.0, 1.0} for a in output.attentions)
    outputs = model(**given, return_dict=False)
    assert torch.equal(outputs[0], plain)


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "ELECTRA", "ViT", "DistilBERT"])
def test_one_attention_can_stay_float_next_to_binary_ones(name: str) -> None:
    model, given = build(name), inputs(name)
    kept = [n for n, m in model.named_modules() if type(m).__name__.endswith("Attention") and hasattr(m, "config")][-2]
    layer = model.get_submodule(kept)
    seen: list[str] = []
    rules = [bnnapps.Rule(types=["hf.SelfAttention"], use="bibert"), bnnapps.Rule(match=kept, keep="for comparison")]
    found = [e.name for e in bnnapps.plan(model, rules, keep_first=0, keep_last=0).binarized]
    assert kept not in found
    bnnapps.binarize(model, rules, keep_first=0, keep_last=0)
    layer.register_forward_hook(lambda *_: seen.append(layer.config._attn_implementation))
    with torch.no_grad():
        logits(model, given)
    assert seen == ["sdpa"]
    assert model.config._attn_implementation == "sdpa"
    assert len(attentions(model)) == len(found) == 1
    assert attentions(model)[0].config._attn_implementation == "bnnapps"


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "DistilBERT", "ViT", "ELECTRA"])
def test_gradient_checkpointing_gives_the_same_gradients(name: str) -> None:
    given, gradients = inputs(name), []
    for checkpointing in (False, True):
        model = build(name)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        bnnapps.binarize(model, "bibert")
        logits(model.train(), given).square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert list(gradients[0]) == list(gradients[1])
    assert all(torch.equal(gradients[0][n], gradients[1][n]) for n in gradients[0])


@by_encoder
@pytest.mark.parametrize("method", METHODS)
def test_defect_4_query_and_key_projections_get_a_gradient(name: str, method: str) -> None:
    model, given = build(name), inputs(name)
    bnnapps.binarize(model, method)
    calibrated(model, given).train()
    base = getattr(model, model.base_model_prefix)
    base(**given)[0].square().sum().backward()
    for attention in attentions(model):
        for key, layer in attention.named_children():
            if isinstance(layer, nn.Linear):
                halves = getattr(layer.binary.weight, "first", layer.weight)
                assert halves.grad is not None, key
                assert halves.grad.any(), key


@by_model
def test_restored_models_are_saved_by_transformers(name: str, tmp_path: Path) -> None:
    model, given = build(name), inputs(name)
    expected = logits(model, given)
    bnnapps.binarize(model, "bibert")
    bnnapps.restore(model)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again, given), expected)


def test_config_of_a_binary_model_is_saved_as_that_of_a_float_one(tmp_path: Path) -> None:
    model = bnnapps.binarize(build("BERT"), "bibert")
    model.config.save_pretrained(tmp_path)
    again = t.AutoConfig.from_pretrained(tmp_path)
    assert "bnnapps" not in str(again.to_dict())


def test_dropout_is_active_in_training_only() -> None:
    model, given = build("BERT"), inputs("BERT")
    bnnapps.binarize(model, "bibert")
    for attention in attentions(model):
        attention.dropout.p = 0.5  # type: ignore[union-attr]
    with torch.no_grad():
        assert torch.equal(logits(model.eval(), given), logits(model.eval(), given))
        assert not torch.equal(logits(model.train(), given), logits(model.train(), given))


def test_scores_can_be_tapped_before_the_mask() -> None:
    model, given = build("BERT"), inputs("BERT")
    bnnapps.binarize(model, "bibert")
    seen: list[Tensor] = []
    for attention in attentions(model):
        attention.binary.scores.register_forward_hook(lambda m, a, out: seen.append(out))
    logits(model, given)
    assert [s.shape for s in seen] == [(2, 2, 7, 7)] * 2
    steps = (seen[0] * 8**0.5).round(decimals=3)
    assert bool((steps.abs() <= 8).all())
    assert bool((steps.remainder(2) == 0).all())  # sums of eight signs


def test_another_process_can_load_a_pickled_attention() -> None:
    from bnnapps.nn.layers import hf_attention

    model, given = bnnapps.binarize(build("BERT"), "bibert"), inputs("BERT")
    expected = logits(model, given)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    hf_attention.register.cache_clear()
    assert torch.equal(logits(torch.load(file, weights_only=False), given), expected)


@pytest.mark.parametrize("implementation", ["flash_attention_2", "flex_attention", "paged|sdpa"])
def test_masks_that_cannot_be_read_are_refused_at_planning(implementation: str) -> None:
    model = build("BERT")
    for module in model.modules():
        if hasattr(module, "config"):
            module.config = copy.deepcopy(module.config)
            module.config._attn_implementation_internal = implementation
    with pytest.raises(BinarizeError, match=r"attn_implementation='sdpa'"):
        bnnapps.plan(model, "bibert")
    assert not attentions(model)


def test_what_the_attention_function_does_not_compute_is_said() -> None:
    model = bnnapps.binarize(build("BERT"), "bibert")
    attention = attentions(model)[0]
    with pytest.raises(BinarizeError, match="uses 'softcap', which a binary attention does not compute"):
        attention(torch.randn(1, 3, 16), softcap=30.0)


def test_a_token_s_own_sliding_window_comes_with_the_mask() -> None:
    config = t.ModernBertConfig(**WORDS, **TOKENS, local_attention=4, layer_types=["sliding_attention"] * 2)
    torch.manual_seed(0)
    model = t.ModernBertModel(config).eval()
    bnnapps.binarize(model, "bibert")
    words = torch.randint(5, 50, (1, 20))
    far = words.clone()
    far[:, 12:] = 7
    with torch.no_grad():
        # Two layers of windows of two positions to each side: position 0 sees no further than position 4.
        assert torch.equal(model(input_ids=words)[0][:, :2], model(input_ids=far)[0][:, :2])
        near = words.clone()
        near[:, 1] = 7
        assert not torch.equal(model(input_ids=words)[0][:, :1], model(input_ids=near)[0][:, :1])
