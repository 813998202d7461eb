"""Example inputs: their names, their dynamic axes, and further inputs of the same kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.forward import call_model

Tensors = dict[str, Tensor]

BATCH, SEQUENCE = "batch", "sequence"


@dataclass(frozen=True)
class Inputs:
    """What a model is called with.

    Attributes:
        tensors: the tensors by name, on the CPU; each becomes an input of the file.
        rebuild: puts tensors (in the same order) back into what the model is called with.
        batch: the size that all tensors share on axis 0, or `None`.
        sequence: the size that all 2-dimensional integer tensors of a mapping share on axis 1, or `None`.

    """

    tensors: Tensors
    rebuild: Callable[[Sequence[Tensor]], Any]
    batch: int | None
    sequence: int | None

    def call(self, model: nn.Module, tensors: Tensors) -> Any:
        """The model's output for the given tensors."""
        return call_model(model, self.rebuild([tensors[name] for name in self.tensors]))

    def axes(self, sequence: bool) -> dict[str, dict[int, str]]:
        """The names of the dynamic axes of each tensor: the batch, and, if asked for, the sequence."""
        return {
            name: ({0: BATCH} | ({1: SEQUENCE} if sequence and _is_text(tensor) else {})) if self.batch else {}
            for name, tensor in self.tensors.items()
        }

    def sample(self, batch: int, length: int | None = None, seed: int | None = None) -> Tensors:
        """Inputs with another batch size and sequence length, in the range of the example.

        Without a seed the rows of the example repeat. With one, floats are normal with the example's mean and spread,
        integers lie between the example's smallest and largest value, masks (0 and 1, named "...mask") keep a random
        number of first positions, and booleans are rows of the example.
        """
        random = None if seed is None else torch.Generator().manual_seed(seed)
        drawn: Tensors = {}
        for name, example in self.tensors.items():
            shape = list(example.shape)
            if self.batch:
                shape[0] = batch
            if length is not None and _is_text(example):
                shape[1] = length
            drawn[name] = _cut(example, shape) if random is None else _draw(name, example, shape, random)
        return drawn


def read_inputs(model: nn.Module, example_inputs: Any, dynamic_batch: bool) -> Inputs:
    """Names and tensors of `example_inputs`: a tensor, a tuple of positional arguments, or a dict of keyword arguments.

    Values that are no tensors (a flag, `None`) become constants of the file.

    Raises:
        UsageError: they hold no tensor, or a nested one.

    """
    if isinstance(example_inputs, Tensor):
        names, kind = _positional(model, 1), "tensor"
        values: list[Any] = [example_inputs]
    elif isinstance(example_inputs, Mapping):
        names, values, kind = [str(k) for k in example_inputs], list(example_inputs.values()), "mapping"
    elif isinstance(example_inputs, (tuple, list)):
        names, values, kind = _positional(model, len(example_inputs)), list(example_inputs), "tuple"
    else:
        raise UsageError(
            f"example_inputs is a {type(example_inputs).__name__}: pass a tensor, a tuple of positional arguments, or "
            "a dict of keyword arguments"
        )
    for name, value in zip(names, values, strict=True):
        if _holds_tensor(value):
            raise UsageError(
                f"example input '{name}' is a {type(value).__name__} of tensors: pass each tensor by itself"
            )
    tensors = {n: v.detach().cpu() for n, v in zip(names, values, strict=True) if isinstance(v, Tensor)}
    if not tensors:
        raise UsageError("example_inputs holds no tensor: a file needs at least one input")

    def rebuild(given: Sequence[Tensor]) -> Any:
        fresh = iter(given)
        full = [next(fresh) if isinstance(v, Tensor) else v for v in values]
        if kind == "tensor":
            return full[0]
        return dict(zip(names, full, strict=True)) if kind == "mapping" else tuple(full)

    sizes = {t.shape[0] if t.dim() else 0 for t in tensors.values()}
    batch = sizes.pop() if dynamic_batch and len(sizes) == 1 else None
    lengths = {t.shape[1] for t in tensors.values() if _is_text(t)} if kind == "mapping" else set()
    return Inputs(tensors, rebuild, batch if batch else None, lengths.pop() if len(lengths) == 1 else None)


