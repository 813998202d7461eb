from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from detection_files import CAT, DOG, annotation, picture, write_voc
from PIL import Image

from bnnapps.errors import DataError
from bnnapps.plugins.detection.data import prepare_detection
from bnnapps.plugins.detection.data_config import DetectionData
from bnnapps.plugins.detection.sets import BoxCounts
from bnnapps.plugins.imagery.scenes import CLASSES, digit_scenes
from bnnapps.plugins.imagery.voc_tree import write_voc_tree


def prepared(root: Path, seed: int = 0, **more):
    return prepare_detection(DetectionData(**{"source": "voc", "root": str(root)} | more), seed)


def names(part) -> list[str]:
    return [Path(part.name(i)).stem for i in range(len(part))]


def test_lists_boxes_and_classes(tmp_path):
    data = prepared(write_voc(tmp_path / "pets" / "VOC"))
    assert data.classes == ("cat", "dog")  # sorted, as VOC's own list is
    assert (names(data.train), names(data.dev)) == (["a", "b", "c"], ["d", "e"])
    target = data.train.target(1)
    assert target.labels.tolist() == [2, 1]
    # VOC counts from 1 and includes the last pixel: 31..60 x 11..40 is the lower right 30 x 30 of 60 x 40.
    assert target.boxes.tolist() == [[30, 10, 60, 40], [0, 0, 20, 10]]
    assert target.area.tolist() == [900, 200]
    assert data.train.image(1).shape == (40, 60, 3)
    assert data.description == "pets (real images, VOC layout)"
    assert data.train_counts == BoxCounts(boxes=4)
    assert (data.notes, data.broken) == ((), {})


def test_several_years(tmp_path):
    write_voc(tmp_path / "VOC2007", {"trainval": {"000001": [CAT], "000002": [DOG]}, "test": {"000003": [CAT]}})
    write_voc(tmp_path / "VOC2012", {"trainval": {"2008_000001": [DOG]}})
    data = prepared(tmp_path, train_splits=["VOC2007/trainval", "VOC2012/trainval"], dev_splits=["VOC2007/test"])
    assert names(data.train) == ["000001", "000002", "2008_000001"]
    assert [data.train.target(i).image_id for i in range(3)] == [0, 1, 2]
    assert names(data.dev) == ["000003"]
    with pytest.raises(DataError, match=r"has the folders VOC2007, VOC2012; write a split such as VOC2007/train"):
        prepared(tmp_path)
    with pytest.raises(DataError, match=r"no list .*VOC2012/ImageSets/Main/test\.txt: there are trainval"):
        prepared(tmp_path, train_splits=["VOC2007/trainval"], dev_splits=["VOC2012/test"])


def test_boxes_without_area_are_dropped_and_those_that_reach_out_are_clipped(tmp_path):
    objects = [
        ("cat", (1, 1, 20, 10)),
        ("cat", (33, 20, 33, 20)),  # a click, as two in the blood cells of BCCD
        ("cat", (40, 20, 30, 30)),  # corners exchanged
        ("cat", (50, 30, 70, 45)),  # reaches out on the lower right
        ("cat", (-4, 0, 10, 10)),  # and on the upper left
        ("cat", (61, 5, 80, 10)),  # beside the image
    ]
    lists = {"train": {"a": objects, "b": [DOG]}, "val": {"c": [CAT, DOG]}}
    data = prepared(write_voc(tmp_path, lists))
    assert data.train_counts == BoxCounts(boxes=4, clipped=2, zero_area=2, outside=1)
    assert data.dev_counts == BoxCounts(boxes=2)
    expected = [[0, 0, 20, 10], [49, 29, 60, 40], [0, 0, 10, 10]]
    assert data.train.target(0).boxes.tolist() == expected
    assert data.train.target(0).area.tolist() == [200, 121, 100]


