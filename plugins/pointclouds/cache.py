"""Arrays that are made once, kept in a folder, and mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnnapps.errors import DataError

FOLDER = ".bnnapps_cache"
_VERSION = 1


def files_key(files: Sequence[Path], **settings: Any) -> str:
    """A name for what is made of these files with these settings; another one when a file changes.

    Raises:
        DataError: a file is not there.
    """
    record: list[Any] = [_VERSION, sorted(settings.items())]
    for path in files:
        try:
            facts = path.stat()
        except OSError as problem:
            raise DataError(f"{path} cannot be read: {problem.strerror}") from None
        record.append([str(path), facts.st_size, facts.st_mtime_ns])
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:20]


def cached_array(
    folder: Path, name: str, shape: tuple[int, ...], fill: Callable[[NDArray[np.float32]], None]
) -> NDArray[np.float32]:
    """The float32 array of that name in the folder; made by `fill`, which writes into it, where it is not there yet.

    It appears whole or not at all, and several processes may ask for it at once.

    Raises:
        DataError: the folder cannot be written.
    """
    path = folder / f"{name}.npy"
    found = _opened(path, shape)
    if found is not None:
        return found
    partial = folder / f"{name}.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        open_array: Any = np.lib.format.open_memmap  # not typed
        made: Any = open_array(partial, mode="w+", dtype=np.float32, shape=shape)
        fill(made)
        made.flush()
        del made
        partial.replace(path)
    except OSError as problem:
        raise DataError(f"{folder} cannot be written ({problem.strerror}): set data.cache to another folder") from None
    finally:
        partial.unlink(missing_ok=True)
    found = _opened(path, shape)
    assert found is not None
    return found


def _opened(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # damaged, such as by a full disk
        return None
    return found if found.shape == shape and found.dtype == np.float32 else None
