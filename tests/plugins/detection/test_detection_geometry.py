from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnnapps.plugins.detection.augment import (
    OVERLAPS,
    boxes_in,
    coloured,
    cropped,
    distorted,
    image_rng,
    zoomed_out,
)
from bnnapps.plugins.detection.geometry import Window, mapped_boxes, mapped_image, mapping, original_boxes


@pytest.mark.parametrize(
    ("resize", "most", "scale", "offset", "out"),
    [
        ("stretch", None, (0.5, 1.0), (0, 0), (100, 100)),
        ("letterbox", None, (0.5, 0.5), (0, 25), (100, 100)),
        ("shorter", 300, (1, 1), (0, 0), (200, 100)),
        ("shorter", None, (167 / 200, 0.84), (0, 0), (167, 84)),  # 5/3 of 100 at most, both sides rounded
        ("shorter", 150, (0.75, 0.75), (0, 0), (150, 75)),
    ],
)
def test_how_an_image_comes_to_its_size(resize, most, scale, offset, out):
    found = mapping(Window(0, 0, 200, 100), 100, resize, most)
    assert (found.width, found.height) == out
    assert found.scale == pytest.approx(scale, abs=1e-3)
    assert found.offset == pytest.approx(offset)


def test_without_a_size_nothing_changes():
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    to = mapping(Window(0, 0, 50, 30), None, "stretch", None)
    pixels, place = mapped_image(image, Window(0, 0, 50, 30), to)
    assert place == (0, 0)
    assert np.array_equal(pixels, image)


@given(
    st.integers(8, 60),
    st.integers(8, 60),
    st.integers(16, 64),
    st.sampled_from(["stretch", "letterbox", "shorter"]),
    st.booleans(),
)
def test_boxes_come_back(width, height, size, resize, mirrored):
    to = mapping(Window(0, 0, width, height), size, resize, None)
    boxes = np.array([[0, 0, width, height], [1, 2, 5, 7]], np.float32)
    there = torch.from_numpy(mapped_boxes(boxes, to))
    assert float(there.min()) > -1e-3
    assert float(there[:, [0, 2]].max()) < to.width + 1e-3
    assert float(there[:, [1, 3]].max()) < to.height + 1e-3
    scale, offset = torch.tensor(to.scale), torch.tensor(to.offset)
    if mirrored:
        there = torch.stack([to.width - there[:, 2], there[:, 1], to.width - there[:, 0], there[:, 3]], dim=1)
        scale, offset = scale * torch.tensor([-1, 1]), torch.tensor([to.width - to.offset[0], to.offset[1]])
    target = {"scale": scale, "offset": offset, "original_size": torch.tensor([height, width])}
    assert torch.allclose(original_boxes(there, target), torch.from_numpy(boxes), atol=1e-3)
    assert torch.allclose(
        original_boxes(there + 1000, target)[0, 2:] <= torch.tensor([width, height]), torch.tensor(True)
    )
    assert original_boxes(torch.zeros(0, 4), target).shape == (0, 4)


@given(st.integers(0, 1000))
def test_pixels_and_boxes_take_the_same_way(seed):
    """A bright block in the image lies, after any crop and expansion, where its box says."""
    rng = np.random.default_rng(seed)
    width, height = (int(v) for v in rng.integers(40, 90, 2))
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1 = (int(rng.integers(0, side - 24)) for side in (width, height))
    image[y1 : y1 + 20, x1 : x1 + 20] = 255
    boxes = np.array([[x1, y1, x1 + 20, y1 + 20]], np.float32)
    window = cropped(rng, boxes, zoomed_out(rng, width, height, 2.0))
    inside, keep = boxes_in(boxes, window)
    assert keep.all()  # a crop without an object is not taken
    to = mapping(window, 96, str(rng.choice(["stretch", "letterbox"])), None)
    pixels, (column, row) = mapped_image(image, window, to)
    assert row + pixels.shape[0] <= 96
    assert column + pixels.shape[1] <= 96
    whole = np.zeros((96, 96))
    whole[row : row + pixels.shape[0], column : column + pixels.shape[1]] = pixels[..., 0]
    rows, columns = (np.flatnonzero((whole > 127).any(axis)) for axis in (1, 0))
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert np.abs(mapped_boxes(inside, to)[0] - found).max() <= 1.1