def test_the_blood_cells_facts_on_a_tree_like_theirs(tmp_path):
    """BCCD: tabs, a <path> of another machine, sizes of 640 x 480, and two clicks without area among the RBC."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    boxes = {
        "BloodImage_00338": [
            ("RBC", (169, 202, 263, 278)),
            ("RBC", (504, 337, 504, 337)),
            ("WBC", (244, 327, 509, 480)),
        ],
        "BloodImage_00343": [("Platelets", (1, 361, 48, 410)), ("RBC", (181, 329, 181, 329))],
    }
    for name, objects in boxes.items():
        picture(tmp_path / "JPEGImages" / f"{name}.jpg", 640, 480)
        body = "".join(
            f"\t<object>\n\t\t<name>{label}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
            f"\t\t<difficult>0</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{b[0]}</xmin>\n\t\t\t<ymin>{b[1]}</ymin>\n"
            f"\t\t\t<xmax>{b[2]}</xmax>\n\t\t\t<ymax>{b[3]}</ymax>\n\t\t</bndbox>\n\t</object>\n"
            for label, b in objects
        )
        text = (
            f"<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{name}.jpg</filename>\n"
            f"\t<path>/home/pi/detection_dataset/JPEGImages/{name}.jpg</path>\n"
            "\t<source>\n\t\t<database>Unknown</database>\n\t</source>\n\t<size>\n\t\t<width>640</width>\n"
            f"\t\t<height>480</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n{body}</annotation>\n"
        )
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
    for split in ("trainval", "test"):
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("BloodImage_00338\nBloodImage_00343\n")
    data = prepared(tmp_path, train_splits=["trainval"], dev_splits=["test"])
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert data.train_counts == BoxCounts(boxes=3, zero_area=2)
    assert data.train.target(0).boxes.tolist() == [[168, 201, 263, 278], [243, 326, 509, 480]]
    assert data.notes[0].startswith("2 images are in both sets, ")


def test_a_written_scene_tree_reads_back(tmp_path):
    scenes = digit_scenes("train", 6, 64)
    write_voc_tree(tmp_path, {"train": scenes[:4], "val": scenes[4:]}, CLASSES)
    data = prepared(tmp_path, classes=list(CLASSES))
    for i, scene in enumerate(scenes[:4]):
        assert np.array_equal(data.train.target(i).boxes, scene.boxes)
        assert np.array_equal(data.train.target(i).labels, scene.labels)


def test_difficult_objects_keep_their_flag(tmp_path):
    base = write_voc(tmp_path)
    (base / "Annotations" / "b.xml").write_text(annotation("b", [DOG, CAT], difficult=(1,)))
    assert prepared(base).train.target(1).difficult.tolist() == [False, True]


def test_drawn_and_cached_and_empty(tmp_path):
    lists = {"train": {n: [CAT] if n != "c" else [] for n in "abcdefgh"}, "val": {"x": [CAT], "y": [CAT]}}
    base = write_voc(tmp_path, lists)
    drawn = prepared(base, train_size=4)
    assert len(drawn.train) == 4
    assert names(drawn.train) == names(prepared(base, train_size=4).train) == sorted(names(drawn.train))
    assert names(prepared(base, seed=1, train_size=4).train) != names(drawn.train)
    assert drawn.train_counts.boxes == sum(len(drawn.train.target(i)) for i in range(4))
    assert len(prepared(base).train.target(2)) == 0
    assert names(prepared(base, drop_empty=True).train) == list("abdefgh")
    cached = prepared(base, cache=True)
    shutil.rmtree(base / "JPEGImages")
    assert cached.train.image(3).shape == (40, 60, 3)


def test_other_kinds_of_files_and_sizes_that_are_not_given(tmp_path):
    base = write_voc(tmp_path)
    for name, kind in (("a", "PNG"), ("b", "JPG")):
        (base / "JPEGImages" / f"{name}.jpg").unlink()
        picture(base / "JPEGImages" / f"{name}.{kind}")
    Image.new("CMYK", (60, 40)).save(base / "JPEGImages" / "c.jpg")
    deep = Image.fromarray(np.full((40, 60), 40_000, np.uint16))
    (base / "JPEGImages" / "d.jpg").unlink()
    deep.save(base / "JPEGImages" / "d.png")
    for name in ("a", "b"):
        (base / "Annotations" / f"{name}.xml").write_text(annotation(name, [CAT, DOG], size=None))
    (base / "Annotations" / "c.xml").write_text(annotation("c", [DOG], size=(0, 0)))
    data = prepared(base)
    assert data.train_counts == BoxCounts(boxes=5)
    assert [Path(data.train.name(i)).name for i in range(3)] == ["a.PNG", "b.JPG", "c.jpg"]
    assert len(data.notes) == 2
    assert data.notes[0] == f"images of CMYK, converted to 8-bit RGB: 1, {base / 'JPEGImages' / 'c.jpg'} first"
    assert data.notes[1].startswith("images of more than 8 bits a channel, converted to 8-bit RGB: 1, ")
    assert (data.dev.image(0) == round(40_000 / 257)).all()


@pytest.mark.parametrize(("size", "turned"), [((40, 60), True), ((60, 40), False), (None, True)])
def test_boxes_follow_the_orientation_that_their_annotation_knows(tmp_path, size, turned):
    base = write_voc(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: 60 x 40 is seen as 40 x 60
    Image.new("RGB", (60, 40)).save(base / "JPEGImages" / "a.jpg", exif=exif)
    (base / "Annotations" / "a.xml").write_text(annotation("a", [("cat", (1, 1, 40, 60))], size=size))
    data = prepared(base)
    assert data.train.image(0).shape == ((60, 40, 3) if turned else (40, 60, 3))
    assert data.train.target(0).boxes.tolist() == [[0, 0, 40, 60 if turned else 40]]


def spoil(tmp_path: Path, what: str) -> Path:
    base = write_voc(tmp_path)
    annotations, images, lists = base / "Annotations", base / "JPEGImages", base / "ImageSets" / "Main"
    path = annotations / "b.xml"
    text = path.read_text()
    match what:
        case "no annotation":
            path.unlink()
        case "no image":
            (images / "b.jpg").unlink()
        case "neither":
            path.unlink()
            (images / "b.jpg").unlink()
        case "malformed":
            path.write_text(text[:-5])
        case "hostile":
            path.write_text('<!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;">]>' + text)
        case "other root":
            path.write_text(text.replace("annotation>", "picture>"))
        case "no box":
            path.write_text(text.replace("bndbox>", "polygon>"))
        case "no name":
            path.write_text(text.replace("<name>dog</name>", "<name> </name>"))
        case "no number":
            path.write_text(text.replace("<xmax>60</xmax>", "<xmax>far</xmax>"))
        case "infinite":
            path.write_text(text.replace("<xmax>60</xmax>", "<xmax>inf</xmax>"))
        case "missing side":
            path.write_text(text.replace("<ymin>11</ymin>", ""))
        case "other size":
            path.write_text(text.replace("<width>60</width>", "<width>640</width>"))
        case "leaves by list":
            (lists / "train.txt").write_text("a\n\n../../secret\n")
        case "leaves by filename":
            path.write_text(text.replace("b.jpg", "../../secret.jpg"))
        case "empty list":
            (lists / "train.txt").write_text("\n \n")
        case "listed twice":
            (lists / "train.txt").write_text("a\nb\na\n")
        case "truncated header":
            (images / "b.jpg").write_bytes((images / "b.jpg").read_bytes()[:100])
        case "no objects":
            for name in "de":
                (annotations / f"{name}.xml").write_text(annotation(name, []))
        case "not utf-8":
            (lists / "train.txt").write_bytes(b"\xff\xfea")
        case _:
            raise AssertionError(what)
    return base


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "no annotation",
            r"JPEGImages/b\.jpg has no annotation: .*Annotations/b\.xml is missing \(.*train\.txt, line 2\)",
        ),
        ("no image", r"Annotations/b\.xml has no image: there is no .*JPEGImages/b\.jpg \(.*train\.txt, line 2\)"),
        ("neither", r"train\.txt, line 2: 'b' has neither the annotation .*b\.xml nor an image in JPEGImages"),
        ("malformed", r"b\.xml is no well-formed XML"),
        ("hostile", r"b\.xml declares a document type or entities"),
        ("other root", r"b\.xml has the root element <picture>; expected <annotation>"),
        ("no box", r"b\.xml: object 1 \('dog'\) has no <bndbox>"),
        ("no name", r"b\.xml: object 1 has no <name>"),
        ("no number", r"b\.xml: object 1 \('dog'\) has xmax = 'far'; expected a number of pixels"),
        ("infinite", r"b\.xml: object 1 \('dog'\) has xmax = 'inf'"),
        ("missing side", r"b\.xml: object 1 \('dog'\) has ymin = ''"),
        ("other size", r"b\.xml is for an image of 640 x 40 pixels, but .*b\.jpg has 60 x 40"),
        ("leaves by list", r"train\.txt, line 3: the file name '\.\./\.\./secret.*' leads out of"),
        ("leaves by filename", r"b\.xml, <filename>: the file name '\.\./\.\./secret\.jpg' leads out of .*JPEGImages"),
        ("empty list", r"train\.txt lists no image: the split 'train' is empty"),
        ("listed twice", r"a\.xml is listed twice"),
        ("truncated header", r"b\.jpg cannot be decoded .*set data\.skip_broken to true"),
        ("no objects", r"the dev set has 2 images and no object in any of them"),
        ("not utf-8", r"train\.txt cannot be read"),
    ],
)
def test_bad_input_is_named_in_one_line(tmp_path, what, message):
    base = spoil(tmp_path, what)
    with pytest.raises(DataError, match=message) as caught:
        prepared(base)
    assert "\n" not in str(caught.value)


def test_a_class_that_is_not_in_the_list(tmp_path):
    base = write_voc(tmp_path)
    with pytest.raises(DataError, match=r"b\.xml: object 1 is of the class 'dog', .* nearest are 'dogs', 'cat'"):
        prepared(base, classes=["cat", "dogs"])


def test_a_split_that_leads_out_and_a_root_that_is_not_there(tmp_path):
    base = write_voc(tmp_path / "set")
    for split in ("../other/train", "/etc/train", ".."):
        with pytest.raises(DataError, match=r"the split .*: the file name .* leads out of|no list "):
            prepared(base, train_splits=[split])
    with pytest.raises(DataError, match=r"no data folder .*none"):
        prepared(tmp_path / "none")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"expected JPEGImages, Annotations and ImageSets/Main in data\.root"):
        prepared(tmp_path / "bare")


def test_a_broken_header_is_left_out_if_the_recipe_says_so(tmp_path):
    base = spoil(tmp_path, "truncated header")
    data = prepared(base, skip_broken=True)
    assert names(data.train) == ["a", "c"]
    assert list(data.broken) == [base / "JPEGImages" / "b.jpg"]


def test_a_dev_class_without_training_objects_is_noted(tmp_path):
    lists = {"train": {"a": [CAT], "b": [CAT]}, "val": {"c": [DOG]}}
    assert prepared(write_voc(tmp_path, lists)).notes == (
        "the dev set has objects of classes that no training image has: dog",
    )
