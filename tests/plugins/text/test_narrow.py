from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from bnnapps.errors import RecipeError
from bnnapps.plugins.text.encoder import heads_of
from bnnapps.plugins.text.narrow import narrow_encoder

HEADS, SIZE, INNER, LAYERS = 4, 4, 24, 2
SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": HEADS * SIZE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
}
KINDS = ("bert", "roberta", "electra", "distilbert")
NAMES = {
    "bert": "bert.encoder.layer.{}.",
    "roberta": "roberta.encoder.layer.{}.",
    "electra": "electra.encoder.layer.{}.",
    "distilbert": "distilbert.transformer.layer.{}.",
}


def encoder(kind: str) -> nn.Module:
    torch.manual_seed(5)
    t = transformers
    distil = {"vocab_size": 30, "dim": HEADS * SIZE, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER}
    model: nn.Module = {
        "bert": lambda: t.BertForSequenceClassification(t.BertConfig(**SIZES)),
        "roberta": lambda: t.RobertaForSequenceClassification(t.RobertaConfig(**SIZES)),
        "electra": lambda: t.ElectraForSequenceClassification(t.ElectraConfig(embedding_size=8, **SIZES)),
        "distilbert": lambda: t.DistilBertForSequenceClassification(t.DistilBertConfig(**distil)),
    }[kind]()
    with torch.no_grad():
        for parameter in model.parameters():  # biases are zero at first
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def ends(model: nn.Module, kind: str, layer: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Output projection of the attention, first and second layer of the feed-forward block."""
    names = (
        ("attention.out_lin", "ffn.lin1", "ffn.lin2")
        if kind == "distilbert"
        else ("attention.output.dense", "intermediate.dense", "output.dense")
    )
    return tuple(model.get_submodule(NAMES[kind].format(layer) + n) for n in names)  # type: ignore[return-value]


def batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 3 + [0] * 4])
    return [
        {
            "input_ids": torch.randint(3, 30, (3, 7), generator=generator),
            "attention_mask": mask,
            "labels": torch.randint(2, (3,), generator=generator),
        }
        for _ in range(3)
    ]


def logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return found


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(logits(model, batch), batch["labels"])


def importance(model: nn.Module, layer: nn.Linear) -> Tensor:
    """|x dL/dx| a feature, from gates of one on every element: the gate's gradient is x dL/dx."""
    total = torch.zeros(layer.in_features)
    for batch in batches():
        gates: list[Tensor] = []

        def gated(module: nn.Module, args: tuple[Tensor], gates: list[Tensor] = gates) -> tuple[Tensor]:
            gates.append(torch.ones_like(args[0], requires_grad=True))
            return (args[0] * gates[0],)

        with layer.register_forward_pre_hook(gated):
            value = loss(model, batch)
        (gradient,) = torch.autograd.grad(value, gates)
        total += gradient.abs().flatten(0, -2).sum(0)
    return total


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("kind", KINDS)
def test_the_most_important_heads_and_features_stay(kind, width):
    full = encoder(kind).eval()
    narrow = narrow_encoder(copy.deepcopy(full).train(), width, batches(), loss)
    assert narrow.training
    heads, inner = round(HEADS * width), round(INNER * width)
    # The full network with the other heads and features switched off computes the same.
    scores = [[importance(full, layer) for layer in (ends(full, kind, i)[0], ends(full, kind, i)[2])] for i in (0, 1)]
    for i, (by_feature, by_inner) in enumerate(scores):
        output, first, second = ends(full, kind, i)
        head_scores = by_feature.view(HEADS, SIZE).sum(1)
        off_heads = head_scores.argsort()[: HEADS - heads].tolist()
        off_inner = by_inner.argsort()[: INNER - inner]
        with torch.no_grad():
            for head in off_heads:
                output.weight[:, head * SIZE : (head + 1) * SIZE] = 0
            second.weight[:, off_inner] = 0
        narrow_output, narrow_first, narrow_second = ends(narrow, kind, i)
        assert (narrow_output.in_features, narrow_output.out_features) == (heads * SIZE, HEADS * SIZE)
        assert (narrow_first.out_features, narrow_second.in_features) == (inner, inner)
        assert first.out_features == INNER
    assert heads_of(narrow) == heads
    narrow.eval()
    for batch in batches():
        torch.testing.assert_close(logits(narrow, batch), logits(full, batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_width_changes_nothing(kind):
    full = encoder(kind)
    narrow = narrow_encoder(copy.deepcopy(full), 1.0, batches(), loss)
    one, other = full.state_dict(), narrow.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_without_data_the_first_heads_and_features_stay():
    full = encoder("bert")
    narrow = narrow_encoder(copy.deepcopy(full), 0.5, [], loss)
    for i in range(LAYERS):
        (output, first, second), (o, f, s) = ends(full, "bert", i), ends(narrow, "bert", i)
        assert torch.equal(o.weight, output.weight[:, : 2 * SIZE])
        assert torch.equal(f.weight, first.weight[: INNER // 2])
        assert torch.equal(f.bias, first.bias[: INNER // 2])
        assert torch.equal(s.weight, second.weight[:, : INNER // 2])
        assert torch.equal(s.bias, second.bias)


def test_measuring_leaves_no_trace():
    full = encoder("bert")
    full.bert.pooler.eval()
    flags = [m.training for m in full.modules()]
    narrow = narrow_encoder(full, 0.5, batches(), loss)
    assert [m.training for m in narrow.modules()] == flags
    assert all(p.grad is None and p.requires_grad for p in narrow.parameters())
    assert not any(m._forward_pre_hooks for m in narrow.modules())


def test_a_narrowed_encoder_can_be_narrowed_again_and_trained():
    narrow = narrow_encoder(encoder("bert"), 0.5, batches(), loss)
    narrow_encoder(narrow, 0.5, batches(), loss)
    assert heads_of(narrow) == 1
    loss(narrow, batches()[0]).backward()
    assert all(p.grad is not None for p in narrow.parameters())


@pytest.mark.parametrize("width", [0.3, 0.1, 0.6])
def test_a_width_that_cuts_a_head_is_refused_and_changes_nothing(width):
    model = encoder("bert")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(RecipeError, match=f"width {width} of 4 heads is no whole number of heads"):
        narrow_encoder(model, width, batches(), loss)
    after = model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_other_networks_are_refused():
    with pytest.raises(RecipeError, match="Sequential has no self-attention that could be narrowed: remove 'width'"):
        narrow_encoder(nn.Sequential(nn.Linear(2, 2)), 0.5, [], loss)
    vit = transformers.ViTModel(transformers.ViTConfig(**{k: v for k, v in SIZES.items() if k != "vocab_size"}))
    with pytest.raises(RecipeError, match="remove 'width'"):
        narrow_encoder(vit, 0.5, [], loss)