def test_crops_are_as_ssd_draws_them():
    boxes = np.array([[10, 10, 60, 50], [70, 60, 95, 90]], np.float32)
    canvas = Window(-20, -10, 120, 110)
    whole, best, shapes = 0, [], []
    for seed in range(1500):
        window = cropped(np.random.default_rng(seed), boxes, canvas)
        if window == canvas:
            whole += 1
            continue
        assert canvas.x1 <= window.x1 < window.x2 <= canvas.x2
        assert canvas.y1 <= window.y1 < window.y2 <= canvas.y2
        width, height = window.x2 - window.x1, window.y2 - window.y1
        assert 0.5 - 1e-5 <= height / width <= 2 + 1e-5
        assert width >= 0.3 * 140 - 1e-3
        assert height >= 0.3 * 120 - 1e-3
        assert boxes_in(boxes, window)[1].any()
        low, high = np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])
        common = np.clip(high - low, 0, None).prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        best.append((common / (areas + width * height - common)).max())
        shapes.append(height / width)
    # Of seven overlaps one is "the whole image"; 0.9 is hardly ever met here, and another one is then drawn.
    assert 1 / 7 < whole / 1500 < 1 / 3
    counts = np.histogram(best, [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1])[0]
    assert (counts[:5] > 5).all()
    assert 0.9 < np.median(shapes) < 1.1


def test_an_image_without_objects_may_be_cropped_anywhere():
    windows = {cropped(np.random.default_rng(s), np.zeros((0, 4), np.float32), Window(0, 0, 50, 50)) for s in range(40)}
    assert len(windows) > 25


def test_a_box_belongs_to_a_crop_by_its_middle():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 30, 10], [50, 50, 60, 60]], np.float32)
    inside, keep = boxes_in(boxes, Window(8, 2, 40, 40))
    assert keep.tolist() == [False, True, False]
    assert inside[1].tolist() == [8, 2, 30, 10]


def test_zooming_out():
    windows = [zoomed_out(np.random.default_rng(s), 60, 40, 4.0) for s in range(400)]
    same = [w == Window(0, 0, 60, 40) for w in windows]
    assert 160 < sum(same) < 240
    for window in windows:
        assert window.x1 <= 0
        assert window.y1 <= 0
        assert window.x2 >= 60 - 1e-9
        assert window.y2 >= 40 - 1e-9
        factor = (window.x2 - window.x1) / 60
        assert 1 <= factor <= 4
        assert (window.y2 - window.y1) / 40 == pytest.approx(factor)
    assert zoomed_out(np.random.default_rng(1), 60, 40, 1.0) == Window(0, 0, 60, 40)


@given(st.tuples(*[st.integers(0, 255)] * 3), st.floats(0.5, 1.5), st.floats(-18, 18))
def test_saturation_and_hue_are_those_of_hsv(pixel, saturation, hue):
    found = coloured(np.array([[pixel]], np.float32), saturation, hue)[0, 0] / 255
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in pixel))
    expected = colorsys.hsv_to_rgb((h + hue / 360) % 1, min(1.0, s * saturation), v)
    assert found == pytest.approx(expected, abs=2e-4)


def test_distortions_stay_within_their_ranges():
    image = np.full((2, 2, 3), 100, np.uint8)
    grey = np.array([distorted(np.random.default_rng(s), image, False)[0, 0].astype(int) for s in range(600)])
    assert (grey == grey[:, :1]).all()  # grey has no hue
    assert grey.min() >= np.floor(68 * 0.5)
    assert grey.max() <= np.ceil(132 * 1.5)
    assert 0.15 < (grey[:, 0] == 100).mean() < 0.35  # neither brightness nor contrast: a quarter
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 200
    swapped = [int(distorted(np.random.default_rng(s), red, True)[0, 0].argmax()) for s in range(300)]
    assert set(swapped) == {0, 1, 2}
    assert {int(distorted(np.random.default_rng(s), red, False)[0, 0].argmax()) for s in range(100)} == {0}


def test_numbers_follow_from_seed_epoch_and_image():
    draws = {(s, e, i): float(image_rng(s, e, i).random()) for s in range(3) for e in range(3) for i in range(3)}
    assert len(set(draws.values())) == 27
    assert float(image_rng(1, 2, 0).random()) == draws[1, 2, 0]
    assert len(OVERLAPS) == 7
