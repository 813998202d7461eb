from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from detection_files import coco_content, picture, write_coco

from bnnapps.errors import DataError
from bnnapps.plugins.detection.data import prepare_detection
from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.plugins.detection.sets import BoxCounts


def prepared(root: Path, **more):
    return prepare_detection(DetectionData(**{"source": "coco", "root": str(root)} | more), 0)


def test_boxes_and_categories(tmp_path):
    data = prepared(write_coco(tmp_path / "coco"))
    assert data.classes == ("car", "cat")  # in the order of the ids 3 and 17, which become 1 and 2
    assert [data.train.target(i).labels.tolist() for i in range(3)] == [[2], [1], [2]]
    assert data.train.target(1).boxes.tolist() == [[6, 4, 26, 14]]  # x, y, width, height from 0 on
    assert data.train.target(1).area.tolist() == [150.5]  # of the segment
    assert (len(data.train), len(data.dev)) == (3, 2)
    assert data.train.image(0).shape == (40, 60, 3)


def test_images_without_objects_crowds_and_ignored_ones(tmp_path):
    content = coco_content(3)
    content["annotations"][0] |= {"iscrowd": 1}
    content["annotations"][1] |= {"ignore": 1}
    del content["annotations"][2]
    data = prepared(write_coco(tmp_path, train2017=content, val2017=coco_content(2, 10)))
    assert data.train.target(0).crowd.tolist() == [True]
    assert data.train.target(1).difficult.tolist() == [True]
    assert len(data.train.target(2)) == 0
    content["annotations"].append({"id": 9, "image_id": 3, "category_id": 3, "bbox": [1, 1, 5, 5]})
    write_coco(tmp_path, train2017=content)
    found = prepared(tmp_path, drop_empty=True, keep_difficult=True).train
    assert [Path(found.name(i)).name for i in range(len(found))] == ["002.jpg", "003.jpg"]  # not that of the crowd


def test_boxes_are_clipped_and_dropped_with_a_count(tmp_path):
    content = coco_content(2)
    boxes = [[50, 30, 20, 20], [5, 5, 0, 9], [5, 5, 9, -3], [70, 5, 5, 5], [0, 0, 60, 40]]
    content["annotations"] = [
        {"id": i, "image_id": 1 + i % 2, "category_id": 3, "bbox": box} for i, box in enumerate(boxes)
    ]
    data = prepared(write_coco(tmp_path, train2017=content, val2017=coco_content(1, 10)))
    assert data.train_counts == BoxCounts(boxes=2, clipped=1, zero_area=2, outside=1)
    assert data.train.target(0).boxes.tolist() == [[50, 30, 60, 40], [0, 0, 60, 40]]
    assert data.train.target(0).area.tolist() == [100, 2400]  # of the box, where there is none of a segment


def test_several_files_and_files_of_other_names(tmp_path):
    write_coco(tmp_path, train2014=coco_content(2), val2014=coco_content(3, 10))
    content = coco_content(2, 10)
    (tmp_path / "annotations" / "instances_minival.json").write_text(json.dumps(content))
    data = prepared(
        tmp_path,
        train_splits=["train2014", "annotations/instances_val2014.json:val2014"],
        dev_splits=["annotations/instances_minival.json:val2014"],
    )
    assert (len(data.train), len(data.dev)) == (5, 2)
    assert [data.train.target(i).image_id for i in range(5)] == [0, 1, 2, 3, 4]
    assert data.notes[0].startswith("2 images are in both sets")
    (tmp_path / "train2014").rename(tmp_path / "images")
    assert len(prepared(tmp_path, train_splits=["train2014"], dev_splits=["val2014"]).train) == 2


def spoil(tmp_path: Path, what: str) -> Path:
    root = write_coco(tmp_path / "coco")
    path = root / "annotations" / "instances_train2017.json"
    content: dict[str, Any] = json.loads(path.read_text())
    image, note = content["images"][1], content["annotations"][1]
    match what:
        case "leaves":
            image["file_name"] = "../../secret.jpg"
        case "absolute":
            image["file_name"] = "/etc/passwd"
        case "no image":
            (root / "train2017" / "002.jpg").unlink()
        case "unknown image":
            note["image_id"] = 99
        case "unknown category":
            note["category_id"] = 4
        case "bad box":
            note["bbox"] = [1, 2, 3]
        case "nan":
            note["bbox"] = [1, 2, float("nan"), 3]
        case "string id":
            image["id"] = "2"
        case "twice":
            image["id"] = 1
        case "category twice":
            content["categories"][1]["id"] = 17
        case "no list":
            del content["annotations"]
        case "no mapping":
            content["images"][2] = 3
        case "empty":
            content["images"], content["annotations"] = [], []
        case "other size":
            image["width"] = 61
        case "no name":
            del image["file_name"]
        case _:
            assert what in ("malformed", "no file", "no folder", "deep"), what
    path.write_text(json.dumps(content))
    if what == "malformed":
        path.write_text(path.read_text()[:-3])
    if what == "deep":
        path.write_text("[" * 200_000)
    if what == "no file":
        path.unlink()
    if what == "no folder":
        (root / "train2017").rename(root / "train")
    return root


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("leaves", r"instances_train2017\.json: images\[1\]: the file name '\.\./\.\./secret\.jpg' leads out of"),
        ("absolute", r"images\[1\]: the file name '/etc/passwd' leads out of"),
        ("no image", r"images\[1\] has no image: there is no .*train2017/002\.jpg"),
        ("unknown image", r"annotation 1 is for the image 99, which the file does not have"),
        ("unknown category", r"annotation 1 is of the category 4, which the file does not have"),
        ("bad box", r"annotation 1 has bbox = \[1, 2, 3\]; expected four numbers"),
        ("nan", r"annotation 1 has bbox = \[1, 2, nan, 3\]; expected four numbers"),
        ("string id", r"images\[1\] has id = '2'; expected a whole number"),
        ("twice", r"images\[1\] has the id 1 of an earlier image"),
        ("category twice", r"has the category 17 \('car'\) twice"),
        ("no list", r"has no list 'annotations'"),
        ("no mapping", r"images\[2\] is no mapping"),
        ("empty", r"has no image: the split 'train2017' is empty"),
        ("other size", r"image 2 is for an image of 61 x 40 pixels, but .*002\.jpg has 60 x 40"),
        ("no name", r"images\[1\] has no file_name"),
        ("malformed", r"instances_train2017\.json is no well-formed JSON"),
        ("deep", r"instances_train2017\.json is no well-formed JSON"),
        ("no file", r"no file .*instances_train2017\.json: there are instances_val2017\.json in annotations"),
        ("no folder", r"no folder .*train2017 with the images of the split 'train2017'"),
    ],
)
def test_bad_input_is_named_in_one_line(tmp_path, what, message):
    root = spoil(tmp_path, what)
    with pytest.raises(DataError, match=message) as caught:
        prepared(root)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_class_that_is_not_in_the_list(tmp_path):
    root = write_coco(tmp_path)
    with pytest.raises(DataError, match=r"instances_train2017\.json: annotation 1 is of the class 'car'"):
        prepared(root, classes=["cat", "dog"])


def test_a_split_that_leads_out(tmp_path):
    root = write_coco(tmp_path / "coco")
    picture(tmp_path / "elsewhere" / "001.jpg")
    for split in ("../x", "annotations/instances_train2017.json:../elsewhere", "/tmp/a.json:train2017"):
        with pytest.raises(DataError, match="leads out of"):
            prepared(root, train_splits=[split])
