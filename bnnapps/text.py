"""Tables as text."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType


def render(item: RenderableType, width: int = 120) -> str:
    """What rich would print, as plain text without colour."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(item)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip().splitlines())
