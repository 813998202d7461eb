"""Strict type checking over the package as it is installed: core, plugins and export under one name.

The folders `plugins/`, `export/` and `recipes/` are parts of `bnnapps`; mypy sees them so through a tree of
links. Exits with mypy's status.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "bnnapps"
        package.mkdir()
        for entry in (ROOT / "bnnapps").iterdir():
            if entry.name != "__pycache__":
                (package / entry.name).symlink_to(entry)
        for name in ("plugins", "export", "recipes"):
            (package / name).symlink_to(ROOT / name)
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
        command += ["--cache-dir", str(ROOT / ".mypy_cache"), "-p", "bnnapps"]
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
