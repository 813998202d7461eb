from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoTokenizer, BertConfig

from bnnapps.errors import DataError, HubError, MissingExtraError, UsageError
from bnnapps.plugins.text.glue import Example
from bnnapps.plugins.text.miniglue import generate
from bnnapps.plugins.text.tokenization import SPECIAL_TOKENS, encode, load_tokenizer, train_wordpiece

TEXTS = [e.text for e in generate("sst2", "train", 400)]
SHORT = ["low low low lower lowest", "new newer newest new", "wide wider"]


def test_the_same_texts_give_the_same_vocabulary_in_any_order() -> None:
    # the trainer of the tokenizers library alone gives another vocabulary each time, even within a process
    first = train_wordpiece(TEXTS, 300).get_vocab()
    shuffled = list(TEXTS)
    random.Random(1).shuffle(shuffled)
    assert all(train_wordpiece(texts, 300).get_vocab() == first for texts in (TEXTS, shuffled, iter(TEXTS)))
    assert len(first) == 300
    assert sorted(first.values()) == list(range(300))


def test_ids_are_special_tokens_then_characters_then_pieces() -> None:
    tokenizer = train_wordpiece(SHORT, 40)
    by_id = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert tuple(by_id[:5]) == SPECIAL_TOKENS
    letters = sorted(set("lowerstnid"))
    inner = sorted({"##" + letter for word in " ".join(SHORT).split() for letter in word[1:]})
    assert by_id[5 : 5 + len(letters) + len(inner)] == [*letters, *inner]
    assert tokenizer.tokenize("low") == ["low"]
    assert set(tokenizer.all_special_tokens) == set(SPECIAL_TOKENS)


def test_every_learned_piece_occurs_in_a_word() -> None:
    vocabulary = train_wordpiece(TEXTS, 300).get_vocab()
    words = {word for text in TEXTS for word in text.replace(".", " ").replace("'", " ").replace("-", " ").split()}
    for piece in vocabulary:
        if len(piece.removeprefix("##")) > 1 and piece not in SPECIAL_TOKENS:
            inside = piece.startswith("##")
            assert any(piece[2:] in word[1:] if inside else word.startswith(piece) for word in words), piece


def test_pairs_are_wrapped_as_bert_does() -> None:
    tokenizer = train_wordpiece(TEXTS, 300)
    encoded = tokenizer("the plot", "a cast")
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert tokens[0] == "[CLS]"
    assert tokens.count("[SEP]") == 2
    split = tokens.index("[SEP]") + 1
    assert encoded["token_type_ids"] == [0] * split + [1] * (len(tokens) - split)
    assert tokenizer.decode(encoded["input_ids"], skip_special_tokens=True) == "the plot a cast"
    assert tokenizer("THE Plot")["input_ids"] == tokenizer("the plot")["input_ids"]
    assert tokenizer.unk_token_id in tokenizer("the 漢")["input_ids"]


def test_case_is_kept_on_request() -> None:
    tokenizer = train_wordpiece(["Low low LOW"], 40, lowercase=False)
    assert tokenizer.tokenize("Low low") == ["Low", "low"]


def test_too_small_a_vocabulary_names_the_least_size() -> None:
    with pytest.raises(UsageError, match=r"a vocabulary of 10 is too small: .* need 23"):
        train_wordpiece(SHORT, 10)
    assert len(train_wordpiece(SHORT, 23)) == 23


def test_a_saved_tokenizer_loads_again(tmp_path: Path) -> None:
    tokenizer = train_wordpiece(TEXTS, 300)
    tokenizer.save_pretrained(tmp_path)
    BertConfig(vocab_size=300).save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path), local_only=True)
    assert again.get_vocab() == tokenizer.get_vocab()
    examples = generate("rte", "train", 20)
    assert encode(again, examples, 32) == encode(tokenizer, examples, 32)
    assert again.pad_token_id == 0


