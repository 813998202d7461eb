"""Images and masks change together, and by (seed, epoch, image) alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.classification.augment import Normalize
from bnnapps.plugins.segmentation.augment import (
    FILL,
    image_rng,
    jittered,
    letterboxed,
    mirrored,
    padded,
    resized,
    scaled_crop,
)
from bnnapps.plugins.segmentation.config import SegmentationData
from bnnapps.plugins.segmentation.loader import Examples, SegmentationLoader
from bnnapps.plugins.segmentation.sets import ArraySet


def pair(height: int = 40, width: int = 60) -> tuple[Tensor, Tensor]:
    """An image whose first channel tells the class of each pixel: smooth enough to survive scaling."""
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[: height // 2, : width // 2], mask[height // 2 :, width // 3 :] = 1, 2
    image = torch.stack([mask * 100, torch.zeros_like(mask), torch.full_like(mask, 7)])
    return image, mask


def disagreement(image: Tensor, mask: Tensor) -> float:
    known = mask != 255
    return float(((image[0].float() / 100).round() != mask.float())[known].float().mean())


@pytest.mark.parametrize("size", [(20, 30), (80, 120), (33, 47)])
def test_both_come_to_a_size(size: tuple[int, int]) -> None:
    image, mask = resized(*pair(), size)
    assert image.shape == (3, *size)
    assert mask.shape == size
    assert set(mask.unique().tolist()) == {0, 1, 2}  # classes are never mixed
    assert disagreement(image, mask) < 0.06


def test_padding_is_ignored() -> None:
    image, mask = padded(*pair(20, 30), (32, 40))
    assert torch.equal(image[:, :20, :30], pair(20, 30)[0])
    assert image[:, -1, -1].tolist() == list(FILL)
    assert bool((mask[20:] == 255).all())
    assert bool((mask[:, 30:] == 255).all())
    assert padded(*pair(20, 30), (10, 30))[0].shape == (3, 20, 30)


@pytest.mark.parametrize(("size", "inner"), [((40, 60), (40, 60)), ((20, 60), (20, 30)), ((64, 30), (20, 30))])
def test_letterboxing_keeps_proportions(size: tuple[int, int], inner: tuple[int, int]) -> None:
    image, mask = letterboxed(*pair(), size)
    assert image.shape == (3, *size)
    assert int((mask != 255).sum()) == inner[0] * inner[1]


@pytest.mark.parametrize("scales", [(0.5, 2.0), (0.25, 0.25), (3.0, 3.0)])
def test_a_crop_takes_the_same_part_of_both(scales: tuple[float, float]) -> None:
    for index in range(12):
        image, mask = scaled_crop(image_rng(0, 0, index), *pair(), (32, 24), scales)
        assert image.shape == (3, 32, 24)
        assert mask.shape == (32, 24)
        assert disagreement(image, mask) < 0.15
    if scales == (0.25, 0.25):
        assert bool((mask == 255).any())


def test_factors_spread_over_octaves() -> None:
    sizes = []
    for index in range(400):
        _, mask = scaled_crop(image_rng(0, 0, index), *pair(), (200, 200), (0.5, 2.0))
        sizes.append(math.log2(int((mask != 255).any(1).sum()) / 40))
    assert min(sizes) > -1.05
    assert max(sizes) < 1.05
    assert abs(sum(sizes) / len(sizes)) < 0.1  # the mean of log2 s is that of an even spread


def test_mirroring_flips_both_for_half_of_the_images() -> None:
    image, mask = pair()
    flipped = 0
    for index in range(200):
        one, other = mirrored(image_rng(0, 0, index), image, mask)
        turned = torch.equal(one, image.flip(-1)) and torch.equal(other, mask.flip(-1))
        assert turned or (torch.equal(one, image) and torch.equal(other, mask))
        flipped += turned
    assert 70 < flipped < 130


def test_colours_change_within_their_bounds() -> None:
    grey = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    values = [int(jittered(image_rng(0, 0, i), grey, 0.2)[0, 0, 0]) for i in range(200)]
    assert 80 <= min(values) < 88
    assert 112 < max(values) <= 120


def examples(**settings: object) -> Examples:
    images = torch.stack([pair()[0] + i for i in range(6)])
    part = ArraySet(images, torch.stack([pair()[1]] * 6))
    found = SegmentationData(augment="scale_crop", color_jitter=0.2, size=[40, 60], **settings)  # type: ignore[arg-type]
    return Examples(part, found, (32, 32), seed=5)


def loader(seed: int = 5, **settings: object) -> SegmentationLoader:
    return SegmentationLoader(examples(**settings), Normalize([0.5] * 3, [0.5] * 3), 2, seed, shuffle=True)


def test_changes_follow_seed_epoch_and_image_alone() -> None:
    one, two = loader(), loader()
    one.set_epoch(3)
    expected = list(one)
    two.load_state_dict({"epoch": 3, "handed_out": 1})
    rest = list(two)
    assert len(rest) == 2
    assert all(torch.equal(a[k], b[k]) for a, b in zip(rest, expected[1:], strict=True) for k in ("images", "masks"))
    one.set_epoch(4)
    again = {tuple(b["images"].flatten().tolist()) for b in one}
    assert not again & {tuple(b["images"].flatten().tolist()) for b in expected}


def test_batches_have_the_form_that_the_module_takes() -> None:
    batch = next(iter(loader()))
    assert batch["images"].shape == (2, 3, 32, 32)
    assert batch["images"].dtype == torch.float32
    assert batch["masks"].shape == (2, 32, 32)
    assert batch["masks"].dtype == torch.int64


def test_processes_share_the_images_that_one_would_see() -> None:
    alone = loader()
    alone.set_epoch(1)
    expected = {tuple(x.flatten().tolist()) for b in alone for x in b["images"]}
    found = set()
    for rank in (0, 1):
        part = loader()
        part.shard(rank, 2)
        part.set_epoch(1)
        found |= {tuple(x.flatten().tolist()) for b in part for x in b["images"]}
    assert found == expected


def test_images_of_different_sizes_in_a_batch_are_an_error() -> None:
    made = examples()
    made.settings = None

    class Uneven:
        def __len__(self) -> int:
            return 2

        def at(self, index: int) -> tuple[Tensor, Tensor]:
            return pair(40 + index, 60)

    made.part = Uneven()  # type: ignore[assignment]
    batches = SegmentationLoader(made, Normalize([0.5] * 3, [0.5] * 3), 2, 0, shuffle=False)
    batches.batches.size = 2
    with pytest.raises(DataError, match="images of 40x60 and of 41x60"):
        list(batches)
