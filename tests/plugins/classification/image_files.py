"""Small image sets on disk, in the layouts that people have."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RECORDS = 6


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def write_cifar10(root: Path, count: int = RECORDS, protocol: int = 2) -> dict[str, tuple[np.ndarray, list[int]]]:
    """cifar-10-batches-py below `root`; what was written, by file."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    written: dict[str, tuple[np.ndarray, list[int]]] = {}
    for i, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        images, labels = pixels(count, i), [(i + j) % 10 for j in range(count)]
        batch = {b"data": images.reshape(count, -1), b"labels": labels, b"batch_label": b"batch"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
        written[name] = images, labels
    meta = {b"label_names": [f"name{i}".encode() for i in range(10)], b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=protocol))
    return written


def write_cifar100(root: Path, binary: bool = False) -> dict[str, tuple[np.ndarray, list[int]]]:
    folder = root / ("cifar-100-binary" if binary else "cifar-100-python")
    folder.mkdir(parents=True)
    written = {}
    for name, count in (("train", 100), ("test", 5)):
        images, labels = pixels(count, count), [(7 * j) % 100 for j in range(count)]
        if binary:
            rows = [bytes([99, label]) + image.tobytes() for image, label in zip(images, labels, strict=True)]
            (folder / f"{name}.bin").write_bytes(b"".join(rows))
        else:
            batch = {b"data": images.reshape(count, -1), b"fine_labels": labels, b"coarse_labels": [99] * count}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        written[name] = images, labels
    return written


def write_cifar10_binary(root: Path, count: int = RECORDS) -> dict[str, tuple[np.ndarray, list[int]]]:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    written = {}
    for i, name in enumerate([*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]):
        images, labels = pixels(count, i), [(i + j) % 10 for j in range(count)]
        rows = [bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True)]
        (folder / name).write_bytes(b"".join(rows))
        written[name] = images, labels
    (folder / "batches.meta.txt").write_text("\n".join(f"name{i}" for i in range(10)) + "\n")
    return written


def write_npz(path: Path, **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (20, 12, 12), dtype=np.uint8),
        "y_train": np.arange(20) % 4,
        "x_test": rng.integers(0, 256, (8, 12, 12), dtype=np.uint8),
        "y_test": np.arange(8) % 4,
    }
    np.savez(path, **{k: v for k, v in {**arrays, **changes}.items() if v is not None})
    return path


def write_folder(root: Path, train: int = 4, dev: int = 2, size: tuple[int, int] = (40, 48)) -> Path:
    """Three classes, each of one colour with noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", dev)):
        for number, name in enumerate(("apple", "bear", "cat")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 80, (*size, 3), dtype=np.uint8)
                image[..., number] += 150
                Image.fromarray(image).save(folder / f"{i}.jpeg", quality=90)
    return root
