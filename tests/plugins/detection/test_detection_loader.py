from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_files import CAT, DOG, annotation, coco_content, write_coco, write_voc
from pydantic import ValidationError

from bnnapps.errors import DataError
from bnnapps.plugins.detection.data import prepare_detection
from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.plugins.detection.geometry import FILL, original_boxes
from bnnapps.plugins.detection.loader import detection_loader


def scenes(**more) -> DetectionData:
    sizes = {"train_size": 7, "dev_size": 5, "scene_size": 64, "batch_size": 3, "eval_batch_size": 2}
    return DetectionData(**sizes | more)


def loaders(settings: DetectionData, seed: int = 1, train: bool = True):
    data = prepare_detection(settings, seed)
    return detection_loader(data.train if train else data.dev, settings, seed, train, data.broken), data


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a["images"], b["images"], strict=True)) and all(
        x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)
        for x, y in zip(a["targets"], b["targets"], strict=True)
    )


def test_a_batch():
    loader, data = loaders(scenes(), train=False)
    batches = list(loader)
    assert [len(batch["images"]) for batch in batches] == [2, 2, 1]
    image, target = batches[1]["images"][1], batches[1]["targets"][1]
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.from_numpy(data.dev.image(3).transpose(2, 0, 1)).float() / 255)
    objects = data.dev.target(3)
    kinds = {"boxes": torch.float32, "labels": torch.int64, "difficult": torch.bool, "crowd": torch.bool}
    assert {key: target[key].dtype for key in kinds} == kinds
    assert np.array_equal(target["boxes"].numpy(), objects.boxes)
    assert np.array_equal(target["labels"].numpy(), objects.labels)
    assert np.array_equal(target["area"].numpy(), objects.area)
    assert int(target["image_id"]) == 3


@pytest.mark.parametrize("augment", ["none", "flip", "ssd"])
@pytest.mark.parametrize("workers", [0, 2])
def test_changes_follow_from_seed_epoch_and_image_whoever_makes_them(augment, workers):
    size = {"size": 48} if augment == "ssd" else {}
    loader, _ = loaders(scenes(augment=augment, **size))
    other, _ = loaders(scenes(augment=augment, workers=workers, **size))
    sums = []
    for epoch in (0, 1):
        for each in (loader, other):
            each.set_epoch(epoch)
        torch.manual_seed(epoch)
        np.random.seed(epoch)
        batches = list(loader)
        after = torch.rand(1), np.random.rand()
        torch.manual_seed(epoch)
        np.random.seed(epoch)
        assert (torch.rand(1), np.random.rand()) == after  # the global states play no part
        assert all(same(a, b) for a, b in zip(batches, other, strict=True))
        order = {int(t["image_id"]): i.sum() for b in batches for i, t in zip(b["images"], b["targets"], strict=True)}
        assert sorted(order) == list(range(7))
        boxes = {int(t["image_id"]): t["boxes"].sum() for b in batches for t in b["targets"]}
        sums.append([float(boxes[i]) for i in range(7)])
    assert (sums[0] == sums[1]) == (augment == "none")


def test_a_loader_that_goes_on_gives_the_rest_of_the_epoch():
    whole, _ = loaders(scenes(augment="ssd", size=48))
    whole.set_epoch(2)
    expected = list(whole)
    rest, _ = loaders(scenes(augment="ssd", size=48))
    rest.load_state_dict({"epoch": 2, "handed_out": 1})
    found = list(rest)
    assert len(found) == 2
    assert all(same(a, b) for a, b in zip(found, expected[1:], strict=True))


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "shorter"])
@pytest.mark.parametrize("augment", ["none", "flip"])
def test_boxes_come_back_to_the_image(tmp_path, resize, augment):
    base = write_voc(tmp_path, {"train": {n: [CAT, DOG] for n in "abcdef"}, "val": {"x": [DOG]}})
    settings = DetectionData(source="voc", root=str(base), size=100, resize=resize, augment=augment, batch_size=4)
    loader, data = loaders(settings)
    mirrored = 0
    for batch in loader:
        for image, target in zip(batch["images"], batch["targets"], strict=True):
            there = data.train.target(int(target["image_id"]))
            assert torch.allclose(original_boxes(target["boxes"], target), torch.from_numpy(there.boxes), atol=1e-3)
            assert (
                image.shape == {"stretch": (3, 100, 100), "letterbox": (3, 100, 100), "shorter": (3, 100, 150)}[resize]
            )
            mirrored += int(target["scale"][0] < 0)
            if resize == "letterbox":
                assert (image[:, 0] * 255).round()[:, 0].tolist() == list(FILL)
    assert (0 < mirrored < 6) == (augment == "flip")


