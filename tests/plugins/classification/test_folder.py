from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from image_files import write_folder
from PIL import Image

from bnnapps.errors import DataError
from bnnapps.plugins.classification.config import ImageData
from bnnapps.plugins.classification.data import prepare_images
from bnnapps.plugins.classification.folder import Lighting, decode, evaluation_transform, load_folder
from bnnapps.plugins.classification.loader import image_loader


def data_of(root: Path, **more) -> ImageData:
    return ImageData(
        **{"source": "folder", "root": str(root), "size": 16, "batch_size": 4, "eval_batch_size": 3} | more
    )


def loader_of(root: Path, train: bool = True, seed: int = 1, **more):
    settings = data_of(root, **more)
    data = prepare_images(settings, seed)
    part = data.splits.train if train else data.splits.dev
    return image_loader(part, settings, data.normalize, data.size, seed, data.broken, train), data


def test_classes_are_the_sorted_folders_and_hidden_files_are_left_out(tmp_path):
    root = write_folder(tmp_path / "set")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "apple" / "._0.jpeg").write_bytes(b"resource fork")
    (root / "train" / "apple" / "notes.txt").write_text("no image")
    splits = load_folder(root)
    assert splits.classes == ("apple", "bear", "cat")
    assert [p.name for p in splits.train.paths] == ["0.jpeg", "1.jpeg", "2.jpeg", "3.jpeg"] * 3
    assert splits.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert splits.dev.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_evaluation_cuts_out_the_middle_at_the_published_ratio():
    image = Image.new("RGB", (448, 256))
    image.paste((255, 0, 0), (112, 16, 336, 240))  # exactly the middle 224 x 224 at 256 high
    found = evaluation_transform(224)(image)
    assert found.shape == (3, 224, 224)
    assert bool((found[0] == 255).all())
    assert not bool(found[1:].any())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: [p.unlink() for p in (r / "train" / "bear").iterdir()], r"train/bear has no images"),
        (lambda r: (r / "val").rename(r / "other"), r"no folder 'val' in"),
        (lambda r: (r / "train").rename(r / "other"), r"no folder 'train' in"),
        (lambda r: (r / "val" / "cat").rename(r / "val" / "dog"), r"has the class 'dog', which .*train does not have"),
    ],
)
def test_a_folder_of_another_layout_is_refused(tmp_path, spoil, message):
    root = write_folder(tmp_path / "set")
    spoil(root)
    with pytest.raises(DataError, match=message) as caught:
        load_folder(root)
    assert "\n" not in str(caught.value)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(DataError, match=r"no data folder .*nothing"):
        load_folder(tmp_path / "nothing")
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"train has no folders"):
        load_folder(tmp_path)


@pytest.mark.parametrize("augment", ["none", "crop", "flip_crop", "imagenet"])
@pytest.mark.parametrize("workers", [0, 2])
def test_images_follow_from_seed_and_epoch_whoever_decodes_them(tmp_path, augment, workers):
    root = write_folder(tmp_path / "set")
    more = {"lighting": 0.1, "color_jitter": 0.4} if augment == "imagenet" else {}
    loader, _ = loader_of(root, augment=augment, **more)
    other, _ = loader_of(root, augment=augment, workers=workers, **more)
    epochs = []
    for epoch in (0, 1):
        for each in (loader, other):
            each.set_epoch(epoch)
        torch.manual_seed(epoch)  # the global state plays no part
        batches = list(loader)
        after = torch.rand(1)
        torch.manual_seed(epoch)
        assert torch.equal(after, torch.rand(1))  # and is left as it was
        assert all(
            torch.equal(a["images"], b["images"]) and torch.equal(a["labels"], b["labels"])
            for a, b in zip(batches, other, strict=True)
        )
        order = torch.cat([b["images"] for b in batches]).flatten(1).sum(1).sort().values
        epochs.append(order)
    assert bool(torch.equal(*epochs)) == (augment == "none")


def test_a_loader_that_goes_on_gives_the_rest_of_the_epoch(tmp_path):
    root = write_folder(tmp_path / "set")
    whole, _ = loader_of(root, augment="imagenet")
    whole.set_epoch(3)
    expected = list(whole)
    rest, _ = loader_of(root, augment="imagenet")
    rest.load_state_dict({"epoch": 3, "handed_out": 1})
    found = list(rest)
    assert len(found) == len(expected) - 1
    assert all(torch.equal(a["images"], b["images"]) for a, b in zip(found, expected[1:], strict=True))


def spoil_image(root: Path, name: str = "train/bear/1.jpeg") -> Path:
    path = root / name
    path.write_bytes(path.read_bytes()[:200])
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, workers):
    root = write_folder(tmp_path / "set")
    path = spoil_image(root)
    loader, _ = loader_of(root, workers=workers)
    with pytest.raises(DataError, match=r"set data\.skip_broken to true") as caught:
        list(loader)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_run_goes_on_without_it_if_the_recipe_says_so(tmp_path, workers):
    root = write_folder(tmp_path / "set")
    path, gone = spoil_image(root), spoil_image(root, "train/cat/0.jpeg")
    gone.write_bytes(b"no image at all")
    loader, data = loader_of(root, skip_broken=True, workers=workers)
    with pytest.warns(UserWarning, match="cannot be decoded") as noted:
        batches = list(loader)
    assert len(noted) == 2
    assert torch.cat([b["labels"] for b in batches]).bincount().tolist() == [4, 3, 3]
    assert sum(len(b["images"]) for b in batches) == 10
    assert set(data.broken) == {path, gone}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(loader)) == len(batches)  # named once


def test_a_batch_of_nothing_but_broken_images_is_an_error(tmp_path):
    root = write_folder(tmp_path / "set")
    for name in ("0", "1"):
        spoil_image(root, f"val/apple/{name}.jpeg")
    loader, _ = loader_of(root, train=False, skip_broken=True, eval_batch_size=2)
    with (
        pytest.warns(UserWarning, match="cannot be decoded"),
        pytest.raises(DataError, match="none of the 2 images of a batch can be decoded"),
    ):
        list(loader)


def test_a_cached_folder_is_decoded_once_and_changed_in_memory(tmp_path):
    root = write_folder(tmp_path / "set")
    loader, data = loader_of(root, cache=True, augment="flip_crop", padding=2)
    assert data.splits.train.images.shape == (12, 3, 16, 16)
    expected = evaluation_transform(16)(decode(root / "train" / "apple" / "0.jpeg"))
    assert torch.equal(data.splits.train.images[0], expected)
    assert next(iter(loader))["images"].shape == (4, 3, 16, 16)
    spoil_image(root)
    with pytest.raises(DataError, match=r"train/bear/1.jpeg cannot be decoded"):
        loader_of(root, cache=True)
    _, data = loader_of(root, cache=True, skip_broken=True)
    assert len(data.splits.train) == 11
    assert [p.name for p in data.broken] == ["1.jpeg"]


def test_lighting_moves_every_pixel_along_the_principal_colours():
    torch.manual_seed(0)
    image = torch.full((3, 4, 4), 128, dtype=torch.uint8)
    shifts = torch.stack([Lighting(1.0)(image)[:, 0, 0].double() - 128 for _ in range(4000)]) / 255
    values, vectors = torch.linalg.eigh(shifts.T.cov())
    assert torch.allclose(values.flip(0).sqrt()[:2], Lighting._VALUES[:2].double(), rtol=0.08)
    cosine = (vectors[:, -1] * Lighting._VECTORS[:, 0].double()).sum().abs()
    assert float(cosine) > 0.999
    assert torch.equal(Lighting(0.0)(image), image)
