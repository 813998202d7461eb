"""Lightning's checkpoints through the same safe reader and writer as everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import CheckpointIO

from bnnapps.training.checkpoint import load_file, save_file


class SafeCheckpointIO(CheckpointIO):
    """Writes whole files or none; reads tensors and plain data only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the checkpoint; an earlier one of that name stands until this one is whole."""
        save_file(_plain(checkpoint), Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read the checkpoint; anything that would run code is refused."""
        return load_file(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Mappings and sequences as plain dicts and lists, enumerations as their values; tensors as they are."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(inner) for inner in value) if type(value) in (list, tuple) else list(value)
    if isinstance(value, Path):
        return str(value)
    return value
