from __future__ import annotations

import json

import pytest
import torch
from command_line import call, error

FLOAT = 4


def test_the_command_prints_a_table_and_json() -> None:
    arguments = ("bench", "train", "--methods", "bnn,bit", "--layers", "linear,conv2d", "--device", "cpu", "--steps", 1)
    table = call(*arguments)
    assert (table.code, table.err) == (0, "")
    for word in ("Training step, cpu, small, median of 1", "linear", "conv2d", "bnn", "bit", "ratio"):
        assert word in table.out
    assert table.lines[-1] == "skipped: conv2d with bit: the method has no parts for the slot 'conv'"
    found = call(*arguments, "--json")
    assert (found.code, found.err) == (0, "")
    record = json.loads(found.out)
    assert (record["device"], record["size"], record["steps"]) == ("cpu", "small", 1)
    assert [(f["layer"], f["method"]) for f in record["figures"]] == [
        ("linear", "bnn"), ("linear", "bit"), ("conv2d", "bnn")
    ]  # fmt: skip
    assert record["figures"][0]["kept_bytes"]["float"] == 4 * 32 * 64 * FLOAT
    assert record["skipped"] == [
        {"method": "bit", "layer": "conv2d", "reason": "the method has no parts for the slot 'conv'"}
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "birael"), "--methods: unknown name 'birael'; the nearest are 'bireal'"),
        (("--layers", "conv2"), "--layers: unknown name 'conv2'; the nearest are 'conv2d'"),
        (("--device", "gpu"), "--device: unknown device 'gpu'; use 'cpu', 'cuda' or 'auto'"),
        (("--size", "huge"), "--size: unknown size 'huge'; the nearest are"),
    ],
)
def test_what_a_user_mistypes_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    assert error(call("bench", "train", *arguments), 2).startswith(message)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = "--device: 'cuda' was asked for, but PyTorch finds no GPU here; use 'cpu' or 'auto'"
    assert error(call("bench", "train", "--device", "cuda"), 2) == message
    arguments = ("--methods", "bnn", "--layers", "linear", "--steps", 1, "--json")
    assert call("bench", "train", *arguments).json["device"] == "cpu"
