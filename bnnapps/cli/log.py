"""What a run prints, on the terminal and in its log."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from bnnapps.errors import CheckpointError


class LoggedConsole(Console):
    """A console that also appends what it prints, as plain text with the time, to a file."""

    def __init__(self, path: Path, quiet: bool, to_file: bool) -> None:
        super().__init__(quiet=quiet)
        self._path, self._to_file = path, to_file

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and append to the log."""
        super().print(*objects, **options)
        buffer = io.StringIO()
        Console(file=buffer, width=120, color_system=None).print(*objects, **options)
        text = buffer.getvalue().rstrip()
        if self._to_file and self._path.parent.is_dir():
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write("".join(f"{stamp}  {line}\n" for line in text.splitlines()))
            except OSError as problem:
                raise CheckpointError(f"could not write {self._path}: {problem.strerror}") from None


@contextmanager
def logged(path: Path, quiet: bool = False, to_file: bool = True) -> Iterator[Console]:
    """A console whose output also goes into the file, once the run folder exists."""
    yield LoggedConsole(path, quiet, to_file)
