"""The pictures of spoken digits as an npz file: what the dense keywords network of the FPGA flow sees.

Each recording of the Free Spoken Digit Dataset becomes the picture that the recipes for keywords take, 32 log-mel bands
by 32 frames of one second, as uint8: 127 is the median of each place over the training set, 64 steps are a deviation.
A network that takes the signs of (pixel - 127.5) thus hears 1 bit a place, high where it is louder than usual.

    python benchmarks/keyword_pictures.py shared/data/fsdd fsdd.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from bnnapps.plugins.keywords.features import Features, FeatureSettings
from bnnapps.plugins.keywords.fsdd import load_fsdd

SECOND = 16_000


@torch.no_grad()
def main() -> None:
    """Read, compute, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder with recordings/")
    parser.add_argument("out", type=Path, help="the npz file")
    options = parser.parse_args()
    spoken = load_fsdd(options.root, (), SECOND, SECOND, longest=10.0, keep=False)
    extract = Features(FeatureSettings())
    pictures = {}
    for name, clips in (("train", spoken.train), ("test", spoken.dev)):
        sound = torch.stack([torch.as_tensor(clips.sound(index)) for index in range(len(clips))])
        pictures[name] = torch.cat([extract(part) for part in sound.split(200)])
    middle = pictures["train"].median(dim=0).values
    spread = pictures["train"].std(dim=0).clamp(min=1e-3)
    images = {
        f"x_{name}": (127 + 64 * (each - middle) / spread).clamp(0, 255).floor().to(torch.uint8)[:, 0].numpy()
        for name, each in pictures.items()
    }
    np.savez_compressed(options.out, **images, y_train=spoken.train.labels, y_test=spoken.dev.labels)
    print(f"{options.out}: {len(images['x_train'])} and {len(images['x_test'])} pictures")


if __name__ == "__main__":
    main()
