from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import bnnapps
from bnnapps.errors import UsageError
from bnnapps.training.taps import Taps, hugging_face_taps

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}


def encoder(name: str) -> nn.Module:
    torch.manual_seed(0)
    t = transformers
    return {
        "bert": lambda: t.BertForSequenceClassification(t.BertConfig(vocab_size=99, **SIZES)),
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(vocab_size=99, **SIZES)),
        "distilbert": lambda: t.DistilBertModel(
            t.DistilBertConfig(vocab_size=99, dim=32, n_layers=3, n_heads=4, hidden_dim=64)
        ),
        "vit": lambda: t.ViTModel(t.ViTConfig(image_size=32, patch_size=8, **SIZES)),
        "electra": lambda: t.ElectraModel(t.ElectraConfig(vocab_size=99, embedding_size=16, **SIZES)),
        "albert": lambda: t.AlbertModel(t.AlbertConfig(vocab_size=99, embedding_size=16, **SIZES)),
        "deberta": lambda: t.DebertaV2Model(t.DebertaV2Config(vocab_size=99, **SIZES)),
    }[name]().eval()


def batch(name: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    if name == "vit":
        return {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator)}
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    return {"input_ids": torch.randint(3, 99, (2, 9), generator=generator), "attention_mask": mask}


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "vit", "electra", "albert", "deberta"])
def test_hidden_states_are_those_of_transformers(name: str) -> None:
    model = encoder(name)
    with Taps(model, hugging_face_taps(model)) as taps:
        expected = model(**batch(name), output_hidden_states=True).hidden_states
    found = taps.features["hidden"]
    assert len(found) == 3 + 1
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "vit", "electra", "albert"])
def test_hidden_states_of_a_binarized_encoder(name: str) -> None:
    model = encoder(name)
    names = hugging_face_taps(model)
    bnnapps.binarize(model, "bibert")
    binary_names = hugging_face_taps(model)
    assert {tap: n for tap, n in binary_names.items() if tap != "scores"} == names
    with Taps(model, binary_names) as taps:
        expected = model(**batch(name), output_hidden_states=True).hidden_states
    assert all(torch.equal(a, b) for a, b in zip(taps.features["hidden"], expected, strict=True))
    assert [tuple(s.shape[:2]) for s in taps.features["scores"]] == [(2, 4)] * 3


def test_projections_and_scores_of_bert() -> None:
    model = encoder("bert")
    bnnapps.binarize(model, "bibert")
    with Taps(model, hugging_face_taps(model)) as taps:
        model(**batch("bert"))
    layer = model.get_submodule("bert.encoder.layer.1.attention.self")
    hidden = taps.features["hidden"][1]
    assert torch.equal(taps.features["query"][1], layer.query(hidden))  # type: ignore[operator]
    q, k = (taps.features[n][1].view(2, 9, 4, 8).transpose(1, 2) for n in ("query", "key"))
    signs = torch.where(q >= 0, 1.0, -1.0) @ torch.where(k >= 0, 1.0, -1.0).transpose(-1, -2)
    torch.testing.assert_close(taps.features["scores"][1], signs / 8**0.5)


def test_models_without_a_stack_or_with_two() -> None:
    with pytest.raises(UsageError, match="Linear has no stack of layers"):
        hugging_face_taps(nn.Linear(2, 2))
    two = nn.ModuleDict({"left": encoder("bert"), "right": encoder("distilbert")})
    with pytest.raises(UsageError, match=r"'left\.bert\.encoder\.layer', 'right\.transformer\.layer'"):
        hugging_face_taps(two)


def test_features_are_in_the_order_of_the_names_and_carry_gradients(model: nn.Sequential) -> None:
    x = torch.ones(3, 4)
    with Taps(model, {"back": ["2", "0"], "in": ["1:input"]}) as taps:
        output = model(x)
    features = taps.features
    assert features["back"][0] is output
    assert torch.equal(features["back"][1], model[0](x))
    assert features["in"][0] is features["back"][1]
    features["in"][0].sum().backward()
    assert model[0].weight.grad is not None


