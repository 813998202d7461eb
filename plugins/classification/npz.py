"""Images and labels from one npz file with `x_train`, `y_train`, `x_test` and `y_test`, as Keras distributes MNIST."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from bnnapps.errors import DataError
from bnnapps.plugins.classification.sets import Array, ArraySet, ImageSplits, check_splits

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: str | Path) -> ImageSplits:
    """The file's arrays: uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W), labels whole numbers (N,) or (N, 1).

    C is 1 or 3. `x_test` is the dev set. An array `classes` of text names the classes.

    Raises:
        DataError: the file is missing or damaged, or an array is missing or of another kind.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"no file {path}: data.root must name an npz file with {', '.join(_KEYS)}")
    arrays = _arrays(path)
    train = _part(path, arrays, "train")
    dev = _part(path, arrays, "test")
    splits = ImageSplits(train, dev, _classes(path, arrays, train.labels), f"{path.name} (from an npz file)")
    return check_splits(splits, str(path))


def _arrays(path: Path) -> dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is no npz archive: expected one with {', '.join(_KEYS)}")
        with loaded as archive:
            missing = [key for key in _KEYS if key not in archive.files]
            if missing:
                raise DataError(f"{path} has no array '{missing[0]}'; it has {', '.join(archive.files)}")
            return {key: archive[key] for key in (*_KEYS, "classes") if key in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile, KeyError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        if "allow_pickle" in reason:
            reason = "an array holds Python objects, which are refused (loading them could run code)"
        raise DataError(f"{path} cannot be read: {reason}") from None


def _part(path: Path, arrays: dict[str, Array], name: str) -> ArraySet:
    images = _images(path, f"x_{name}", arrays[f"x_{name}"])
    labels = arrays[f"y_{name}"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: 'y_{name}' is {labels.dtype} of shape {labels.shape}; expected whole numbers (N,)")
    if len(labels) != len(images):
        raise DataError(f"{path}: 'x_{name}' has {len(images)} images and 'y_{name}' {len(labels)} labels")
    return ArraySet(images, torch.from_numpy(labels.astype(np.int64)))


def _images(path: Path, key: str, array: Array) -> Tensor:
    """As (N, C, H, W)."""
    if array.dtype != np.uint8:
        raise DataError(f"{path}: '{key}' is {array.dtype}; expected uint8, grey values from 0 to 255")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim != 4 or (array.shape[1] in (1, 3)) == (array.shape[3] in (1, 3)):
        raise DataError(
            f"{path}: '{key}' has shape {array.shape}; expected (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3"
        )
    elif array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if 0 in array.shape:
        raise DataError(f"{path}: '{key}' is empty, of shape {array.shape}")
    return torch.from_numpy(np.ascontiguousarray(array))


def _classes(path: Path, arrays: dict[str, Array], labels: Tensor) -> tuple[str, ...]:
    if "classes" in arrays:
        names = arrays["classes"]
        if names.ndim != 1 or names.dtype.kind not in "US":
            raise DataError(f"{path}: 'classes' is {names.dtype} of shape {names.shape}; expected a list of names")
        return tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names.tolist())
    return tuple(str(i) for i in range(int(labels.max()) + 1))