def one_row(inputs: Inputs) -> Inputs:
    """The first row of the inputs, and no dynamic axes."""
    return replace(inputs, tensors=inputs.sample(1), batch=None, sequence=None)


def samples_of(inputs: Inputs, seed: int) -> tuple[Tensors, ...]:
    """What an export is checked with: the first rows of the example, then random inputs of other sizes."""
    if not inputs.batch:
        return (inputs.tensors, *(inputs.sample(0, seed=seed + i) for i in range(2)))
    length = inputs.sequence
    sizes = [(1, length), (3, None if length is None else length // 2 + 1)] + ([(1, 1)] if length else [])
    example = inputs.sample(min(inputs.batch, 2), length)
    return (example, *(inputs.sample(rows, positions, seed=seed + i) for i, (rows, positions) in enumerate(sizes)))


def of_one_length(inputs: Inputs, samples: Sequence[Tensors]) -> tuple[Tensors, ...]:
    """The samples whose sequences are as long as the example's."""
    return tuple(s for s in samples if all(t.shape[1:] == inputs.tensors[n].shape[1:] for n, t in s.items()))


@torch.no_grad()
def failing(model: nn.Module, inputs: Inputs, samples: Sequence[Tensors]) -> tuple[Tensors, str] | None:
    """The first sample that the model itself cannot compute, and what it says; `None` if it computes all of them."""
    for tensors in samples:
        try:
            inputs.call(model, tensors)
        except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as problem:
            reason = str(problem).strip().splitlines()
            return tensors, f"{type(problem).__name__}: {reason[0] if reason else ''}"
    return None


def shapes_of(tensors: Tensors) -> str:
    """The inputs and their shapes, for messages: "x (2, 3), y (2,)"."""
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())


def _positional(model: nn.Module, count: int) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = [n for n, p in inspect.signature(model.forward).parameters.items() if p.kind in kinds]
    return [known[i] if i < len(known) else f"input_{i}" for i in range(count)]


def _holds_tensor(value: object) -> bool:
    """Whether a value is a container of tensors."""
    inner = value.values() if isinstance(value, Mapping) else value
    return isinstance(inner, Iterable) and not isinstance(inner, Tensor) and any(isinstance(v, Tensor) for v in inner)


def _is_text(tensor: Tensor) -> bool:
    """Token numbers, segments, masks: (batch, sequence)."""
    return tensor.dim() == 2 and not tensor.is_floating_point() and not tensor.is_complex()


def _cut(example: Tensor, shape: list[int]) -> Tensor:
    for axis, size in enumerate(shape):
        repeats = -(-size // example.shape[axis]) if example.shape[axis] else 1
        example = (
            torch.cat([example] * repeats, dim=axis).narrow(axis, 0, size)
            if repeats != 1
            else example.narrow(axis, 0, size)
        )
    return example.contiguous()


def _draw(name: str, example: Tensor, shape: list[int], random: torch.Generator) -> Tensor:
    if example.is_floating_point() and example.numel() > 1:
        spread, mean = torch.std_mean(example)
        return torch.randn(shape, generator=random, dtype=example.dtype) * spread + mean
    if _is_text(example) and "mask" in name and bool(((example == 0) | (example == 1)).all()) and _starts_full(example):
        lengths = torch.randint(1, shape[1] + 1, (shape[0], 1), generator=random)
        return (torch.arange(shape[1]) < lengths).to(example.dtype)
    if example.dtype == torch.bool or not example.numel() or example.is_floating_point() or example.is_complex():
        return _cut(example, shape)
    low, high = int(example.min()), int(example.max())
    return torch.randint(low, high + 1, shape, generator=random, dtype=example.dtype)


def _starts_full(mask: Tensor) -> bool:
    """Whether every row is ones followed by zeros."""
    steps = mask.to(torch.int8).diff(dim=1)
    return bool((mask[:, :1] == 1).all()) and bool((steps <= 0).all())
