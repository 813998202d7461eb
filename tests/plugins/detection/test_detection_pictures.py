from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import torch
from detection_cases import A, B, C, found, metrics_of, truth
from PIL import Image

from bnnapps.plugins.detection.curves import MOST_CLASSES, precision_recall_picture
from bnnapps.plugins.detection.metrics import Curve
from bnnapps.plugins.detection.pictures import LARGEST_SIDE, MOST_IMAGES, data_uri, detection_sheet

CLASSES = ("a<b", "c&d")


def parsed(page: str) -> ElementTree.Element:
    """The HTML as XML, which proves that every tag is closed and every name is escaped."""
    return ElementTree.fromstring(f"<div>{page}</div>")


def marks(cell: ElementTree.Element) -> list[ElementTree.Element]:
    return [rect for rect in cell.iter("rect") if rect.find("title") is not None]


def test_the_truth_and_both_networks_beside_each_other():
    image = torch.rand(3, 20, 60)
    target = truth([A, B], [1, 2], difficult=[False, True])
    sure = found([A, C, B, A], [0.9, 0.8, 0.7, 0.29], [1, 1, 2, 1])
    page = parsed(detection_sheet([image], [target], {"float": [sure_only(sure)], "binary": [sure]}, CLASSES))
    cells = page.findall(".//figure")
    assert [cell.findtext("figcaption") for cell in cells] == [
        "truth: 2 objects",
        "float: 1 detection",
        "binary: 3 detections, 1 false",
    ]
    titles = [[mark.findtext("title") for mark in marks(cell)] for cell in cells]
    assert [sorted(each) for each in titles] == [
        ["a<b", "c&d difficult"],
        ["a<b 0.90"],
        ["a<b 0.80, false", "a<b 0.90", "c&d 0.70"],  # below the threshold nothing is drawn
    ]
    dashed = [mark.findtext("title") for mark in marks(cells[2]) if mark.get("stroke-dasharray")]
    assert dashed == ["a<b 0.80, false"]
    box = next(mark for mark in marks(cells[0]) if mark.findtext("title") == "c&d difficult")
    assert [float(box.get(key)) for key in ("x", "y", "width", "height")] == [20, 0, 10, 10]
    assert cells[0].find("svg").get("viewBox") == "0 0 60 20"
    assert [li.find("span").tail for li in page.findall(".//li")] == list(CLASSES)


def sure_only(each):
    return {key: value[:1] for key, value in each.items()}


def test_the_image_is_embedded_once_a_row_and_ids_are_unique():
    images = [torch.rand(3, 30, 40) for _ in range(MOST_IMAGES + 3)]
    targets = [truth([A], [1])] * len(images)
    nothing = [found([], [], [])] * len(images)
    page = detection_sheet(images, targets, {"float": nothing, "binary": nothing}, CLASSES)
    assert page.count("data:image/png;base64,") == MOST_IMAGES
    ids = re.findall(r'id="([^"]*)"', page)
    assert len(ids) == len(set(ids)) == MOST_IMAGES
    assert sorted(re.findall(r'href="#([^"]*)"', page)) == sorted(ids * 2)
    assert page.startswith(f"<p>{MOST_IMAGES} of the dev images")
    assert "binary: 0 detections" in page


def test_names_are_left_to_the_mouse_where_boxes_are_many():
    target = truth([(i, 0, i + 5, 5) for i in range(13)], [1] * 13)
    page = parsed(detection_sheet([torch.rand(3, 30, 40)], [target], {}, CLASSES))
    assert len(marks(page)) == 13
    assert page.find(".//text") is None


def test_embedded_pixels():
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    for each in (image, image.float() / 255):
        kind, data = data_uri(each).split(",")
        assert kind == "data:image/png;base64"
        assert torch.equal(torch.tensor(list(Image.open(io.BytesIO(base64.b64decode(data))).tobytes())), flat(image))
    kind, data = data_uri(torch.rand(3, 500, 1000)).split(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (LARGEST_SIDE, LARGEST_SIDE // 2)


def flat(image: torch.Tensor) -> torch.Tensor:
    return image.permute(1, 2, 0).flatten().long()


def test_a_curve_for_each_class_with_objects_and_a_table():
    one = metrics_of([found([A, C, B], [0.9, 0.8, 0.7], [1, 1, 2])], [truth([A, B], [1, 2])], "xy").curves()
    two = metrics_of([found([], [], [])], [truth([A, B], [1, 2])], "xy").curves()
    page = parsed(precision_recall_picture({"float": one, "binary": two}))
    assert [figure.findtext("figcaption") for figure in page.findall(".//figure")] == ["x (1 object)", "y (1 object)"]
    rows = [[cell.text for cell in row] for row in page.findall(".//tbody/tr")]
    assert rows == [
        ["x", "1", "100.0 (100.0)", "0.0 (0.0)"],
        ["y", "1", "100.0 (100.0)", "0.0 (0.0)"],
        ["mean", "2", "100.0 (100.0)", "0.0 (0.0)"],
    ]


def test_many_classes_and_none():
    curve = Curve(*(torch.tensor(v).double().numpy() for v in ([1.0], [1.0], [0.5])), 1)
    curves = {f"class {i}": curve._replace(objects=i + 1) for i in range(MOST_CLASSES + 5)}
    page = parsed(precision_recall_picture({"float": curves}))
    titles = [figure.findtext("figcaption") for figure in page.findall(".//figure")]
    assert len(titles) == MOST_CLASSES
    assert titles[0] == "class 5 (6 objects)"  # those with most objects, in the order of the classes
    assert len(page.findall(".//tbody/tr")) == MOST_CLASSES + 6
    assert "No class has objects" in precision_recall_picture({"float": {}})
