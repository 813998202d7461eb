"""The folder of a run: what lies where, written so that a kill at any moment loses nothing."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bnnapps.errors import CheckpointError, UsageError

PACKAGES = ("bnnapps", "torch", "pytorch-lightning", "transformers", "tokenizers", "onnx", "onnxruntime", "onnxscript")


class RunFolder:
    """Paths of a run.

    `recipe.yaml`, `environment.json`, `metrics.jsonl`, `log.txt`, `stages/<number>-<name>/`, `assets/` (what the task
    needs to build the model again), `model.ckpt`, `plan.json`, `summary.json`, `result.json`, `export/`,
    `bench/` (twins that exports are measured against), `report.html`.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.root / "recipe.yaml"

    @property
    def assets(self) -> Path:
        """What the task needs to build the model again."""
        return self.root / "assets"

    @property
    def model(self) -> Path:
        """The trained model, with its plan."""
        return self.root / "model.ckpt"

    def stage(self, number: int, name: str) -> Path:
        """The folder of a stage, numbered from 1."""
        return self.root / "stages" / f"{number}-{name}"

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run.

        Raises:
            UsageError: it is missing or damaged, so this is no finished run.
        """
        path = self.root / name
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise UsageError(
                f"{path} is missing: '{self.root}' is no finished run; go on with `bnnapps run --resume {self.root}`"
            ) from None
        except ValueError as problem:
            raise UsageError(f"{path} is damaged: {problem}") from None
        return found

    def write_json(self, name: str, data: Any) -> Path:
        """Write a JSON file, whole or not at all."""
        return write_text(self.root / name, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole or not at all.

    Raises:
        CheckpointError: the file system refuses; what stood there before still stands.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"could not write {path}: {problem.strerror}") from None
    return path


def environment(seed: int) -> dict[str, Any]:
    """What a run's figures depend on: versions, commit, seed, machine kind, command."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": seed,
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "commit": _commit(),
        "system": platform.system(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source tree that this package was imported from, marked if the tree was changed."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder.parent / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.machine()
