"""What stands in the way of an export, said before anything is traced."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from bnnapps.errors import ExportError
from bnnapps.export.graph.freeze import kind_of
from bnnapps.nn.layers import BinaryEmbedding, BinaryLayer

_WRAPPERS = {
    "DistributedDataParallel": "export `model.module`",
    "DataParallel": "export `model.module`",
    "FullyShardedDataParallel": "export a model that is not sharded",
    "FSDPModule": "export a model that is not sharded",
    "OptimizedModule": "export `model._orig_mod`",
    "ScriptModule": "export the Python model that it was made from",
}


def check_exportable(model: nn.Module) -> list[str]:
    """One line for each thing in the model that cannot be exported; an empty list means that nothing is known to be.

    Only the model is read: whether PyTorch's exporter knows every operator shows when the model is traced.
    """
    return [*_wrappers(model), *_dtypes(model), *_layers(model)]


def _wrappers(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        for kind in kinds & set(_WRAPPERS):
            yield f"{f'layer {name!r}' if name else 'the model'} is wrapped in {kind}: {_WRAPPERS[kind]}"


def _dtypes(model: nn.Module) -> Iterator[str]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    other = {t.dtype for _, t in tensors if t.is_floating_point() or t.is_complex()} - {torch.float32}
    for dtype in sorted(other, key=str):
        name = next(n for n, t in tensors if t.dtype == dtype)
        yield f"{name!r} is {dtype}: an exported file computes in float32, so call model.float() first"


def _layers(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer):
            try:
                kind_of(name, module)
            except ExportError as problem:
                yield str(problem)
        if isinstance(module, BinaryEmbedding) and module.max_norm is not None:
            yield f"layer '{name}' renormalizes its rows in use (max_norm): build it without max_norm"
