from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import bnnapps
from bnnapps.errors import CheckpointError, DataError, RecipeError
from bnnapps.plugins.text.config import TextModel
from bnnapps.plugins.text.encoder import build_encoder, from_record, heads_of, longest_text, set_dropout

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
VOCABULARY = {"vocab_size": 30, "pad_token_id": 0}


def built(seed: int = 3, labels: int = 3, **more: Any) -> nn.Module:
    return build_encoder(TextModel(config=BERT, **more), labels, seed, VOCABULARY)


def equal(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(1)
    config = transformers.BertConfig(**{k: v for k, v in BERT.items() if k != "model_type"}, **VOCABULARY)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def from_folder(path, labels: int = 3, **more: Any) -> nn.Module:
    return build_encoder(TextModel(path=str(path), **more), labels, 3, {})


def test_a_configuration_gives_random_weights_that_follow_from_the_seed():
    model = built()
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.classifier.out_features == 3
    assert model.bert.embeddings.word_embeddings.num_embeddings == 30
    assert equal(model, built())
    assert not equal(model, built(seed=4))


def test_a_folder_gives_its_weights_and_a_head_for_the_task(folder):
    model = from_folder(folder)
    saved = transformers.BertForSequenceClassification.from_pretrained(folder)
    assert equal(model.bert, saved.bert)
    assert model.classifier.weight.shape == (3, 16)
    assert equal(model, from_folder(folder))  # the new head too


def test_loading_shows_no_bars_and_no_tables(folder, capfd):
    bars = transformers.utils.logging
    bars.enable_progress_bar()
    from_folder(folder)
    assert capfd.readouterr() == ("", "")
    assert bars.is_progress_bar_enabled()
    assert logging.getLogger("transformers").level != logging.ERROR


@pytest.mark.parametrize(("rate", "expected"), [(None, 0.1), (0.0, 0.0), (0.4, 0.4)])
@pytest.mark.parametrize("source", ["config", "path"])
def test_dropout_is_the_models_own_unless_given(folder, rate, expected, source):
    model = built(dropout=rate) if source == "config" else from_folder(folder, dropout=rate)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {expected}
    assert model.config.attention_probs_dropout_prob == model.config.hidden_dropout_prob == expected


def test_dropout_of_distilbert_has_other_names():
    model = transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(vocab_size=30, dim=16, n_layers=1, n_heads=2, hidden_dim=24)
    )
    set_dropout(model, 0.3)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.3}
    config = model.config
    assert (config.dropout, config.attention_dropout, config.seq_classif_dropout) == (0.3, 0.3, 0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "brt"}, "model.config: unknown model_type 'brt'; the nearest are 'bert'"),
        ({"hiden_size": 3}, "model.config: bert has no 'hiden_size'; the nearest are 'hidden_size'"),
        ({"hidden_size": 17}, "model.config: .*17"),
        ({"hidden_act": "geluu"}, "model.config: .*geluu"),
    ],
)
def test_a_configuration_that_does_not_fit(change, message):
    with pytest.raises(RecipeError, match=message) as caught:
        build_encoder(TextModel(config=BERT | change), 2, 0, VOCABULARY)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(DataError, match=r"model.path: '.*' has no config.json: expected a folder written by"):
        from_folder(tmp_path)


@pytest.mark.parametrize("damage", ["no weights", "broken weights", "broken config", "unknown type"])
def test_a_folder_that_cannot_be_loaded(folder, damage):
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "no weights":
        weights.unlink()
    elif damage == "broken weights":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "broken config":
        config.write_text("{", encoding="utf-8")
    else:
        config.write_text(json.dumps({"model_type": "brt"}), encoding="utf-8")
    with pytest.raises(DataError, match=r"model.path: '.*' cannot be loaded: ") as caught:
        from_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 8}, r"'bert\.[a-zA-Z_.0-9]+' is \(.*16.*\) in the weights and \(.*8.*\) by the configuration"),
        ({"num_hidden_layers": 2}, r"there is no 'bert\.encoder\.layer\.1\."),
    ],
)
def test_weights_of_another_configuration_are_not_replaced_by_random_ones(folder, change, message):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(DataError, match=r"its weights are not those of its config\.json: .*" + message):
        from_folder(folder)


def test_a_bare_encoder_gets_a_new_head_and_pooler(folder):
    bare = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
    bare.save_pretrained(folder)
    model = from_folder(folder)
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, bare.embeddings.word_embeddings.weight)
    assert equal(model, from_folder(folder))


def test_a_pickled_checkpoint_in_a_folder_is_not_run(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nmkdir\n(V" + str(tmp_path / "sprung").encode() + b"\ntR.")
    with pytest.raises(DataError, match="refused"):
        from_folder(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_record_builds_the_same_shape_again(folder):
    for model in (built(), from_folder(folder)):
        record = json.loads(json.dumps(model.config.to_dict(), default=str))
        again = from_record(record)
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in model.state_dict().items()
        }
        again.load_state_dict(model.state_dict())
        assert equal(again, model)


def test_a_record_may_hold_keys_of_older_versions():
    record = built().config.to_dict() | {"gradient_checkpointing": False, "transformers_version": "2.1", "x_y": [1]}
    before = dict(record)
    assert from_record(record).classifier.out_features == 3
    assert record == before


@pytest.mark.parametrize("record", [{}, {"model_type": "brt"}, BERT | {"hidden_size": 17}])
def test_a_record_that_cannot_be_built_is_a_matter_of_the_checkpoint(record):
    with pytest.raises(CheckpointError, match="the checkpoint's model cannot be built here: "):
        from_record(record)


SMALL: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}


def test_the_longest_text_is_what_the_model_can_take():
    t = transformers
    bert = t.BertForSequenceClassification(t.BertConfig(**SMALL))
    roberta = t.RobertaForSequenceClassification(t.RobertaConfig(**SMALL))
    distilbert = t.DistilBertForSequenceClassification(
        t.DistilBertConfig(
            vocab_size=30, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=20, pad_token_id=0
        )
    )
    assert [longest_text(m) for m in (bert, roberta, distilbert)] == [20, 18, 20]
    assert longest_text(nn.Linear(2, 2)) is None
    for model in (bert, roberta, distilbert):
        length = longest_text(model)
        assert length is not None
        model(input_ids=torch.full((1, length), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, length + 1), 5))


def test_heads_are_counted_in_the_model_and_not_in_its_configuration():
    model = built()
    assert heads_of(model) == 2
    model.config.num_attention_heads = 4
    assert heads_of(model) == 2
    bnnapps.binarize(model, "bibert")
    assert heads_of(model) == 2
