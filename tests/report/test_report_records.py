"""What the report reads is what the other rooms write."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from run_files import Encoder

import bnnapps
from bnnapps.export.parity import LevelRecord, Parity
from bnnapps.profile import Summary, summarize
from bnnapps.profile.summary import LayerRow
from bnnapps.report import numbers
from bnnapps.report.layers import bits_of, layer_rows
from bnnapps.report.records import Costs, LayerCost, LevelParity, ParityRecord
from bnnapps.stacking import stack_key, stacked_name


def fields(kind: type) -> set[str]:
    return {f.name for f in dataclasses.fields(kind)}


def test_keys_are_those_that_are_written() -> None:
    assert set(Costs.model_fields) <= fields(Summary)
    assert set(LayerCost.model_fields) <= fields(LayerRow)
    assert set(LevelParity.model_fields) <= fields(LevelRecord)
    beside = {"steps", "dynamic_axes", "notes", "latency"}  # which the export adds to the record
    assert set(ParityRecord.model_fields) - beside <= fields(Parity)


def test_costs_are_those_of_the_summary() -> None:
    model = bnnapps.binarize(Encoder(), "bibert", keep_first=0)
    summary = summarize(model, torch.randint(0, 500, (2, 5)))
    costs = Costs.model_validate(summary.to_dict())
    assert costs.macs == costs.flops + costs.bops  # one bit each
    assert (costs.packed_bytes, costs.float_bytes) == (summary.packed_bytes, summary.float_bytes)
    assert [r.params for r in costs.layers] == [r.params for r in summary.layers]


def test_layer_rows_of_the_plan_alone() -> None:
    model = Encoder()
    rows = layer_rows(bnnapps.plan(model, "bibert", keep_first=0), None)
    assert [r.name for r in rows][-1] == "classifier"
    assert [r.binary for r in rows] == [True, True, True, True, False]
    query = next(r for r in rows if "query" in r.name)
    assert (query.name, query.params, query.macs) == ("layer.{0..2}.query  ×3", "12.5 k", "")


def test_layer_rows_of_the_costs_alone() -> None:
    costs = Costs.model_validate(summarize(Encoder(), torch.randint(0, 500, (2, 5))).to_dict())
    rows = layer_rows(None, costs)
    inner = next(r for r in rows if "inner" in r.name)
    assert (inner.name, inner.macs, inner.bops) == ("layer.{0..2}.inner  ×3", numbers.count(3 * 10 * 64 * 128), "")
    assert not any(r.binary for r in rows)
    assert layer_rows(None, None) == []


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("bibert", "W1A1"),
        ([{"types": ["linear"], "use": {"method": "bit", "activation_bits": 2}}], "W1A2"),
        ([{"types": ["linear"], "use": {"method": "bnn", "weight": None}}], "W32A1"),
        ([{"types": ["embedding"], "use": "bibert"}], ""),
    ],
)
def test_bits_in_short(rules: object, expected: str) -> None:
    assert bits_of(bnnapps.plan(Encoder(), rules, keep_first=0)) == expected  # type: ignore[arg-type]


def test_stacked_names() -> None:
    names = [f"layer.{i}.query{j}.weight" for i in (0, 3) for j in (1,)]
    assert len({stack_key(n) for n in names}) == 1
    assert stacked_name(names) == "layer.{0..3}.query1.weight  ×2"
    assert stacked_name(["layer.7"]) == "layer.7"
    assert stacked_name([""]) == "(the model itself)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.metric(0.81), "0.8100"),
        (numbers.metric(-0.5), "-0.5000"),
        (numbers.metric(1234.567), "1234.6"),
        (numbers.percent(0.9204), "92.0 %"),
        (numbers.percent(1.0), "100 %"),
        (numbers.percent(0.99999), "over 99.9 %"),
        (numbers.percent(1e-5), "under 0.1 %"),
        (numbers.percent(0.0), "0 %"),
        (numbers.times(17.34), "17.3×"),
        (numbers.times(1234.4), "1,234×"),
        (numbers.duration(7.25), "7.2 s"),
        (numbers.duration(9.97), "10 s"),
        (numbers.duration(59.6), "1 min 0 s"),
        (numbers.duration(187.6), "3 min 8 s"),
        (numbers.duration(7450), "2 h 4 min"),
        (numbers.small(0.0), "0"),
        (numbers.small(2.38e-7), "2.4e-07"),
        (numbers.count(0), "0"),
        (numbers.count(1_810_000_000), "1.81 G"),
        (numbers.plain({"a": 1234, "b": [True, None, 0.5]}), "a 1,234, b yes, –, 0.5"),
        (numbers.shape([4, 17]), "4×17"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert text == expected
