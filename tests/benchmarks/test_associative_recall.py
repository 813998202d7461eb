"""The benchmark in small: an attention binarized badly forgets what the float network and Bi-Attention recall."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from associative_recall import ARMS, Recall, Setting, accuracy, batch_of, run, student_of, table

from bnnapps.binarize import plan_of
from bnnapps.text import render

SMALL = Setting(pairs=4, keys=6, values=4, width=32, heads=2, layers=1, steps=250, batch=64, lr=4e-3, test_batches=16)


def test_the_answer_is_the_value_beside_the_key_that_is_asked():
    keys, values, answers = batch_of(SMALL, torch.Generator().manual_seed(3))
    assert keys.shape == values.shape == (64, 5)
    for row, told, answer in zip(keys.tolist(), values.tolist(), answers.tolist(), strict=True):
        assert len(set(row[:-1])) == 4
        assert told[row.index(row[-1])] == answer
        assert told[-1] == SMALL.values
    assert answers.unique().tolist() == [0, 1, 2, 3]


def test_a_student_keeps_embeddings_and_head_real_and_starts_from_the_teacher():
    teacher = Recall(SMALL)
    student = student_of(teacher, SMALL, "bibert")
    names = {e.name for e in plan_of(student).binarized}
    assert not names & {"key", "value", "head"}
    assert len(names) == 1 + 6  # attention; query, key, value, output and both layers of the feed-forward block
    state = student.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in teacher.state_dict().items())


def test_an_untrained_network_guesses():
    assert accuracy(Recall(SMALL), SMALL) == pytest.approx(25, abs=10)


def test_bi_attention_recalls_and_the_naive_sign_does_not():
    arms = ("float", "bibert", "naive")
    found = run(arms, [0], SMALL)
    (floating,), (bibert,), (naive,) = (found[arm] for arm in arms)
    assert floating > 97
    assert bibert > 85
    assert naive < 75
    assert bibert - naive > 20
    shown = render(table(found, SMALL), width=200)
    assert all(ARMS[arm].title in shown for arm in arms)
