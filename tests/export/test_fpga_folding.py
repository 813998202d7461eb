"""Folding: what divides, what it costs in cycles, files, and the solver's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fpga_cases import convolutional, folding, perceptron

from bnnapps.errors import UsageError
from bnnapps.export.fpga.devices import get_device
from bnnapps.export.fpga.estimate import Estimate, estimate, memory, total
from bnnapps.export.fpga.folding import (
    Fold,
    check_folding,
    choices,
    cycles,
    divisors,
    interval,
    read_folding,
    to_json,
)
from bnnapps.export.fpga.solver import Budget, budget_of, solve


def test_cycles_are_those_of_the_published_example() -> None:
    """CNV's second convolution: 576 to 64 at 28 x 28 positions with 32 x 32 takes 28,224 cycles; ours adds row gaps."""
    network = convolutional(0, size=(5, 5), pool=False)
    layer = network.compute[0]
    assert cycles(layer, Fold(2, 4)) == (6 // 2) * (9 * 4 // 4) * 9 + 2 * 3
    assert cycles(network.compute[1], Fold(3, 9)) == 54 // 9


def test_the_interval_is_that_of_the_slowest_part() -> None:
    network = perceptron()
    assert interval(network, folding(network, (1, 24), (8, 12), (5, 8))) == 12
    assert interval(network, folding(network, (12, 24), (8, 12), (5, 8))) == 5  # the head compares five classes
    assert interval(network, folding(network, (12, 2), (8, 12), (5, 8))) == 12  # the input streams in words of two


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (((5, 24), (8, 12), (5, 8)), r"layer 'fc0' has 12 outputs, which pe 5 does not divide: take one of 2, 3, 4, 6"),
        (((12, 7), (8, 12), (5, 8)), r"layer 'fc0' has 24 inputs, which simd 7 does not divide"),
        (((12, 24), (0, 12), (5, 8)), r"layer 'fc1' has 8 outputs, which pe 0 does not divide"),
    ],
)
def test_what_does_not_divide_is_named(pairs: tuple[tuple[int, int], ...], message: str) -> None:
    network = perceptron()
    with pytest.raises(UsageError, match=message):
        check_folding(network, folding(network, *pairs))


def test_unknown_and_missing_layers_are_named() -> None:
    network = perceptron()
    whole = folding(network, (1, 1), (1, 1), (1, 1))
    with pytest.raises(UsageError, match="no layer 'fc9'; the nearest are 'fc"):
        check_folding(network, whole | {"fc9": Fold(1, 1)})
    del whole["fc1"]
    with pytest.raises(UsageError, match="layer 'fc1' is missing"):
        check_folding(network, whole)


def test_zero_padding_takes_an_even_simd() -> None:
    network = convolutional(0, pads=(1, 1, 1, 1))
    with pytest.raises(UsageError, match=r"padded with zeros, so simd must be even, not 1"):
        check_folding(network, folding(network, (1, 1), (1, 1)))
    assert all(fold.simd % 2 == 0 for fold in choices(network.compute[0]))
    ones = convolutional(0, pads=(1, 1, 1, 1), pad_value=1)
    check_folding(ones, folding(ones, (1, 1), (1, 1)))


def test_a_folding_file_goes_round(tmp_path: Path) -> None:
    network = perceptron()
    chosen = folding(network, (12, 8), (2, 3), (1, 8))
    (tmp_path / "f.json").write_text(json.dumps(to_json(chosen)))
    assert read_folding(tmp_path / "f.json") == chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", "is no JSON"),
        ("[]", "the key 'layers'"),
        ('{"layers": {"a": {"pe": 2}}}', r"layers\.a\.simd is None; expected a whole number"),
        ('{"layers": {"a": {"pe": true, "simd": 1}}}', r"layers\.a\.pe is True"),
    ],
)
def test_bad_folding_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_folding(tmp_path / "f.json")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_folding(tmp_path / "none.json")


def test_the_solver_keeps_the_rate_and_takes_no_more_than_it_must() -> None:
    network, device = perceptron(sizes=(784, 64, 64, 10)), get_device("ecp5-25k")
    budget = budget_of(device, None, None)
    slow, fast = (solve(network, device, fps, 100, budget) for fps in (100_000, 1_000_000))
    assert interval(network, slow) <= 1000
    assert interval(network, fast) <= 100
    assert total(estimate(network, slow, device)).luts < total(estimate(network, fast, device)).luts


def test_without_a_rate_the_solver_takes_the_fastest_that_fits() -> None:
    network, device = perceptron(sizes=(784, 64, 64, 10)), get_device("ecp5-25k")
    intervals = [interval(network, solve(network, device, None, 100, Budget(luts, 56))) for luts in (2000, 8000, 16000)]
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[0] > intervals[-1]
    for luts in (2000, 8000, 16000):
        chosen = solve(network, device, None, 100, Budget(luts, 56))
        assert total(estimate(network, chosen, device)).luts <= luts


def test_what_cannot_be_met_says_by_how_much() -> None:
    network, device = perceptron(sizes=(784, 64, 64, 10)), get_device("ecp5-25k")
    with pytest.raises(
        UsageError, match=r"leaves 1 cycles at 100 MHz, but 'net' takes at least 10 even unfolded: at most"
    ):
        solve(network, device, 1e8, 100, budget_of(device, None, None))
    with pytest.raises(UsageError, match=r"does not fit .*ECP5-25K.*LUTs of 500 \(\d+\.\d times\).*smaller network"):
        solve(network, device, 1e6, 100, Budget(500, 56))
    wide = perceptron(sizes=(784, 1024, 1024, 10))
    with pytest.raises(UsageError, match=r"the smallest folding does not fit.* of \d+"):
        solve(wide, device, None, 100, Budget(1000, 1))
    with pytest.raises(UsageError, match=r"--luts is 0; expected at least 1"):
        budget_of(device, 0, None)


def test_divisors() -> None:
    assert divisors(12) == [1, 2, 3, 4, 6, 12]


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown target 'ecp5-86k'; the nearest are 'ecp5-85k'"):
        get_device("ecp5-86k")


def test_blocks_of_a_memory_are_as_wide_as_they_are_shallow() -> None:
    device = get_device("ecp5-85k")
    shapes = {(36, 512): 1, (37, 512): 2, (18, 1024): 1, (9, 2048): 1, (1, 16384): 1, (1, 16385): 2, (4, 4097): 2}
    assert {shape: memory(*shape, device).brams for shape in shapes} == shapes
    assert memory(16, 36864, device).brams == 36
    assert memory(36 * 16, 1024, device).brams == 32  # the same bits side by side
    assert memory(8, 20, device) == Estimate(10, 0)
