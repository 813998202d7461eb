from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from scipy.stats import pearsonr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from bnnapps.errors import UsageError
from bnnapps.plugins.text import miniglue
from bnnapps.plugins.text.glue import TASKS, Example
from bnnapps.plugins.text.miniglue import GENERATED_TASKS, generate, inference
from bnnapps.plugins.text.miniglue.dice import Dice
from bnnapps.plugins.text.miniglue.folder import write_folder
from bnnapps.plugins.text.miniglue.morphology import participle, past, plural, progressive, third_person
from bnnapps.plugins.text.tsv import load_folder

SPLITS = [(task, split) for task in GENERATED_TASKS for split in ("train", *TASKS[task].dev)]


def digest(examples: list[Example]) -> str:
    return hashlib.sha256(repr([(e.text, e.pair, e.label) for e in examples]).encode()).hexdigest()[:16]


def sentences(examples: list[Example]) -> set[str]:
    return {sentence for e in examples for sentence in (e.text, e.pair) if sentence is not None}


def level(label: int | float | None) -> int:
    assert label is not None
    return int(label + 0.5)


# What the generator gives on every machine; a change here changes every figure that was measured on miniglue.
DIGESTS = {
    ("cola", "train"): "28c863e93297fbbd",
    ("cola", "dev"): "446f8436550e61a4",
    ("sst2", "train"): "c4db2b3f35d9be74",
    ("sst2", "dev"): "1343ed4867e5338f",
    ("stsb", "train"): "7c4544df007af90a",
    ("stsb", "dev"): "02f98b65de996887",
    ("mnli", "train"): "10b17068bea42b7b",
    ("mnli", "dev_matched"): "57c6d94150b3d1a1",
    ("mnli", "dev_mismatched"): "c35e473b94c1c8c9",
    ("rte", "train"): "51eb4f3252d3c9c0",
    ("rte", "dev"): "9673200cf3c6ef3e",
}


@pytest.mark.parametrize(("task", "split"), SPLITS)
def test_examples_are_the_same_on_every_machine(task: str, split: str) -> None:
    assert digest(generate(task, split, 200, seed=7)) == DIGESTS[task, split]


@pytest.mark.parametrize(("task", "split"), SPLITS)
def test_labels_are_balanced_and_examples_new(task: str, split: str) -> None:
    examples = generate(task, split, 600)
    counts = Counter(level(e.label) for e in examples)
    classes = 6 if TASKS[task].regression else TASKS[task].num_labels
    assert counts == dict.fromkeys(range(classes), 600 // classes)
    assert len(set(examples)) == 600
    assert all((e.pair is None) == (TASKS[task].pair is None) for e in examples)
    if TASKS[task].regression:
        assert all(isinstance(e.label, float) and 0.0 <= e.label <= 5.0 for e in examples)
    else:
        assert all(type(e.label) is int for e in examples)
    labels = [level(e.label) for e in examples]
    assert labels != sorted(labels)


@pytest.mark.parametrize("task", GENERATED_TASKS)
def test_no_train_sentence_stands_in_a_dev_set_whatever_the_seeds(task: str) -> None:
    train = sentences(generate(task, "train", 1500, seed=1)) | sentences(generate(task, "train", 700, seed=2))
    for split in TASKS[task].dev:
        assert not train & sentences(generate(task, split, 400, seed=3))


@pytest.mark.parametrize("task", GENERATED_TASKS)
def test_seeds_and_splits_differ(task: str) -> None:
    first, second = (generate(task, "train", 100, seed) for seed in (0, 1))
    assert len(set(first) & set(second)) < 10


def test_mnli_dev_sets_differ_in_domain() -> None:
    away = {word for noun in inference.AWAY_NOUNS for word in (noun, plural(noun))}

    def share(split: str) -> float:
        return float(np.mean([bool(away & set(e.text.strip(".").split())) for e in generate("mnli", split, 300)]))

    assert share("dev_matched") < 0.25 < 0.75 < share("dev_mismatched")
    assert share("train") < 0.25


def test_default_sizes_and_the_mark_of_generated_text() -> None:
    assert miniglue.GENERATED
    assert len(generate("cola", "train")) == miniglue.SIZES["train"]
    assert len(generate("cola", "dev")) == miniglue.SIZES["dev"]


def test_what_cannot_be_generated_is_named() -> None:
    with pytest.raises(
        UsageError, match="miniglue does not generate 'qqp', only cola, sst2, stsb, mnli, rte; for QQP use"
    ):
        generate("qqp", "train", 10)
    with pytest.raises(UsageError, match="unknown GLUE task 'sst'"):
        generate("sst", "train", 10)
    with pytest.raises(UsageError, match="miniglue has no split 'dev' of mnli; its splits are train, dev_matched"):
        generate("mnli", "dev", 10)
    with pytest.raises(UsageError, match="the size of rte dev is 0; it must be at least 1"):
        generate("rte", "dev", 0)


def test_a_size_that_the_grammar_cannot_fill_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniglue, "make_review", lambda dice, label: f"only {label} or {dice.below(3)} .")
    with pytest.raises(UsageError, match=r"cannot make more than \d different examples of sst2 train; ask for fewer"):
        generate("sst2", "train", 20)


