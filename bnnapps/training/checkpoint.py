"""Checkpoints: written whole or not at all, read without running code, and never without their plan."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import torch
from torch import nn

from bnnapps.binarize import Plan, apply_plan, is_binarized, plan_of, restore
from bnnapps.errors import BinarizeError, CheckpointError

FORMAT = 1


def save_file(data: dict[str, Any], path: str | Path) -> None:
    """Write tensors and plain data to a file, whole or not at all.

    Raises:
        CheckpointError: the disk is full, or the file system refuses; an earlier file of that name still stands.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as problem:  # torch's writer turns a full disk into a RuntimeError
        _remove(temporary)
        reason = _reason(problem)
        kept = "; the earlier checkpoint is intact" if path.exists() else ""
        raise CheckpointError(f"could not write the checkpoint {path}: {reason}{kept}") from None


def _reason(problem: BaseException) -> str:
    """What the system said; torch's writer hides it behind a RuntimeError of its own about the file's position."""
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror is not None:
            return cause.strerror
        cause = cause.__context__
    return str(problem).splitlines()[0]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # what is left is a partial file under its own name, which nothing reads


def load_file(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what `save_file` (or Lightning) wrote. Nothing but tensors and plain data is ever loaded.

    Raises:
        CheckpointError: the file is missing, truncated, damaged, or holds anything that would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    if not is_zipfile(path):
        raise CheckpointError(f"{path} is no checkpoint, or a truncated one: it is not a zip archive of torch.save")
    try:
        data = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as problem:
        first = str(problem).replace("WeightsUnpickler error: ", "")
        reason = next((line.strip() for line in first.splitlines() if "Unsupported" in line or "GLOBAL" in line), "")
        refusal = (
            f"{path} holds more than tensors and plain data, so it is refused (loading it could run code). {reason}"
        )
        raise CheckpointError(refusal.strip()) from None
    except (RuntimeError, EOFError, BadZipFile, KeyError, ValueError, OSError) as problem:
        raise CheckpointError(f"{path} is damaged: {str(problem).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a {type(data).__name__}; expected the mapping that bnnapps writes")
    return data


def save_model(model: nn.Module, path: str | Path, **extra: Any) -> None:
    """Write a model's state and the plan that made it binary. `extra`: further plain data."""
    plan = plan_of(model).to_dict() if is_binarized(model) else None
    save_file({"format": FORMAT, "plan": plan, "state_dict": model.state_dict(), **extra}, path)


def load_model(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Bring a float model to the state of a checkpoint: apply its plan strictly, then load every tensor.

    Returns what else the checkpoint holds. The model is changed only if everything fits.

    Raises:
        CheckpointError: the file cannot be read, or belongs to another model.
    """
    data = load_file(path)
    missing = [key for key in ("format", "plan", "state_dict") if key not in data]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of bnnapps: it has no {', '.join(missing)}")
    if data["format"] > FORMAT:
        raise CheckpointError(f"{path} has format {data['format']}, this bnnapps reads up to {FORMAT}: update bnnapps")
    state = data["state_dict"]
    _check_tensors(model.state_dict(), state, f"{path} does not fit this model", complete=data["plan"] is None)
    if data["plan"] is not None:
        try:
            apply_plan(model, Plan.from_dict(data["plan"]))
        except BinarizeError as problem:
            raise CheckpointError(f"{path} does not fit this model: {problem}") from None
        try:
            _check_tensors(model.state_dict(), state, f"{path} does not fit its own plan", complete=True)
        except CheckpointError:
            restore(model)
            raise
    model.load_state_dict(state)
    return {k: v for k, v in data.items() if k not in ("format", "plan", "state_dict")}


def _check_tensors(expected: dict[str, Any], state: dict[str, Any], where: str, complete: bool) -> None:
    """Raise `CheckpointError` unless `state` has every expected tensor with its shape (and, if complete, no other)."""
    for name, tensor in expected.items():
        if name not in state:
            raise CheckpointError(f"{where}: it has no tensor '{name}'")
        if state[name].shape != tensor.shape:
            shapes = f"{tuple(state[name].shape)} there and {tuple(tensor.shape)} here"
            raise CheckpointError(f"{where}: '{name}' is {shapes}")
    unknown = [name for name in state if name not in expected]
    if complete and unknown:
        raise CheckpointError(f"{where}: it has the tensor '{unknown[0]}', which is not expected")
