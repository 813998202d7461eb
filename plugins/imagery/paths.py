"""File names from lists, XML and JSON, which must not lead out of their folder."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from bnnapps.errors import DataError

_DRIVE = re.compile(r"^[A-Za-z]:")


def inside(folder: Path, name: str, where: str) -> Path:
    """`folder / name`, if the name leads to a place below the folder.

    Backslashes count as separators, so that a file means the same on every system. Links on the disk are the user's own
    and are followed.

    Args:
        folder: where the file must lie.
        name: as the file `where` gives it.
        where: for the message: the file that holds the name, and the line or entry.

    Raises:
        DataError: the name is empty, absolute, has a drive, a NUL character or a part '..'.

    """
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    if not parts or "\0" in plain or plain.startswith("/") or _DRIVE.match(plain) or ".." in parts:
        raise DataError(
            f"{where}: the file name {_short(name)} leads out of {folder}: give names of files in that folder"
        )
    return folder.joinpath(*parts)


def _short(name: str, length: int = 80) -> str:
    return repr(name if len(name) <= length else name[:length] + "…")