def test_a_written_folder_is_read_back_equal(tmp_path: Path) -> None:
    paths = write_folder(tmp_path, GENERATED_TASKS, seed=5, sizes={"train": 60, "dev": 30})
    assert tmp_path / "MNLI" / "dev_mismatched.tsv" in paths
    assert len(paths) == len(SPLITS)
    for task in GENERATED_TASKS:
        splits = load_folder(tmp_path, TASKS[task])
        assert list(splits) == ["train", *TASKS[task].dev]
        for split, examples in splits.items():
            assert examples == generate(task, split, 60 if split == "train" else 30, seed=5)
    header = (tmp_path / "STS-B" / "dev.tsv").read_text().splitlines()[0]
    assert header.split("\t") == list(TASKS["stsb"].columns)
    assert len((tmp_path / "MNLI" / "dev_matched.tsv").read_text().splitlines()[0].split("\t")) == 16
    assert (tmp_path / "CoLA" / "train.tsv").read_text().startswith("generated\t")


def test_the_vocabulary_has_several_hundred_words() -> None:
    words = {
        word
        for task in GENERATED_TASKS
        for sentence in sentences(generate(task, "train", 2000))
        for word in re.findall(r"[a-z']+", sentence.lower())
    }
    assert 500 < len(words) < 1000


def documented(task: str, split: str) -> tuple[float, float]:
    """Chance and the bag-of-words figure that the module's docstring gives."""
    assert miniglue.__doc__ is not None
    row = re.search(rf"^ +{task} +{split} +([\d.]+) +([\d.]+) ", miniglue.__doc__, re.MULTILINE)
    assert row is not None
    return float(row.group(1)), float(row.group(2))


def word_counts(train: list[Example], dev: list[Example]) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
    sides = []
    for column in ("text", "pair") if train[0].pair is not None else ("text",):
        counter = CountVectorizer(token_pattern=r"[\w']+")
        fitted = counter.fit_transform([getattr(e, column) for e in train])
        sides.append((fitted, counter.transform([getattr(e, column) for e in dev])))
    return tuple(scipy.sparse.hstack(side).tocsr() for side in zip(*sides, strict=True))


@pytest.mark.parametrize(("task", "split"), [(task, split) for task, split in SPLITS if split != "train"])
def test_words_alone_decide_some_but_not_all(task: str, split: str) -> None:
    train, dev = generate(task, "train"), generate(task, split)
    inputs, dev_inputs = word_counts(train, dev)
    labels, dev_labels = (np.array([e.label for e in examples]) for examples in (train, dev))
    if TASKS[task].regression:
        found = float(pearsonr(Ridge().fit(inputs, labels).predict(dev_inputs), dev_labels).statistic)
        majority = 0.0
    else:
        found = float(LogisticRegression(max_iter=1000).fit(inputs, labels).score(dev_inputs, dev_labels))
        majority = max(Counter(dev_labels).values()) / len(dev_labels)
    chance, words_alone = documented(task, split)
    assert majority == pytest.approx(chance, abs=0.01)
    assert found == pytest.approx(words_alone, abs=0.03)
    assert chance < words_alone < 0.8


def test_forms_of_words() -> None:
    assert [plural(w) for w in ("dog", "puppy", "boss", "box", "child", "boy")] == [
        *("dogs", "puppies", "bosses", "boxes", "children", "boys")
    ]
    assert [third_person(w) for w in ("run", "carry", "watch", "play")] == ["runs", "carries", "watches", "plays"]
    assert [past(w) for w in ("help", "carry", "like", "see", "play")] == [
        "helped",
        "carried",
        "liked",
        "saw",
        "played",
    ]
    assert [participle(w) for w in ("see", "help")] == ["seen", "helped"]
    assert [progressive(w) for w in ("write", "run", "see", "pet", "carry")] == [
        *("writing", "running", "seeing", "petting", "carrying")
    ]


def test_dice_are_fair_and_shuffle_keeps_everything() -> None:
    dice = Dice("fair")
    counts = Counter(dice.below(6) for _ in range(6000))
    assert set(counts) == set(range(6))
    assert all(800 < count < 1200 for count in counts.values())
    items = list(range(50))
    dice.shuffle(items)
    assert items != sorted(items)
    assert sorted(items) == list(range(50))
    assert {dice.other("ab", "a") for _ in range(20)} == {"b"}
    assert {dice.maybe("a", 0.5) for _ in range(50)} == {"a", None}
