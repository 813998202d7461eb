from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_files import STUDENT, student_events, teacher_events

from bnnapps.report import numbers
from bnnapps.report.bars import bar_plot, bars_by_kind
from bnnapps.report.figures import POINTS, Plot, loss_plot, metric_plot, rate_plot
from bnnapps.report.series import Series, curves


def group(plot: Plot, name: str) -> ElementTree.Element | None:
    return next((e for e in ElementTree.fromstring(plot.svg).iter("g") if e.get("id") == f"p-{name}"), None)


def vertices(plot: Plot, name: str) -> int:
    found = group(plot, name)
    assert found is not None
    path = found.find("path")
    assert path is not None
    return len(re.findall("[ML]", path.attrib["d"]))


def marks(plot: Plot, name: str) -> int:
    found = group(plot, name)
    return 0 if found is None else sum(1 for _ in found.iter("use"))


def words(plot: Plot) -> list[str]:
    return [e.text if e.text is not None else "" for e in ElementTree.fromstring(plot.svg).iter("text")]


def test_long_loss_is_a_smooth_line_over_its_points() -> None:
    found = curves(student_events(), "student", 5)
    plot = loss_plot(found.total, found.terms, found.steps, "p")
    assert [k.label for k in plot.keys] == ["loss", "direction_matching", "logits", "task"]
    assert len({k.mark for k in plot.keys}) == 4
    assert marks(plot, "points") == 100
    assert [vertices(plot, f"line-{i}") for i in range(4)] == [100] * 4
    assert "points: the loss as logged" in plot.remark
    assert {"steps", "1,000"} <= set(words(plot))


def test_term_that_is_the_loss_itself_is_drawn_once() -> None:
    found = curves(teacher_events(), "teacher", 5)
    plot = loss_plot(found.total, found.terms, found.steps, "p")
    assert [k.label for k in plot.keys] == ["loss = task"]
    assert group(plot, "line-1") is None


def test_short_loss_is_drawn_as_it_is() -> None:
    loss = Series("loss", (10, 20, 30), (3.0, 2.0, 1.0))
    plot = loss_plot(loss, (), 30, "p")
    assert (vertices(plot, "line-0"), marks(plot, "line-0"), marks(plot, "points")) == (3, 3, 0)
    assert plot.remark == ""


def test_huge_loss_stays_small() -> None:
    loss = Series("loss", tuple(range(100_000)), tuple(1 / (1 + i) for i in range(100_000)))
    plot = loss_plot(loss, (), 100_000, "p")
    assert marks(plot, "points") == vertices(plot, "line-0") == POINTS
    assert len(plot.svg) < 60_000
    assert {"1e-05", "0.1"} <= set(words(plot))  # it spans decades, so the axis is logarithmic


def test_terms_without_a_loss() -> None:
    plot = loss_plot(Series("loss", (), ()), (Series("task", (1, 2), (1.0, 0.5)),), 2, "p")
    assert [(k.label, k.mark) for k in plot.keys] == [("task", "line series-1")]


def test_dev_metric_with_ring_and_teacher() -> None:
    found = curves(student_events(), "student", 5)
    plot = metric_plot(found.metrics, "accuracy", found.steps, "p", chosen=max(STUDENT), teacher=0.88)
    assert [k.label for k in plot.keys] == ["accuracy", "chosen weights", "teacher"]
    assert vertices(plot, "line-0") == marks(plot, "line-0") == 5
    assert marks(plot, "chosen") == 1
    assert vertices(plot, "teacher") == 2


@pytest.mark.parametrize("from_end", [False, True])
def test_ring_of_a_value_that_comes_twice(from_end: bool) -> None:
    metric = Series("f1", (10, 20, 30), (0.5, 0.5, 0.4))
    plot = metric_plot((metric,), "f1", 30, "p", chosen=0.5 + 1e-8, from_end=from_end)
    ring, line = group(plot, "chosen"), group(plot, "line-0")
    assert ring is not None
    assert line is not None
    places = [e.attrib["x"] for e in line.iter("use")]
    assert [e.attrib["x"] for e in ring.iter("use")] == [places[1 if from_end else 0]]


def test_ring_is_left_out_where_no_point_has_the_value() -> None:
    plot = metric_plot((Series("f1", (1,), (0.5,)),), "f1", 1, "p", chosen=0.9)
    assert [k.label for k in plot.keys] == ["f1"]
    assert group(plot, "chosen") is None


def test_metric_of_another_size_is_left_out_beside_the_one_that_counts() -> None:
    metrics = Series("loss", (1, 2), (40.0, 30.0)), Series("f1", (1, 2), (0.1, 0.2)), Series("em", (1, 2), (0.0, 0.1))
    plot = metric_plot(metrics, "f1", 2, "p")
    assert [k.label for k in plot.keys] == ["f1", "em"]
    assert [k.label for k in metric_plot(metrics, "unknown", 2, "p").keys] == ["loss", "f1", "em"]


def test_long_dev_metric_is_not_smoothed() -> None:
    steps = tuple(range(100))
    plot = metric_plot((Series("f1", steps, tuple(float(i % 2) for i in steps)),), "f1", 100, "p")
    line = group(plot, "line-0")
    assert line is not None
    path = line.find("path")
    assert path is not None
    heights = {y for _, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.attrib["d"])}
    assert len(heights) == 2


def test_learning_rate() -> None:
    plot = rate_plot((Series("lr", (10, 20), (1e-4, 5e-5)),), 20, "p")
    assert plot.keys == ()
    assert {"0.0001", "5e-05", "0"} <= set(words(plot))
    assert vertices(plot, "line-0") == 2


def test_bars_have_their_numbers() -> None:
    groups = bars_by_kind([("linear", 4000.0, 125.0), ("linear", 96.0, 3.0), ("norm $x$ <b>", 64.0, 64.0)])
    plot = bar_plot("Bytes", groups, ("float32", "packed"), numbers.count, "p")
    assert [k.label for k in plot.keys] == ["float32", "packed"]
    assert words(plot) == ["linear", "norm $x$ <b>", "4.10 k", "128", "64", "64"]
    assert all(group(plot, name) is not None for name in ("before-0", "after-0", "before-1", "after-1"))


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=30),
    st.integers(2, 9),
)
def test_bars_by_kind_lose_nothing(pairs: list[tuple[str, int, int]], most: int) -> None:
    bars = bars_by_kind(pairs, most)
    assert len(bars) <= most
    assert sum(b.before for b in bars) == sum(before for _, before, _ in pairs)
    assert sum(b.after for b in bars) == sum(after for _, _, after in pairs)
    named = [max(b.before, b.after) for b in bars if b.label != "others"]
    assert named == sorted(named, reverse=True)


def test_colours_and_text_come_from_the_page() -> None:
    found = curves(student_events(), "student", 5)
    svg = metric_plot(found.metrics, "accuracy", found.steps, "p", max(STUDENT), 0.9).svg
    assert "var(--series-0)" in svg
    assert "var(--ink-2)" in svg
    assert not re.search(r"#a[ab]00|#[0-9a-f]{6}|font-family|<style|<metadata|http", svg)


def test_drawing_changes_no_settings_and_needs_no_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9.0)
    before = dict(matplotlib.rcParams)
    plot = rate_plot((Series("lr", (1, 2), (1.0, 0.5)),), 2, "p")
    assert dict(matplotlib.rcParams) == before
    assert "stroke-width: 9" not in plot.svg
