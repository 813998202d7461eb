"""Tables as text."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType


def terminal() -> Console:
    """A console for standard output; what goes into a file or a pipe gets wide lines."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def render(item: RenderableType, width: int = 120) -> str:
    """What rich would print, as plain text without colour."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(item)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip().splitlines())
