from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.export.graph.inputs import of_one_length, read_inputs, samples_of


class Two(nn.Module):
    def forward(self, left: Tensor, right: Tensor, *rest: Tensor, flag: bool = True) -> Tensor:
        return left + right


@pytest.mark.parametrize(
    ("example", "names"),
    [
        (torch.zeros(3, 4), ["left"]),
        ((torch.zeros(3, 4), torch.zeros(3)), ["left", "right"]),
        ((torch.zeros(3), torch.zeros(3), torch.zeros(3)), ["left", "right", "input_2"]),
        ({"right": torch.zeros(3, 4), "left": torch.zeros(3), "flag": False}, ["right", "left"]),
    ],
)
def test_names_come_from_the_signature_or_the_keys(example: Any, names: list[str]) -> None:
    inputs = read_inputs(Two(), example, dynamic_batch=True)
    assert list(inputs.tensors) == names
    assert inputs.batch == 3


def test_values_that_are_no_tensors_are_passed_on() -> None:
    example = {"left": torch.zeros(2), "right": torch.ones(2), "flag": False}
    inputs = read_inputs(Two(), example, dynamic_batch=True)
    given = inputs.rebuild([torch.zeros(5), torch.ones(5)])
    assert given["flag"] is False
    assert given["right"].shape == (5,)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ("text", "example_inputs is a str: pass a tensor, a tuple"),
        ({"flag": True}, "holds no tensor"),
        (([torch.zeros(2)], torch.zeros(2)), "example input 'left' is a list of tensors: pass each tensor by itself"),
        ({"left": {"a": torch.zeros(2)}}, "example input 'left' is a dict of tensors"),
    ],
)
def test_what_cannot_be_an_input_is_named(example: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_inputs(Two(), example, dynamic_batch=True)


def text(batch: int = 2, length: int = 6) -> dict[str, Tensor]:
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[1, 3:] = 0
    return {"input_ids": torch.randint(3, 9, (batch, length)), "attention_mask": mask}


def test_batch_and_sequence_axes_of_text_are_free() -> None:
    inputs = read_inputs(Two(), text(), dynamic_batch=True)
    assert inputs.axes(sequence=True)["input_ids"] == {0: "batch", 1: "sequence"}
    assert inputs.axes(sequence=False)["input_ids"] == {0: "batch"}
    fixed = read_inputs(Two(), text(), dynamic_batch=False)
    assert fixed.axes(sequence=True) == {"input_ids": {}, "attention_mask": {}}


def test_sequences_are_taken_from_dicts_of_integers_alone() -> None:
    assert read_inputs(Two(), tuple(text().values()), dynamic_batch=True).sequence is None
    assert read_inputs(Two(), {"left": torch.zeros(2, 6)}, dynamic_batch=True).sequence is None
    pair = {"left": torch.zeros(2, 6, dtype=torch.long), "right": torch.zeros(2, 5, dtype=torch.long)}
    assert read_inputs(Two(), pair, dynamic_batch=True).sequence is None


def test_inputs_of_different_batch_sizes_have_no_batch_axis() -> None:
    assert read_inputs(Two(), (torch.zeros(2, 3), torch.zeros(4, 3)), dynamic_batch=True).batch is None


def test_random_samples_stay_in_the_range_of_the_example() -> None:
    inputs = read_inputs(Two(), text(), dynamic_batch=True)
    drawn = inputs.sample(5, 4, seed=1)
    assert drawn["input_ids"].shape == (5, 4)
    low, high = inputs.tensors["input_ids"].min(), inputs.tensors["input_ids"].max()
    assert bool(((drawn["input_ids"] >= low) & (drawn["input_ids"] <= high)).all())
    again = inputs.sample(5, 4, seed=1)
    assert torch.equal(drawn["input_ids"], again["input_ids"])
    assert not torch.equal(drawn["input_ids"], inputs.sample(5, 4, seed=2)["input_ids"])


def test_random_masks_keep_a_first_part_of_at_least_one_position() -> None:
    mask = read_inputs(Two(), text(), dynamic_batch=True).sample(40, 9, seed=0)["attention_mask"]
    lengths = mask.sum(dim=1)
    assert int(lengths.min()) >= 1
    assert len(set(lengths.tolist())) > 3
    assert torch.equal(mask, (torch.arange(9) < lengths.unsqueeze(1)).long())


def test_floats_are_normal_with_the_mean_and_spread_of_the_example() -> None:
    inputs = read_inputs(Two(), 5 + 3 * torch.randn(4, 100), dynamic_batch=True)
    drawn = inputs.sample(400, seed=0)["left"]
    assert float(drawn.mean()) == pytest.approx(5, abs=0.5)
    assert float(drawn.std()) == pytest.approx(3, abs=0.5)


def test_samples_without_a_seed_repeat_the_example() -> None:
    inputs = read_inputs(Two(), text(), dynamic_batch=True)
    repeated = inputs.sample(5, 8)["input_ids"]
    example = inputs.tensors["input_ids"]
    assert torch.equal(repeated[2:4, :6], example)
    assert torch.equal(repeated[:2, 6:], example[:, :2])


def test_samples_vary_batch_and_length_and_those_of_one_length_can_be_chosen() -> None:
    inputs = read_inputs(Two(), text(), dynamic_batch=True)
    shapes = [tuple(sample["input_ids"].shape) for sample in samples_of(inputs, 0)]
    assert shapes == [(2, 6), (1, 6), (3, 4), (1, 1)]
    chosen = of_one_length(inputs, samples_of(inputs, 0))
    assert [tuple(sample["input_ids"].shape) for sample in chosen] == [(2, 6), (1, 6)]
    fixed = read_inputs(Two(), text(), dynamic_batch=False)
    assert [tuple(sample["input_ids"].shape) for sample in samples_of(fixed, 0)] == [(2, 6)] * 3
