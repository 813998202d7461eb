from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from bnnapps.errors import DataError
from bnnapps.plugins.imagery import grounds
from bnnapps.plugins.imagery.images import decode_labels, decode_rgb
from bnnapps.plugins.imagery.scenes import CLASSES, IGNORE, digit_scenes
from bnnapps.plugins.imagery.voc_tree import voc_palette, write_voc_tree


def test_scenes_follow_from_seed_part_and_number():
    few, many = digit_scenes("dev", 3, 96, seed=5), digit_scenes("dev", 6, 96, seed=5)
    for a, b in zip(few, many, strict=False):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.mask, b.mask)
        assert np.array_equal(a.boxes, b.boxes)
    others = (digit_scenes("dev", 1, 96, seed=6)[0], digit_scenes("train", 1, 96, seed=5)[0], many[1])
    assert not any(np.array_equal(few[0].image, other.image) for other in others)


@pytest.mark.parametrize("size", [64, 128, 300])
def test_boxes_and_masks_belong_to_the_same_ink(size):
    for scene in digit_scenes("train", 20, size, most_digits=4):
        assert scene.image.shape == (size, size, 3)
        assert 1 <= len(scene.boxes) <= 4
        left = scene.mask.copy()
        for (x1, y1, x2, y2), label in zip(scene.boxes.astype(int), scene.labels, strict=True):
            assert 0 <= x1 < x2 <= size
            assert 0 <= y1 < y2 <= size
            inner = scene.mask[y1:y2, x1:x2] == label
            assert inner[0].any()  # the box touches ink on every side
            assert inner[-1].any()
            assert inner[:, 0].any()
            assert inner[:, -1].any()
            assert set(np.unique(scene.mask[y1:y2, x1:x2])) <= {0, int(label), IGNORE}  # and holds no other digit
            left[y1:y2, x1:x2] = 0
        assert set(np.unique(left)) <= {0, IGNORE}
        assert (scene.mask == IGNORE).any()


def test_ink_differs_from_the_ground_and_all_digits_occur():
    scenes = digit_scenes("train", 60, 96)
    assert set(np.concatenate([s.labels for s in scenes]).tolist()) == set(range(1, 11))
    gaps = []
    for scene in scenes:
        for (x1, y1, x2, y2), label in zip(scene.boxes.astype(int), scene.labels, strict=True):
            pixels, mask = scene.image[y1:y2, x1:x2].mean(2), scene.mask[y1:y2, x1:x2]
            if (mask == 0).any():
                gaps.append(abs(pixels[mask == label].mean() - pixels[mask == 0].mean()))
    assert np.median(gaps) > 60
    assert np.min(gaps) > 15


def test_digits_are_as_large_as_asked():
    """Ink takes up to about a frame's height, and no scene is empty at the largest size."""
    few, large = (digit_scenes("dev", 40, 96, most_digits=2, scale=s) for s in ((0.2, 0.2), (0.7, 0.7)))
    heights = [np.median(np.concatenate([s.boxes[:, 3] - s.boxes[:, 1] for s in scenes])) for scenes in (few, large)]
    assert 3 < heights[1] / heights[0] < 4
    assert 0.5 * 0.7 * 96 < heights[1] < 0.9 * 0.7 * 96
    assert all(len(scene.boxes) >= 1 for scene in large)
    same = digit_scenes("dev", 1, 96, scale=(0.2, 0.48))[0], digit_scenes("dev", 1, 96)[0]
    assert np.array_equal(same[0].image, same[1].image)


def test_digits_do_not_touch_and_a_full_scene_holds_fewer():
    scenes = digit_scenes("dev", 4, 64, most_digits=60)
    counts = [len(scene.boxes) for scene in scenes]
    assert max(counts) < 30
    for scene in scenes:
        for i, a in enumerate(scene.boxes):
            for b in scene.boxes[:i]:
                assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


def test_photographs_as_grounds(tmp_path, monkeypatch):
    data = tmp_path / "skimage" / "data"
    data.mkdir(parents=True)
    (tmp_path / "skimage" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.delitem(sys.modules, "skimage", raising=False)  # as in a process that has not imported it
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"needs brick\.png of the package scikit-image"):
        digit_scenes("dev", 1, 64, backgrounds="photographs")
    for i, name in enumerate(grounds.PHOTOGRAPHS):
        Image.fromarray(np.full((40 + 60 * i, 50), 60 + 60 * i, np.uint8)).save(data / name)
    scenes = digit_scenes("dev", 12, 64, backgrounds="photographs")
    assert all(scene.image.shape == (64, 64, 3) for scene in scenes)
    smooth = [scene.image[scene.mask == 0].std(axis=0).max() for scene in scenes]
    assert max(smooth) < 40  # even grounds: only light and noise remain


def test_the_tree_is_pascal_vocs(tmp_path):
    parts = {"train": digit_scenes("train", 3, 64), "val": digit_scenes("dev", 2, 64)}
    write_voc_tree(tmp_path, parts, CLASSES)
    assert (tmp_path / "ImageSets" / "Main" / "train.txt").read_text() == "000001\n000002\n000003\n"
    assert (tmp_path / "ImageSets" / "Segmentation" / "val.txt").read_text() == "000004\n000005\n"
    scene = parts["val"][1]
    root = ElementTree.parse(tmp_path / "Annotations" / "000005.xml").getroot()
    assert root.findtext("filename") == "000005.jpg"
    assert [root.findtext(f"size/{key}") for key in ("width", "height", "depth")] == ["64", "64", "3"]
    names = [each.findtext("name") for each in root.findall("object")]
    assert names == [CLASSES[label - 1] for label in scene.labels]
    for each, box in zip(root.findall("object"), scene.boxes, strict=True):
        written = [int(each.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        assert written == [box[0] + 1, box[1] + 1, box[2], box[3]]  # from 1 on, the last pixel included
    assert np.array_equal(decode_labels(tmp_path / "SegmentationClass" / "000005.png"), scene.mask)
    image = decode_rgb(tmp_path / "JPEGImages" / "000005.jpg")
    assert np.abs(image.astype(int) - scene.image).mean() < 6


def test_the_palette_is_vocs():
    palette = voc_palette().tolist()
    assert palette[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert (palette[15], palette[20], palette[255]) == ([192, 128, 128], [0, 64, 128], [224, 224, 192])
