"""miniglue: small tasks in the shape of GLUE, generated from grammars, so that everything runs with nothing downloaded.

The text is generated. Results on it say that training works and how methods compare; they are no evidence about
real language, and reports must call them generated.

A label rarely hangs on one word. Trained on train and scored on dev, at the default sizes with seed 0, a classifier
that sees only which words occur (logistic regression on the word counts of each sentence; for stsb ridge regression and
Pearson correlation) stays far below the ceiling, which is 1: every label follows from a rule.

    task   split            chance   bag of words   what decides and words alone do not show
    sst2   dev                0.50           0.72   negation, and which clause of a contrast counts
    cola   dev                0.50           0.57   agreement, word order, arguments of the verb
    stsb   dev                0.00           0.12   which words of the two sentences match
    mnli   dev_matched        0.33           0.40   monotonicity of the quantifier, kinds of things
    mnli   dev_mismatched     0.33           0.36   the same, about other things than the train set
    rte    dev                0.50           0.59   the same, with two labels
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from bnnapps.errors import UsageError
from bnnapps.plugins.text.glue import Example, GlueTask, get_task
from bnnapps.plugins.text.miniglue.acceptability import make_sentence
from bnnapps.plugins.text.miniglue.dice import Dice
from bnnapps.plugins.text.miniglue.inference import Relation, make_statements
from bnnapps.plugins.text.miniglue.sentiment import make_review
from bnnapps.plugins.text.miniglue.similarity import make_scenes

GENERATED = True
"""For reports: this text is generated."""

SIZES = {"train": 8000, "dev": 1000}
"""Default number of examples of the train set and of each dev set."""

Keep = Callable[[str], bool]
"""Whether a sentence may be used in this split."""

_RELATIONS: tuple[Relation, ...] = ("entailment", "neutral", "contradiction")
_DEV_SHARE = 4
_PATIENCE = 2000


@dataclass(frozen=True)
class _Maker:
    """How one task is made: the number of classes (or levels of the score) that are balanced, and the grammar."""

    classes: int
    make: Callable[[Dice, int, str, Keep], Example | None]


def _sst2(dice: Dice, label: int, split: str, keep: Keep) -> Example | None:
    return Example(text, None, label) if keep(text := make_review(dice, label)) else None


def _cola(dice: Dice, label: int, split: str, keep: Keep) -> Example | None:
    return Example(text, None, label) if keep(text := make_sentence(dice, label)) else None


def _stsb(dice: Dice, level: int, split: str, keep: Keep) -> Example | None:
    made = make_scenes(dice, level, keep)
    return Example(*made) if made is not None else None


def _rte(dice: Dice, label: int, split: str, keep: Keep) -> Example | None:
    wanted: Relation = "entailment" if label == 0 else dice.pick(("neutral", "contradiction"))
    made = make_statements(dice, wanted, dice.chance(0.5), keep)
    return Example(*made, label) if made is not None else None


def _mnli(dice: Dice, label: int, split: str, keep: Keep) -> Example | None:
    away = dice.chance(0.9 if split == "dev_mismatched" else 0.1)
    made = make_statements(dice, _RELATIONS[label], away, keep)
    return Example(*made, label) if made is not None else None


_MAKERS = {
    "cola": _Maker(2, _cola),
    "sst2": _Maker(2, _sst2),
    "stsb": _Maker(6, _stsb),
    "mnli": _Maker(3, _mnli),
    "rte": _Maker(2, _rte),
}

GENERATED_TASKS = tuple(_MAKERS)
"""The tasks that can be generated."""


def generate(task: str, split: str, size: int | None = None, seed: int = 0) -> list[Example]:
    """`size` examples of a split, the same for the same arguments on every machine.

    Labels (of stsb: scores, rounded) are balanced and in random order. No example comes twice, and no sentence of a
    train set ever stands in a dev set, whatever the seeds and sizes. Raises UsageError for a task that is not
    generated, a split it lacks, or a size that the grammar cannot fill.
    """
    known = get_task(task)
    maker = _maker(known)
    splits = ("train", *known.dev)
    if split not in splits:
        raise UsageError(f"miniglue has no split '{split}' of {task}; its splits are {', '.join(splits)}")
    count = SIZES["train" if split == "train" else "dev"] if size is None else size
    if count < 1:
        raise UsageError(f"miniglue: the size of {task} {split} is {count}; it must be at least 1")
    dice = Dice("miniglue", task, split, seed)
    targets = [i % maker.classes for i in range(count)]
    dice.shuffle(targets)
    seen: set[Example] = set()
    return [_fresh(dice, maker, target, split, seen, f"{task} {split}") for target in targets]


def _maker(task: GlueTask) -> _Maker:
    if task.name not in _MAKERS:
        raise UsageError(
            f"miniglue does not generate '{task.name}', only {', '.join(_MAKERS)}; for {task.folder} use source "
            "'folder' or 'hub'"
        )
    return _MAKERS[task.name]


def _fresh(dice: Dice, maker: _Maker, target: int, split: str, seen: set[Example], what: str) -> Example:
    """An example that is new and whose sentences all belong to this side of the train/dev divide."""
    keep = _is_train if split == "train" else _is_dev
    for _ in range(_PATIENCE):
        example = maker.make(dice, target, split, keep)
        if example is not None and example not in seen:
            seen.add(example)
            return example
    raise UsageError(f"miniglue cannot make more than {len(seen)} different examples of {what}; ask for fewer")


def _is_train(sentence: str) -> bool:
    """Three quarters of all sentences are for training, by a checksum of the sentence."""
    return zlib.crc32(sentence.encode()) % _DEV_SHARE != 0


def _is_dev(sentence: str) -> bool:
    return not _is_train(sentence)
