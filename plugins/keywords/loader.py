"""Batches of sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bnnapps.plugins.classification.augment import uniform
from bnnapps.plugins.keywords.augment import DRAWS, Numbers, changed, hissing, silent
from bnnapps.plugins.keywords.clips import Clips
from bnnapps.plugins.keywords.config import SoundAugment, SoundData
from bnnapps.plugins.keywords.waves import Samples
from bnnapps.training.loader import EpochLoader

Batch = dict[str, Tensor]


class SoundExamples:
    """Clips that are read, and changed in training, when a batch asks for them.

    Args:
        clips: the clips.
        augment: how they are changed; `None`: not at all.
        noises: what is mixed in, and what silence is cut from.
        seed: of the changes.

    """

    def __init__(self, clips: Clips, augment: SoundAugment | None, noises: Sequence[Samples], seed: int) -> None:
        self.clips, self.augment, self.noises, self.seed = clips, augment, tuple(noises), seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        """A batch."""
        numbers = uniform(self.seed, self.epoch, np.asarray(indices), DRAWS)
        rows = [self._one(i, own) for i, own in zip(indices, numbers, strict=True)]
        return {"sound": torch.from_numpy(np.stack(rows)), "labels": torch.from_numpy(self.clips.labels[indices])}

    def _one(self, index: int, numbers: Numbers) -> Samples:
        if self.clips.is_silence(index):
            silence = silent(self.noises, self.clips.samples, numbers)
            return silence if self.augment is None else hissing(silence, self.augment, numbers)
        sound = self.clips.sound(index)
        if self.augment is None:
            return sound
        return changed(sound, self.augment, self.noises, self.clips.rate, numbers)


class SoundLoader(EpochLoader):
    """Batches `{"sound": (N, samples) float32 in [-1, 1], "labels": (N,)}`; changes follow (seed, epoch, clip)."""

    def __init__(self, examples: SoundExamples, batch_size: int, seed: int, shuffle: bool) -> None:
        super().__init__(examples, _same, batch_size, seed, shuffle=shuffle)  # type: ignore[arg-type]
        self.examples = examples

    def set_epoch(self, epoch: int) -> None:
        """Start the given epoch from its first batch."""
        super().set_epoch(epoch)
        if self.batches.shuffle:  # what is evaluated stays the same
            self.examples.epoch = epoch


def _same(batch: Batch) -> Batch:
    return batch


def sound_loader(clips: Clips, settings: SoundData, noises: Sequence[Samples], seed: int, train: bool) -> SoundLoader:
    """The loader of the training set (shuffled, changed) or of the dev set (in order, as it is)."""
    examples = SoundExamples(clips, settings.augment if train else None, noises, seed)
    size = settings.batch_size if train else settings.eval_batch_size
    return SoundLoader(examples, size, seed, shuffle=train)
