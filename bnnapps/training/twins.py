"""What a run folder holds to compare an exported file with."""

from __future__ import annotations

import importlib
from pathlib import Path

from bnnapps.binarize import is_binarized, restore
from bnnapps.errors import UsageError
from bnnapps.training.folder import RunFolder
from bnnapps.training.runner import open_run


def run_of(file: Path) -> RunFolder | None:
    """The run that an exported file belongs to: it lies in `RUN/export/<dialect>/`; `None` if it lies elsewhere."""
    parents = file.resolve().parents
    if len(parents) < 3 or parents[1].name != "export":
        return None
    folder = RunFolder(parents[2])
    return folder if folder.recipe.is_file() else None


def portable_twin(folder: RunFolder, file: Path) -> Path | None:
    """The run's portable export, unless it is the file itself or does not exist."""
    path = folder.root / "export" / "portable" / "model.onnx"
    return path if path.is_file() and path != file.resolve() else None


def float_twin(folder: RunFolder) -> Path:
    """The run's network with all layers real again, as `bench/float.onnx`: made once, and anew for newer weights.

    Its weights are the latent ones, so its outputs mean nothing; its latency is that of the float network.

    Raises:
        UsageError: the run's network is not binary, or the run is not finished.
        ExportError: the float network cannot be exported.

    """
    path = folder.root / "bench" / "float.onnx"
    if path.is_file() and folder.model.is_file() and path.stat().st_mtime >= folder.model.stat().st_mtime:
        return path
    task, model, _ = open_run(folder.root)
    if not is_binarized(model):
        raise UsageError("the run's network is a float one itself")
    path.parent.mkdir(exist_ok=True)
    export = importlib.import_module("bnnapps.export").export
    export(restore(model), task.example_inputs(), path, dynamic_batch=task.recipe.export.dynamic_batch)
    return path
