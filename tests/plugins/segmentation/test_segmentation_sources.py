"""Each source of images and masks, and what is said about files that do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from segmentation_files import image_of, mask_of, save_mask, write_camvid, write_cityscapes, write_sbd, write_voc

from bnnapps.errors import DataError, RecipeError
from bnnapps.plugins.segmentation.camvid import load_camvid
from bnnapps.plugins.segmentation.cityscapes import NUMBERS, load_cityscapes
from bnnapps.plugins.segmentation.config import SegmentationData
from bnnapps.plugins.segmentation.data import Prepared, prepare_segmentation
from bnnapps.plugins.segmentation.road import CLASSES, synthetic_road
from bnnapps.plugins.segmentation.voc import load_voc
from bnnapps.validation import validated


def prepared(seed: int = 0, **settings: Any) -> Prepared:
    return prepare_segmentation(SegmentationData(**{"batch_size": 2, **settings}), seed)


# CamVid


def test_camvid_reads_its_lists(tmp_path: Path) -> None:
    splits = load_camvid(write_camvid(tmp_path), "train", "test")
    assert (len(splits.train), len(splits.dev), len(splits.classes)) == (4, 2, 11)
    assert splits.classes[3] == "road"
    image, mask = splits.train.at(1)
    assert torch.equal(image, torch.from_numpy(image_of(1)).permute(2, 0, 1))
    expected = mask_of(1, [*range(12)])
    assert torch.equal(mask, torch.from_numpy(np.where(expected == 11, 255, expected)))


def test_lists_add_up_and_name_each_image_once(tmp_path: Path) -> None:
    root = write_camvid(tmp_path)
    assert len(load_camvid(root, "train+val", "test").train) == 6
    assert len(load_camvid(root, "train+train", "test").train) == 4


def test_lines_as_segnet_published_them_are_read(tmp_path: Path) -> None:
    root = write_camvid(tmp_path)
    lines = (root / "train.txt").read_text().split()
    pairs = zip(lines[::2], lines[1::2], strict=True)
    (root / "train.txt").write_text("\n".join(f"/SegNet/CamVid/{a} /SegNet/CamVid/{b}" for a, b in pairs))
    assert len(load_camvid(root, "train", "test").train) == 4


def test_road_against_the_rest(tmp_path: Path) -> None:
    root = write_camvid(tmp_path)
    found = prepared(source="camvid", root=str(root), only="road").splits
    assert found.classes == ("rest", "road")
    whole = prepared(source="camvid", root=str(root)).splits
    assert torch.equal(found.train.masks == 1, whole.train.masks == 3)
    assert torch.equal(found.train.masks == 255, whole.train.masks == 255)
    assert set(found.train.masks.unique().tolist()) == {0, 1, 255}


def test_a_class_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.only is 'rod', which is no class; the nearest are .*'road'"):
        prepared(source="camvid", root=str(write_camvid(tmp_path)), only="rod")


def break_camvid(root: Path, how: str) -> None:
    image = root / "train" / "0001TP_000001.png"
    mask = root / "trainannot" / "0001TP_000001.png"
    if how == "no mask":
        mask.unlink()
    elif how == "no image":
        image.unlink()
    elif how == "no list":
        (root / "train.txt").unlink()
    elif how == "empty list":
        (root / "train.txt").write_text("\n\n")
    elif how == "one word":
        (root / "train.txt").write_text("train/a.png\n")
    elif how == "outside":
        (root / "train.txt").write_text("../../etc/passwd trainannot/a.png\n")
    elif how == "absolute":
        (root / "train.txt").write_text("/etc/passwd /etc/passwd\n")
    elif how == "another size":
        save_mask(mask, mask_of(1, [0, 1], height=24, width=30))
    elif how == "a class too many":
        save_mask(mask, np.full((24, 32), 12, np.uint8))
    elif how == "colours":
        Image.fromarray(image_of(1)).save(mask)
    elif how == "deep":
        Image.fromarray(np.full((24, 32), 300, np.uint16)).save(mask)
    elif how == "truncated":
        image.write_bytes(image.read_bytes()[:200])
    elif how == "no picture":
        image.write_text("hello")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no mask", r"train\.txt, line 2: .*0001TP_000001\.png has no mask .*trainannot.0001TP_000001\.png"),
        ("no image", r"train\.txt, line 2: the image .*0001TP_000001\.png is missing \(its mask .* is there\)"),
        ("no list", r"no list .*train\.txt; there are test, val"),
        ("empty list", r"train\.txt is empty: expected a line for each image"),
        ("one word", r"train\.txt, line 1: expected the names of an image and of its mask, found 1 words"),
        ("outside", r"train\.txt, line 1: the file name '\.\./\.\./etc/passwd' leads out of"),
        ("absolute", r"train\.txt, line 1: the file name '/etc/passwd' leads out of"),
        ("another size", r"trainannot.0001TP_000001\.png is 24x30 and its image .* 24x32 \(height, width\)"),
        ("a class too many", r"0001TP_000001\.png has pixels of the number 12, which is no class: expected 11 numbers"),
        ("colours", r"trainannot.0001TP_000001\.png is no mask \(it is of the kind RGB"),
        ("deep", r"trainannot.0001TP_000001\.png is no mask \(its labels go from 300 to 300; expected 0 to 255"),
        ("truncated", r"train.0001TP_000001\.png cannot be decoded"),
        ("no picture", r"train.0001TP_000001\.png cannot be decoded \(it is no image"),
    ],
)
def test_files_that_do_not_fit_are_named(how: str, message: str, tmp_path: Path) -> None:
    root = write_camvid(tmp_path)
    break_camvid(root, how)
    with pytest.raises(DataError, match=message) as caught:
        prepared(source="camvid", root=str(root))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["I;16", "CMYK", "P", "L", "RGBA"])
def test_images_of_other_kinds_become_rgb(kind: str, tmp_path: Path) -> None:
    root = write_camvid(tmp_path)
    path = root / "train" / "0001TP_000001.png"
    pixels = image_of(1)
    if kind == "I;16":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
        expected = np.repeat(pixels[..., :1], 3, axis=2)
    elif kind == "CMYK":
        target = path.with_suffix(".tif")
        picture = Image.fromarray(pixels).convert("CMYK")
        picture.save(target)
        shutil.move(target, path)
        expected = np.asarray(picture.convert("RGB"))
    else:
        picture = Image.fromarray(pixels).convert(kind)
        picture.save(path)
        expected = np.asarray(picture.convert("RGB"))
    image, _ = load_camvid(root, "train", "test").train.at(1)
    assert image.dtype == torch.uint8
    assert torch.equal(image, torch.from_numpy(np.array(expected)).permute(2, 0, 1))


# Cityscapes


def test_cityscapes_keeps_the_nineteen_classes(tmp_path: Path) -> None:
    splits = load_cityscapes(write_cityscapes(tmp_path), "train", "val")
    assert (len(splits.train), len(splits.dev), len(splits.classes)) == (4, 2, 19)
    _, mask = splits.train.at(0)
    numbers = mask_of(0, [0, 7, 8, 26, 33, 255])
    names = list(NUMBERS)
    for number, name in ((7, "road"), (8, "sidewalk"), (26, "car"), (33, "bicycle")):
        assert torch.equal(mask == names.index(name), torch.from_numpy(numbers == number))
    assert torch.equal(mask == 255, torch.from_numpy((numbers == 0) | (numbers == 255)))


@pytest.mark.parametrize(
    ("delete", "message"),
    [
        ("gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png", r"aachen_000001.* has no mask"),
        ("leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png", r"aachen_000001.*labelIds\.png has no image"),
        ("gtFine", r"no folder 'gtFine' in"),
        ("leftImg8bit/val", r"no folder .*leftImg8bit.val; there are train"),
        ("leftImg8bit/val/munster", r"leftImg8bit.val has no images: expected CITY/\*_leftImg8bit\.png"),
    ],
)
def test_what_cityscapes_lacks_is_named(delete: str, message: str, tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path)
    path = root / delete
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message):
        load_cityscapes(root, "train", "val")


# VOC and SBD


def test_voc_reads_palette_masks_wherever_the_tree_stands(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOCdevkit" / "VOC2012")
    splits = load_voc(tmp_path, "train", "val", None)
    assert (len(splits.train), len(splits.dev), len(splits.classes)) == (3, 2, 21)
    assert splits.classes[20] == "tvmonitor"
    _, mask = splits.train.at(0)
    assert torch.equal(mask, torch.from_numpy(mask_of(0, [0, 5, 20, 255])))


def test_classes_of_a_set_of_ones_own(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "classes.txt").write_text("rest\ncell\n")
    splits = load_voc(root, "train", "val", None)
    assert splits.classes == ("rest", "cell")
    with pytest.raises(DataError, match=r"pixels of the number \d+, which is no class: expected 2 numbers, 0 to 1"):
        splits.train.at(0)


def test_sbd_trains_too_but_for_the_dev_images(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc")
    sbd = write_sbd(tmp_path / "sbd", ["2007_val_000000", "2007_train_000000", "2008_000001"])
    splits = load_voc(root, "train", "val", sbd)
    stems = [pair.image.stem for pair in splits.train.pairs]
    assert stems == [*(f"2007_train_{i:06d}" for i in range(3)), "2008_000001", "2008_000999"]
    _, mask = splits.train.at(3)
    assert torch.equal(mask, torch.from_numpy(mask_of(2, [0, 3, 255])))


def test_masks_of_the_merged_set_fill_what_is_missing(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    source = root / "SegmentationClass" / "2007_train_000001.png"
    (root / "SegmentationClassAug").mkdir()
    shutil.move(source, root / "SegmentationClassAug" / source.name)
    assert load_voc(root, "train", "val", None).train.pairs[1].mask.parent.name == "SegmentationClassAug"


def test_a_damaged_file_of_sbd_is_named(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc")
    sbd = write_sbd(tmp_path / "sbd", ["2008_000001"])
    (sbd / "dataset" / "cls" / "2008_000001.mat").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"2008_000001\.mat is no mask of SBD"):
        load_voc(root, "train", "val", sbd).train.at(3)


@pytest.mark.parametrize("line", ["../JPEGImages/a", "/etc/passwd", "C:\\a"])
def test_a_list_never_leads_out_of_its_folder(line: str, tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=r"train\.txt, line 1: the file name .* leads out of"):
        load_voc(root, "train", "val", None)


def test_images_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    with pytest.raises(DataError, match=r"is 26x32 and .* 24x32 \(height, width\): set data\.size"):
        prepared(source="voc", root=str(root), batch_size=3)
    found = prepared(source="voc", root=str(root), batch_size=3, size=[32, 48], fit="pad")
    assert found.splits.train.images.shape == (3, 3, 32, 48)
    mask = found.splits.train.masks[1]
    assert torch.equal(mask[:26, :32], torch.from_numpy(mask_of(1, [0, 5, 20, 255], height=26)))
    assert set(mask[26:].unique().tolist()) == set(mask[:, 32:].unique().tolist()) == {255}


# Embedded


def test_roads_follow_from_seed_and_number() -> None:
    one, more = synthetic_road(3, 2, (48, 64), 0), synthetic_road(5, 2, (48, 64), 0)
    assert torch.equal(one.train.images, more.train.images[:3])
    assert torch.equal(one.train.masks, more.train.masks[:3])
    assert not torch.equal(one.train.images[:2], one.dev.images)
    assert not torch.equal(synthetic_road(3, 2, (48, 64), 1).train.images, one.train.images)


def test_roads_have_the_shape_of_roads() -> None:
    scenes = synthetic_road(40, 2, (96, 160), 3).train
    assert scenes.images.shape == (40, 3, 96, 160)
    assert set(scenes.masks.unique().tolist()) == {0, 1, 2}
    shares = [float((scenes.masks == i).float().mean()) for i in range(len(CLASSES))]
    assert 0.1 < shares[1] < 0.4
    assert 0.005 < shares[2] < 0.1
    road = (scenes.masks > 0).float()
    assert float(road[:, :20].sum()) == 0  # no road in the sky
    widths = road.sum(2).mean(0)
    assert float(widths[-1]) > 1.5 * float(widths[55]) > 0  # wider towards the camera


def test_digit_scenes_have_a_class_for_each_digit() -> None:
    found = prepared(source="digit_scenes", train_size=30, dev_size=4, scene_size=64, scene_digits=3).splits
    assert found.classes == ("background", *"0123456789")
    assert found.train.images.shape == (30, 3, 64, 64)
    assert set(range(11)) <= set(found.train.masks.unique().tolist()) <= {*range(11), 255}


# Settings


def test_sizes_are_drawn_with_the_seed(tmp_path: Path) -> None:
    root = str(write_camvid(tmp_path, train=8))
    one, two, other = (
        prepared(seed=s, source="camvid", root=root, train_size=4).splits.train.images for s in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_files_may_stay_on_the_disk(tmp_path: Path) -> None:
    root = str(write_camvid(tmp_path))
    kept, read = (prepared(source="camvid", root=root, size=[16, 24], cache=c).splits.train for c in (True, False))
    for i in range(4):
        assert all(torch.equal(a, b) for a, b in zip(kept.at(i), read.at(i), strict=True))


def test_statistics_are_those_of_the_training_images(tmp_path: Path) -> None:
    found = prepared(source="camvid", root=str(write_camvid(tmp_path)))
    pixels = found.splits.train.images.double() / 255
    assert found.normalize.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert found.normalize.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_size": 1}, "only 1 training image"),
        ({"train_size": 5, "dev_size": 2}, "5 training images in batches of 2 leave a last batch of one image"),
        ({"source": "camvid"}, "data.root must name the folder with train.txt"),
        ({"source": "camvid", "root": "/nowhere/at/all"}, "no data folder /nowhere/at/all"),
        ({"source": "voc", "root": "/nowhere/at/all"}, "/nowhere/at/all is no VOC tree"),
    ],
)
def test_data_that_cannot_be_trained_on(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepared(**settings)


def test_masks_without_a_pixel_that_counts(tmp_path: Path) -> None:
    root = write_camvid(tmp_path)
    for path in (root / "trainannot").iterdir():
        save_mask(path, np.full((24, 32), 11, np.uint8))
    with pytest.raises(DataError, match="every pixel of the training masks is ignored"):
        prepared(source="camvid", root=str(root))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": "x"}, "source 'synthetic_road' reads no files: drop root"),
        ({"source": "camvid", "sbd_root": "x"}, "sbd_root is for source 'voc'"),
        ({"size": [8, 100]}, "each at least 16"),
        ({"size": [32]}, "give height and width"),
        ({"crop": [32, 32]}, "crop belongs to augment 'scale_crop'"),
        ({"scales": [2.0, 0.5]}, "smallest and the largest factor"),
        ({"mean": [0.5, 0.5, 0.5]}, "give both of 'mean' and 'std'"),
        ({"mean": [0.5], "std": [0.5]}, "three numbers each"),
        ({"mean": [0.5] * 3, "std": [0.0] * 3}, "every number must be positive"),
        ({"fit": "pad"}, "needs a size to pad to"),
        ({"workers": 2}, "workers has no use"),
        ({"augment": "crop"}, "key 'augment' is 'crop'"),
    ],
)
def test_settings_that_do_not_fit_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        validated(SegmentationData, settings, "data", RecipeError)