def test_examples_become_plain_lists() -> None:
    tokenizer = train_wordpiece(SHORT, 60)
    rows = encode(tokenizer, [Example("low new"), Example("wide")], 16)
    assert [list(row) for row in rows] == [["input_ids", "token_type_ids", "attention_mask"]] * 2
    assert rows[0]["input_ids"] == tokenizer("low new")["input_ids"]
    assert rows[1]["attention_mask"] == [1] * len(rows[1]["input_ids"])
    assert all(type(value) is list for row in rows for value in row.values())
    assert encode(tokenizer, [], 16) == []


@pytest.mark.parametrize("length", [5, 6, 9, 64])
def test_the_longer_text_of_a_pair_is_cut_first(length: int) -> None:
    tokenizer = train_wordpiece(["a b c d e f g h"], 40)
    long, short = "a b c d e f g h", "h g"
    (row,) = encode(tokenizer, [Example(long, short)], length)
    room = length - 3
    kept = max(room - 2, room // 2 + room % 2)
    tokens = tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert len(tokens) == min(length, 13)
    expected = ["[CLS]", *long.split()[:kept], "[SEP]", *short.split()[: room - kept], "[SEP]"]
    assert tokens == expected


def test_a_length_without_room_for_text_is_refused() -> None:
    tokenizer = train_wordpiece(SHORT, 60)
    assert len(encode(tokenizer, [Example("low low low")], 4)[0]["input_ids"]) == 4
    with pytest.raises(UsageError, match="max_length 4 leaves no room for text beside 3 special tokens"):
        encode(tokenizer, [Example("low", "new")], 4)


@pytest.mark.parametrize(
    ("model_type", "tokenizer_class", "has_types"),
    [("bert", "BertTokenizer", True), ("distilbert", "DistilBertTokenizer", False)],
)
def test_only_the_keys_that_the_model_takes(
    model_type: str, tokenizer_class: str, has_types: bool, tmp_path: Path
) -> None:
    vocabulary = [*SPECIAL_TOKENS, "low", "new", "##er"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}), encoding="utf-8")
    (row,) = encode(load_tokenizer(tmp_path), [Example("lower", "new")], 16)
    assert row["input_ids"] == [2, 5, 7, 3, 6, 3]
    assert ("token_type_ids" in row) == has_types


def test_roberta_has_no_token_types(tmp_path: Path) -> None:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "l", "o", "w", "lo", "low", "Ġ", "Ġlow"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\nl o\nlo w\nĠ low\n", encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    (row,) = encode(tokenizer, [Example("low low", "low")], 16)
    assert list(row) == ["input_ids", "attention_mask"]
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == ["<s>", "low", "Ġlow", "</s>", "</s>", "low", "</s>"]


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "../missing", "~/missing-tokenizer", "a/b/c"])
def test_a_missing_folder_is_named(name: str) -> None:
    with pytest.raises(DataError, match=f"no folder {name}, which should hold a tokenizer"):
        load_tokenizer(name)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no tokenizer that transformers can load \(expected") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "tokenizer.json").write_text("{broken", encoding="utf-8")
    with pytest.raises(DataError, match="holds no tokenizer that transformers can load"):
        load_tokenizer(tmp_path)


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub is at a local port where nothing listens; returns its empty cache."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("unreachable")
def test_an_unreachable_hub_is_one_clear_line() -> None:
    with pytest.raises(
        HubError, match="the model 'google/bert' is not in the local cache and the hub cannot be reached"
    ):
        load_tokenizer("google/bert")
    with pytest.raises(HubError, match="the model 'bert' is not in the local cache; check the name"):
        load_tokenizer("bert", local_only=True)


def test_a_cached_model_is_used_where_the_hub_is_unreachable(unreachable: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = unreachable / "models--some--bert"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    tokenizer = train_wordpiece(SHORT, 40)
    tokenizer.save_pretrained(repository / "snapshots" / commit)
    for local_only in (True, False):
        assert load_tokenizer("some/bert", local_only).get_vocab() == tokenizer.get_vocab()


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AutoTokenizer is not None
    monkeypatch.setitem(sys.modules, "transformers", None)
    for call in (lambda: load_tokenizer("any"), lambda: train_wordpiece(SHORT, 40)):
        with pytest.raises(MissingExtraError, match=r"'transformers', which is not installed: pip install"):
            call()
