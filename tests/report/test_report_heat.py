from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from bnnapps.report.heat import COLUMNS, LEVELS, ROWS, heat_plot, shade
from bnnapps.report.series import Series, curves


def rows(*values: tuple[float, ...]) -> list[Series]:
    return [Series(f"layer{i}", tuple(range(1, len(v) + 1)), v) for i, v in enumerate(values)]


def boxes(svg: str) -> dict[str, int]:
    """How many cells there are of each shade."""
    found = {}
    for group in ElementTree.fromstring(svg).iter("g"):
        name = group.attrib.get("id", "").removeprefix("p-")
        if name.startswith("level-"):
            found[name] = sum(path.attrib["d"].count("M") for path in group.iter("path"))
    return found


def test_cells_have_the_shade_of_their_value() -> None:
    plot = heat_plot("Flips", rows((0.0, 0.16, 0.04), (0.16, 0.0, 0.0)), "p", "Said.")
    assert boxes(plot.svg) == {f"level-{LEVELS}": 2, f"level-{LEVELS // 2}": 1}
    assert plot.remark == "Said. Blank: 0; darkest: 0.16."
    assert "layer0" in plot.svg
    assert "layer1" in plot.svg


def test_many_layers_and_epochs_stay_small() -> None:
    values = tuple(0.01 + 0.001 * (i % 7) for i in range(900))
    plot = heat_plot("Flips", rows(*[values] * 200), "p", "")
    assert sum(boxes(plot.svg).values()) <= ROWS * COLUMNS
    assert f"{ROWS} of 200 layers" in plot.remark
    assert len(plot.svg) < 300_000
    assert "layer199" in plot.svg


def test_nothing_moved() -> None:
    plot = heat_plot("Flips", rows((0.0, 0.0)), "p", "")
    assert boxes(plot.svg) == {}
    assert "darkest: 0." in plot.remark


@given(st.floats(0, 1), st.floats(1e-6, 1))
def test_shades_rise_with_the_value(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= shade(low, high) <= shade(high, high) == LEVELS
    assert (shade(low, high) == 0) == (low == 0)


def test_layers_are_read_from_the_events() -> None:
    events = [
        {"stage": "s", "step": 3, "epoch": 0, "flips/a.b": 0.5, "saturation/a.b": 0.25, "weights_outside/a.b": 0.1},
        {"stage": "s", "step": 7, "epoch": 1, "flips/a.b": 0.125, "saturation/a.b": 0.0},
    ]
    found = curves(events, "s")
    assert found.flips == (Series("a.b", (4, 8), (0.5, 0.125)),)
    assert found.saturation == (Series("a.b", (4, 8), (0.25, 0.0)),)