def test_tapped_features_change_nothing(model: nn.Sequential) -> None:
    x = torch.ones(3, 4)
    before = model(x)
    with Taps(model, {"all": ["0", "1", "2"]}):
        assert torch.equal(model(x), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_each_forward_pass_starts_afresh(model: nn.Sequential) -> None:
    taps = Taps(model, {"all": ["0"]}).attach().attach()
    for size in (3, 5):
        model(torch.ones(size, 4))
    assert [tuple(t.shape) for t in taps.features["all"]] == [(5, 4)]
    model[0](torch.ones(7, 4))  # outside of a forward pass of the model
    assert [tuple(t.shape) for t in taps.features["all"]] == [(5, 4)]
    taps.clear()
    with pytest.raises(UsageError, match="tap 'all': the module '0' did not run"):
        _ = taps.features
    taps.remove()
    model(torch.ones(3, 4))
    with pytest.raises(UsageError, match="did not run"):
        _ = taps.features


def test_a_failed_forward_pass_leaves_nothing_running(model: nn.Sequential) -> None:
    with Taps(model, {"all": ["0"]}) as taps:
        with pytest.raises(RuntimeError):
            model(torch.ones(3, 5))
        model[0](torch.ones(3, 4))
        with pytest.raises(UsageError, match="did not run"):
            _ = taps.features


def test_shared_modules_give_one_tensor_a_run_and_their_first_input() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    x = torch.ones(2, 4)
    with Taps(model, {"all": ["0:input", "0"]}) as taps:
        output = model(x)
    found = taps.features["all"]
    assert len(found) == 3
    assert found[0] is x
    assert torch.equal(found[1], layer(x))
    assert found[2] is output


def test_recomputation_is_not_collected() -> None:
    model = encoder("bert").train()
    model.gradient_checkpointing_enable()  # type: ignore[operator]
    with Taps(model, hugging_face_taps(model)) as taps:
        loss = model(**batch("bert")).logits.sum()
        assert len(taps.features["hidden"]) == 4
        loss.backward()
        assert len(taps.features["hidden"]) == 4


class Records(nn.Module):
    def forward(self, x: Tensor, kind: str) -> Any:
        return {"tuple": (x, x + 1), "dict": {"first": x, "second": x + 1}, "nested": [(x,)], "text": "x"}[kind]


class Calls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Records()

    def forward(self, x: Tensor, kind: str) -> Any:
        return self.inner(x=x, kind=kind)


def test_outputs_that_hold_several_tensors() -> None:
    model, x = Calls(), torch.ones(2)
    with Taps(model, {"out": ["inner"], "in": ["inner:input"]}) as taps:
        for kind in ("tuple", "dict", "nested"):
            model(x, kind)
            assert taps.features["out"] == [x]
            assert taps.features["in"][0] is x
        with pytest.raises(UsageError, match="'inner' gives a str"):
            model(x, "text")


def test_names_that_are_wrong() -> None:
    model = encoder("bert")
    with pytest.raises(
        UsageError, match=r"tap 'query': .* 'bert\.encoder\.layers\.0'; the nearest are 'bert\.encoder\.layer\.0'"
    ):
        Taps(model, {"query": ["bert.encoder.layers.0"]})
    assert not any(m._forward_hooks for m in model.modules())


def test_copies_carry_no_taps(model: nn.Sequential) -> None:
    taps = Taps(model, {"all": ["0", "2"]}).attach()
    model(torch.ones(3, 4))
    twin, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for other in (twin, pickled):
        other(torch.ones(5, 4))
        assert [tuple(t.shape) for t in taps.features["all"]] == [(3, 4), (3, 2)]
    both = copy.deepcopy({"model": model, "taps": taps})
    both["taps"].attach()  # type: ignore[union-attr]
    both["model"](torch.ones(6, 4))  # type: ignore[operator]
    assert [len(t) for t in both["taps"].features["all"]] == [6, 6]  # type: ignore[union-attr]
    assert [tuple(t.shape) for t in taps.features["all"]] == [(3, 4), (3, 2)]