def test_a_mirrored_image_shows_its_boxes():
    loader, data = loaders(scenes(augment="flip"))
    for batch in loader:
        for image, target in zip(batch["images"], batch["targets"], strict=True):
            straight = torch.from_numpy(data.train.image(int(target["image_id"])).transpose(2, 0, 1)).float() / 255
            mirrored = bool(target["scale"][0] < 0)
            assert torch.equal(image, straight.flip(2) if mirrored else straight)
            boxes = torch.from_numpy(data.train.target(int(target["image_id"])).boxes)
            if mirrored:
                boxes = torch.stack([64 - boxes[:, 2], boxes[:, 1], 64 - boxes[:, 0], boxes[:, 3]], dim=1)
            assert torch.equal(target["boxes"], boxes)


def test_ssd_boxes_lie_in_the_image_and_are_at_least_a_pixel():
    loader, _ = loaders(scenes(augment="ssd", size=40, train_size=60))
    sizes = []
    for batch in loader:
        for image, target in zip(batch["images"], batch["targets"], strict=True):
            assert image.shape == (3, 40, 40)
            assert 0 <= float(image.min()) <= float(image.max()) <= 1
            boxes = target["boxes"]
            assert bool((boxes >= -1e-3).all() and (boxes <= 40 + 1e-3).all())
            sides = boxes[:, 2:] - boxes[:, :2]
            assert bool((sides >= 1).all())
            assert torch.allclose(target["area"], sides.prod(1), rtol=1e-3)
            sizes += sides.flatten().tolist()
    assert min(sizes) < 5 < 20 < max(sizes)


def test_training_sees_neither_crowds_nor_difficult_objects_unless_asked(tmp_path):
    content = coco_content(2)
    content["annotations"] = [
        {
            "id": i,
            "image_id": 1 + i // 3,
            "category_id": 3,
            "bbox": [3 * i, 2, 9, 9],
            "iscrowd": i % 3 == 0,
            "ignore": i % 3 == 1,
        }
        for i in range(6)
    ]
    root = str(write_coco(tmp_path / "coco", train2017=content, val2017=content))
    counts = {}
    for keep in (True, False):
        settings = DetectionData(source="coco", root=root, keep_difficult=keep)
        (batch,) = loaders(settings)[0]
        assert not any(bool(t["crowd"].any()) for t in batch["targets"])
        counts[keep] = [len(t["labels"]) for t in batch["targets"]]
    assert counts == {True: [2, 2], False: [1, 1]}
    (batch,) = loaders(settings, train=False)[0]
    assert [t["crowd"].tolist() for t in batch["targets"]] == [[True, False, False]] * 2
    assert [t["difficult"].tolist() for t in batch["targets"]] == [[False, True, False]] * 2


@pytest.mark.parametrize("augment", ["none", "ssd"])
def test_an_image_without_objects(tmp_path, augment):
    base = write_voc(tmp_path, {"train": {"a": [], "b": [DOG]}, "val": {"x": [DOG]}})
    (batch,) = loaders(DetectionData(source="voc", root=str(base), size=32, augment=augment))[0]
    empty = next(t for t in batch["targets"] if int(t["image_id"]) == 0)
    assert empty["boxes"].shape == (0, 4)
    assert empty["labels"].shape == (0,)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_is_named_or_left_out(tmp_path, workers):
    base = write_voc(tmp_path)
    path = base / "JPEGImages" / "b.jpg"
    path.write_bytes(path.read_bytes()[:1200])  # the header is whole
    settings = {"source": "voc", "root": str(base), "batch_size": 2, "workers": workers}
    loader, _ = loaders(DetectionData(**settings))
    with pytest.raises(DataError, match=r"b\.jpg cannot be decoded \(.*set data\.skip_broken to true") as caught:
        list(loader)
    assert "\n" not in str(caught.value)
    loader, data = loaders(DetectionData(**settings, skip_broken=True))
    with pytest.warns(UserWarning, match=r"b\.jpg cannot be decoded"):
        assert sum(len(batch["images"]) for batch in loader) == 2
    assert list(data.broken) == [path]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(len(batch["images"]) for batch in loader) == 2  # named once


def test_a_batch_of_nothing_but_broken_images_and_a_cache_of_them(tmp_path):
    base = write_voc(tmp_path)
    for name in "de":
        path = base / "JPEGImages" / f"{name}.jpg"
        path.write_bytes(path.read_bytes()[:1200])
    settings = {"source": "voc", "root": str(base), "skip_broken": True}
    loader, _ = loaders(DetectionData(**settings), train=False)
    with (
        pytest.warns(UserWarning, match="cannot be decoded"),
        pytest.raises(DataError, match="none of the 2 images of a batch can be decoded"),
    ):
        list(loader)
    with pytest.raises(DataError, match="none of the 2 images can be decoded"):
        loaders(DetectionData(**settings, cache=True))
    with pytest.raises(DataError, match=r"d\.jpg cannot be decoded"):
        loaders(DetectionData(source="voc", root=str(base), cache=True))


