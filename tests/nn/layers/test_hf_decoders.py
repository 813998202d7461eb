"""Attention of Hugging Face decoders and of models with two towers: caches, grouped keys, biases, cross attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures.hugging_face import HUGGING_FACE
from torch import Tensor

import bnnapps
from bnnapps.nn.layers import BinaryHFSelfAttention

DECODERS = ["GPT-2", "LLaMA", "Qwen3", "OPT", "GPT-NeoX"]
PAIRS = ["T5", "BART", "Whisper"]
KEEP = {"keep_first": 0, "keep_last": 0}
REAL: dict[str, Any] = {"method": "bit", "query": None, "key": None, "value": None, "weights": None}


def attention(use: Any) -> dict[str, Any]:
    return {"rules": [{"types": ["hf.SelfAttention"], "use": use}], **KEEP}


def model_of(name: str) -> Any:
    return HUGGING_FACE[name].build().eval()


def logits(model: Any, given: Any, **options: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**given, **options).logits
    return found


@pytest.mark.parametrize("name", DECODERS + PAIRS)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_with_real_operands_it_is_the_float_attention(name: str, implementation: str) -> None:
    model, given = model_of(name), HUGGING_FACE[name].inputs()
    model.set_attn_implementation(implementation)
    expected = logits(model, given)
    plan = bnnapps.plan(model, attention(REAL))
    bnnapps.apply_plan(model, plan)
    plan.assert_ran(model, given)
    seen = given.get("attention_mask", torch.ones(1)).bool()
    found = logits(model, given)
    if name in DECODERS:
        found, expected = found[seen], expected[seen]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_with_a_cache_each_token_is_what_it_is_without(name: str) -> None:
    model = model_of(name)
    bnnapps.binarize(model, {"rules": [{"types": ["hf.SelfAttention", "linear"], "use": "bibert"}], **KEEP})
    words = torch.randint(3, 32, (2, 6))
    whole = logits(model, {"input_ids": words}, use_cache=False)
    cache, steps = None, []
    for i in range(words.shape[1]):
        with torch.no_grad():
            output = model(input_ids=words[:, i : i + 1], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-4, atol=1e-4)
    changed = words.clone()
    changed[:, 4:] = 31
    assert torch.equal(logits(model, {"input_ids": changed}, use_cache=False)[:, :4], whole[:, :4])


@pytest.mark.parametrize("name", ["LLaMA", "T5", "BART"])
def test_it_generates(name: str) -> None:
    model = model_of(name)
    bnnapps.binarize(model, attention("bibert"))
    words = torch.randint(3, 32, (2, 4))
    found = model.generate(input_ids=words, max_new_tokens=3, do_sample=False, min_new_tokens=3)
    assert found.shape[0] == 2
    assert found.shape[1] >= 3


@pytest.mark.parametrize("name", PAIRS)
def test_the_decoder_sees_what_the_encoder_read(name: str) -> None:
    model, given = model_of(name), HUGGING_FACE[name].inputs()
    bnnapps.binarize(model, attention("bibert"))
    key = "input_features" if name == "Whisper" else "input_ids"
    before = logits(model, given)
    other = torch.randn_like(given[key]) if name == "Whisper" else given[key].clone()
    if name != "Whisper":
        other[:, 0] = 31 - other[:, 0]
    assert not torch.equal(logits(model, {**given, key: other}), before)


def test_the_bias_of_t5_is_added_to_the_scores() -> None:
    model, given = model_of("T5"), HUGGING_FACE["T5"].inputs()
    bnnapps.binarize(model, attention("bibert"))
    first = model.encoder.block[0].layer[0].SelfAttention
    assert isinstance(first, BinaryHFSelfAttention)
    mask = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    with torch.no_grad():
        first.relative_attention_bias.weight.fill_(-100.0)
        blind = first(model.shared(given["input_ids"]), mask=mask)
        first.relative_attention_bias.weight.fill_(100.0)
        open_ = first(model.shared(given["input_ids"]), mask=mask)
    assert not blind[2].any()
    assert bool((open_[2] == 1).all())
