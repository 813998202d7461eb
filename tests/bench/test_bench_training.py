from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

import bnnapps.bench.layers as samples
from bnnapps.bench import Figures, Sample, Skipped, bench_training, choose, register_sample, sample_of
from bnnapps.binarize import layer_types
from bnnapps.errors import UsageError
from bnnapps.methods import get_method, methods

KINDS = [k for k in layer_types() if k != "conv_module" or importlib.util.find_spec("mmcv") is not None]
CPU = torch.device("cpu")
FLOAT = 4


def measured(method: str, layer: str) -> Figures:
    (found,) = bench_training([method], [layer], CPU, steps=1)
    assert isinstance(found, Figures), found
    return found


@pytest.mark.parametrize("key", KINDS)
def test_every_kind_of_layer_has_a_sample_of_its_kind(key: str) -> None:
    torch.manual_seed(0)
    sample = sample_of(key)
    assert layer_types()[key].covers(sample.layer)
    assert sample.layer.training
    assert all(t.requires_grad == t.is_floating_point() for t in sample.inputs)
    found = sample.layer(*sample.inputs)
    output = found if isinstance(found, Tensor) else found[0]
    assert output.requires_grad


@pytest.mark.parametrize("key", [k for k in KINDS if layer_types()[k].slot in get_method("bireal").layers])
def test_every_kind_that_a_method_covers_is_measured(key: str) -> None:
    found = measured("bireal", key)
    assert found.seconds["float"] > 0
    assert found.seconds["binary"] > 0
    assert found.kept_bytes["binary"] > 0


def test_bytes_are_those_of_the_parts() -> None:
    found = measured("bnn", "linear")
    size = 4 * 32 * 64  # the sample's batch, length and width
    assert found.kept_bytes["float"] == size * FLOAT
    weight = 64 * 64
    # signs of the input, where it is within [-1, 1], signs of the weight (all of it is inside); BNN has no scale
    assert found.kept_bytes["binary"] == (2 * size + weight) // 8
    assert found.kept_ratio == found.kept_bytes["binary"] / found.kept_bytes["float"]
    assert found.time_ratio == found.seconds["binary"] / found.seconds["float"]


def test_the_medians_take_turns_and_what_is_not_covered_says_why() -> None:
    begun: list[tuple[str, str]] = []
    found = list(
        bench_training(["bit", "bnn"], ["conv2d", "linear"], CPU, steps=3, begin=lambda m, k: begun.append((m, k)))
    )
    assert begun == [("bit", "conv2d"), ("bnn", "conv2d"), ("bit", "linear"), ("bnn", "linear")]
    assert [type(f) for f in found] == [Skipped, Figures, Figures, Figures]
    assert isinstance(found[0], Skipped)
    assert found[0].reason == "the method has no parts for the slot 'conv'"


def test_a_kind_without_a_sample_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(samples._MAKERS, "linear")
    (found,) = bench_training(["bnn"], ["linear"], CPU, steps=1)
    assert isinstance(found, Skipped)
    assert found.reason == "no sample layer is registered for this kind"
    monkeypatch.setitem(
        samples._MAKERS, "linear", lambda size: Sample(samples._of("no_such_package.layers", "Linear")(), ())
    )
    (found,) = bench_training(["bnn"], ["linear"], CPU, steps=1)
    assert isinstance(found, Skipped)
    assert found.reason == "needs the package 'no_such_package', which is not installed"


def test_a_sample_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'linear' has a sample already"):
        register_sample("linear", lambda size: Sample(nn.Linear(2, 2), (torch.randn(1, 2),)))
    monkeypatch.delitem(samples._MAKERS, "linear")
    register_sample("linear", lambda size: Sample(nn.Linear(8, 2), (torch.randn(5, 8),)))
    assert measured("bnn", "linear").kept_bytes["float"] == 5 * 8 * FLOAT


def test_names_with_commas() -> None:
    assert choose("b, a,b", ["a", "b", "c"], "--x") == ["b", "a"]
    assert choose("all", ["a", "b"], "--x") == ["a", "b"]
    with pytest.raises(UsageError, match="--x: unknown name 'd'; the nearest are 'c', 'b', 'a'"):
        choose("a,d", ["a", "b", "c"], "--x")
    with pytest.raises(UsageError, match="--x: give names, or 'all'"):
        choose(" ,", ["a"], "--x")


def test_all_methods_are_offered() -> None:
    found = list(bench_training([m.name for m in methods()], ["embedding"], CPU, steps=1))
    assert len(found) == len(methods())
    assert any(isinstance(f, Figures) for f in found)