@pytest.mark.parametrize("cache", [True, False])
def test_a_cache_changes_no_number(tmp_path, cache):
    base = write_voc(tmp_path)
    settings = {"source": "voc", "root": str(base), "size": 48, "augment": "ssd"}
    (expected,) = loaders(DetectionData(**settings))[0]
    (found,) = loaders(DetectionData(**settings, cache=cache))[0]
    assert same(expected, found)


def test_orientation_reaches_the_batch(tmp_path):
    from PIL import Image

    base = write_voc(tmp_path, {"train": {"a": [CAT], "b": [CAT]}, "val": {"x": [CAT]}})
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (60, 40)).save(base / "JPEGImages" / "x.jpg", exif=exif)
    (base / "Annotations" / "x.xml").write_text(annotation("x", [("cat", (1, 41, 40, 60))], size=(40, 60)))
    (batch,) = loaders(DetectionData(source="voc", root=str(base)), train=False)[0]
    assert batch["images"][0].shape == (3, 60, 40)
    assert batch["targets"][0]["original_size"].tolist() == [60, 40]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["0"]}, "classes is given, but source is 'digit_scenes', which has its own"),
        ({"source": "voc"}, "source is 'voc', so root must name a folder"),
        ({"source": "voc", "root": "x", "classes": ["a", "b", "a"]}, "classes has 'a' twice"),
        ({"source": "voc", "root": "x", "train_splits": []}, "at least 1 item"),
        ({"max_size": 300}, "max_size belongs to resize 'shorter'"),
        ({"resize": "shorter", "size": 300, "max_size": 200}, "max_size is 200, less than size, 300"),
        ({"scene_scale": [0.5, 0.4]}, "scene_scale is .0.5, 0.4.: give the least share first"),
        ({"scene_scale": [0.2, 0.9]}, "less than or equal to 0.7"),
        ({"expand": 2.0}, "belong to augment 'ssd', and augment is 'none'"),
        ({"cache": True}, "cache is for images in files, and digit scenes without root are in memory"),
        ({"source": "voc", "root": "x", "cache": True, "workers": 2}, "workers has no use when cache is true"),
    ],
)
def test_settings_that_do_not_fit_together(settings, message):
    with pytest.raises(ValidationError, match=message):
        DetectionData(**settings)


def test_one_training_image_is_too_few():
    with pytest.raises(DataError, match="only one training image"):
        prepare_detection(scenes(train_size=1), 0)


def test_digit_scenes_say_what_they_are():
    data = prepare_detection(scenes(generator_seed=3), 0)
    assert data.classes == tuple("0123456789")
    assert data.description.endswith("(generated)")
    assert (len(data.train), len(data.dev)) == (7, 5)
    assert data.train.name(2) == "training scene 2"
    assert Path(data.dev.name(0)).name == "dev scene 0"


def test_digit_scenes_written_as_a_tree_and_read_back(tmp_path):
    root = tmp_path / "some" / "scenes"
    settings = scenes(root=str(root), generator_seed=3)
    data, memory = prepare_detection(settings, 0), prepare_detection(scenes(generator_seed=3), 0)
    assert data.description == memory.description
    assert (data.classes, data.train_counts, data.dev_counts) == (
        memory.classes,
        memory.train_counts,
        memory.dev_counts,
    )
    for i in range(7):
        assert np.array_equal(data.train.target(i).boxes, memory.train.target(i).boxes)
        assert np.array_equal(data.train.target(i).labels, memory.train.target(i).labels)
        assert np.abs(data.train.image(i).astype(int) - memory.train.image(i)).mean() < 6
    assert [p.name for p in root.parent.iterdir()] == ["scenes"]
    written = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    prepare_detection(settings, 0)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == written  # once
    with pytest.raises(DataError, match=r"scenes holds digit scenes of other settings"):
        prepare_detection(scenes(root=str(root), generator_seed=4), 0)
    with pytest.raises(DataError, match=r"scenes holds digit scenes of other settings"):
        prepare_detection(scenes(root=str(root), generator_seed=3, scene_scale=[0.3, 0.6]), 0)


def test_digit_scenes_do_not_overwrite_what_is_there(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(DataError, match="is not empty and holds no digit scenes"):
        prepare_detection(scenes(root=str(tmp_path)), 0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="cannot be written to"):
        prepare_detection(scenes(root=str(tmp_path / "thesis.txt" / "scenes")), 0)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(prepare_detection(scenes(root=str(empty), cache=True), 0).train) == 7


def test_two_processes_may_write_the_same_scenes(tmp_path, monkeypatch):
    """The one that comes second finds the tree of the first in its place, and takes it."""
    from bnnapps.plugins.imagery import voc_tree

    root, settings, replace = tmp_path / "scenes", scenes(root=str(tmp_path / "scenes")), Path.replace

    def overtaken(self, target):
        monkeypatch.setattr(Path, "replace", replace)
        prepare_detection(settings, 0)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", overtaken)
    assert len(prepare_detection(settings, 0).train) == 7
    assert [p.name for p in tmp_path.iterdir()] == ["scenes"]
    assert (root / voc_tree.FACTS).is_file()
