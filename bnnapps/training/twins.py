"""What a run folder holds to compare an exported file with."""

from __future__ import annotations

import importlib
import re
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


def form_of(file: Path) -> str:
    """The `ExportForm.suffix` of an exported file: `-4-layers` for `export/packed-8bit-4-layers/model.onnx`."""
    return re.sub(r"^[a-z]+(-8bit|-finn|-hls4ml)?", "", file.resolve().parent.name)


def portable_twin(folder: RunFolder, file: Path) -> Path | None:
    """The run's portable export of the same form, unless it is the file itself or does not exist."""
    path = folder.root / "export" / f"portable{form_of(file)}" / "model.onnx"
    return path if path.is_file() and path.resolve() != file.resolve() else None


def float_twin(folder: RunFolder, suffix: str = "") -> Path:
    """The run's network with all layers real again, as `bench/float.onnx`: made once, and anew for newer weights.

    `suffix` names one of the forms that the run is exported in.

    Its weights are the latent ones, so its outputs mean nothing; its latency is that of the float network.

    Raises:
        UsageError: the run's network is not binary, the run is not finished, or it has no such form.
        ExportError: the float network cannot be exported.

    """
    path = folder.root / "bench" / f"float{suffix}.onnx"
    if path.is_file() and folder.model.is_file() and path.stat().st_mtime >= folder.model.stat().st_mtime:
        return path
    task, model, _ = open_run(folder.root)
    if not is_binarized(model):
        raise UsageError("the run's network is a float one itself")
    form = task.export_form(restore(model), suffix)
    path.parent.mkdir(exist_ok=True)
    export = importlib.import_module("bnnapps.export").export
    export(form.model, form.inputs, path, dynamic_batch=task.recipe.export.dynamic_batch)
    return path
