from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._utils import ExceptionWrapper

from bnnapps.errors import BnnappsError, DataError, MissingExtraError
from bnnapps.training.loader import EpochBatches, EpochLoader


def loader(size: int, batch_size: int, seed: int, lengths=None) -> EpochLoader:
    return EpochLoader(list(range(size)), torch.tensor, batch_size, seed, lengths)


@given(st.integers(1, 60), st.integers(1, 16), st.integers(0, 5), st.integers(0, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_example_comes_once_an_epoch(size, batch_size, seed, epoch, grouped):
    lengths = [i % 7 for i in range(size)] if grouped else None
    batches = EpochBatches(size, batch_size, seed, lengths)
    batches.epoch = epoch
    found = [i for batch in batches for i in batch]
    assert sorted(found) == list(range(size))
    assert len(list(batches)) == len(batches)
    assert all(len(b) <= batch_size for b in batches)


def test_the_order_follows_from_seed_and_epoch_alone():
    a, b = loader(30, 4, 1), loader(30, 4, 1)
    torch.manual_seed(123)
    first = [x.tolist() for x in a]
    torch.manual_seed(7)
    assert [x.tolist() for x in b] == first
    a.set_epoch(1)
    assert [x.tolist() for x in a] != first
    assert [x.tolist() for x in loader(30, 4, 2)] != first


def test_it_draws_nothing_from_the_global_random_state():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader(30, 4, 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_grouping_by_length_wastes_less_padding():
    lengths = [(i * 37) % 50 + 1 for i in range(512)]

    def padded(batches):
        return sum(max(lengths[i] for i in b) * len(b) for b in batches)

    assert padded(EpochBatches(512, 8, 0, lengths)) < 0.7 * padded(EpochBatches(512, 8, 0))


@given(st.integers(1, 40), st.integers(1, 9), st.data())
@settings(max_examples=40, deadline=None)
def test_a_restored_loader_hands_out_the_rest_of_the_epoch(size, batch_size, data):
    whole = loader(size, batch_size, 5)
    whole.set_epoch(2)
    everything = [x.tolist() for x in whole]
    stop = data.draw(st.integers(0, len(everything)))
    first = loader(size, batch_size, 5)
    first.set_epoch(2)
    iterator = iter(first)
    head = [next(iterator).tolist() for _ in range(stop)]
    state = first.state_dict() if stop else {"epoch": 2, "handed_out": 0}
    second = loader(size, batch_size, 5)
    second.load_state_dict(state)
    assert len(second) == len(everything)
    assert head + [x.tolist() for x in second] == everything
    assert second.state_dict() == {"epoch": 2, "handed_out": len(everything)}


def test_without_shuffling_the_order_is_that_of_the_data():
    batches = EpochBatches(5, 2, 0, shuffle=False)
    assert list(batches) == [[0, 1], [2, 3], [4]]


class Broken:
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index != 2:
            return index
        if not isinstance(self.error, ExceptionWrapper):
            raise self.error
        return self.error.reraise()


def wrapped(error):
    try:
        raise error
    except type(error):
        return ExceptionWrapper(where="in DataLoader worker process 0")


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (DataError("a.png is no mask: repair it"), DataError, "^a.png is no mask: repair it$"),
        (MissingExtraError("scipy", "image", "SBD"), BnnappsError, r"^SBD needs the package 'scipy', .*\]'$"),
        (ValueError("of a library"), ValueError, "Original Traceback"),
        (RuntimeError("of a library"), RuntimeError, "Original Traceback"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Exception) else "",
)
def test_what_is_wrong_in_a_worker_is_said_in_one_line(error, expected, message):
    with pytest.raises(type(error), match=re.escape(str(error))):
        list(EpochLoader(Broken(error), torch.tensor, 2, 0))
    with pytest.raises(expected, match=message):
        list(EpochLoader(Broken(wrapped(error)), torch.tensor, 2, 0))


def test_a_worker_s_error_arrives():
    with pytest.raises(DataError, match=r"^a\.png is no mask$"):
        list(EpochLoader(Broken(DataError("a.png is no mask")), torch.tensor, 2, 0, workers=1))
