"""Time and memory of a training step of single layers: forward and backward pass, binary against float."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.bench.layers import NoSampleError, Sample, sample_of
from bnnapps.binarize import Rule, binarize, layer_types
from bnnapps.errors import BinarizeError, UsageError, nearest
from bnnapps.methods import get_method
from bnnapps.profile.memory import kept_for_backward


@dataclass(frozen=True)
class Figures:
    """One layer under one method.

    Attributes:
        method, layer, device: what was measured.
        seconds: median time of forward and backward pass, by "float" and "binary".
        kept_bytes: what stays allocated between them, by the same names (`bnnapps.profile.memory`).

    """

    method: str
    layer: str
    device: str
    seconds: dict[str, float]
    kept_bytes: dict[str, int]

    @property
    def time_ratio(self) -> float:
        """Binary time / float time."""
        return self.seconds["binary"] / self.seconds["float"]

    @property
    def kept_ratio(self) -> float | None:
        """Binary bytes / float bytes; `None` where the float layer keeps nothing."""
        return self.kept_bytes["binary"] / self.kept_bytes["float"] if self.kept_bytes["float"] else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "time_ratio": self.time_ratio, "kept_ratio": self.kept_ratio}


@dataclass(frozen=True)
class Skipped:
    """A pair that was not measured, and why."""

    method: str
    layer: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def choose(names: str, known: Sequence[str], what: str) -> list[str]:
    """The names in a list with commas, `all` for all of them.

    Raises:
        UsageError: an unknown name, or none at all.

    """
    chosen = [n.strip() for n in names.split(",") if n.strip()]
    if chosen == ["all"]:
        return list(known)
    if not chosen:
        raise UsageError(f"{what}: give names, or 'all'")
    for name in chosen:
        if name not in known:
            raise UsageError(f"{what}: unknown name '{name}'; the nearest are {nearest(name, known)}")
    return list(dict.fromkeys(chosen))


def device_of(name: str) -> torch.device:
    """The device called `cpu`, `cuda`, or `auto`: a GPU where there is one.

    Raises:
        UsageError: another name, or there is no GPU.

    """
    if name not in ("cpu", "cuda", "auto"):
        raise UsageError(f"--device: unknown device '{name}'; use 'cpu', 'cuda' or 'auto'")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UsageError("--device: 'cuda' was asked for, but PyTorch finds no GPU here; use 'cpu' or 'auto'")
    return torch.device("cuda" if found and name != "cpu" else "cpu")


def bench_training(
    methods: Sequence[str],
    layers: Sequence[str],
    device: torch.device,
    steps: int = 10,
    size: str = "small",
    begin: Callable[[str, str], None] = lambda method, layer: None,
) -> Iterator[Figures | Skipped]:
    """Measure each method on each kind of layer, one after the other.

    Args:
        methods: names, as in `bnnapps list methods`.
        layers: names, as in `bnnapps list layers`.
        device: where.
        steps: repetitions; float and binary take turns.
        size: "small" or "large".
        begin: called before each pair with the names of both.

    """
    for layer in layers:
        for method in methods:
            begin(method, layer)
            yield measure(method, layer, device, steps, size)


def measure(method: str, layer: str, device: torch.device, steps: int, size: str) -> Figures | Skipped:
    """One pair: the float layer, and its binary twin with the same weights, on the same batch."""
    slot = layer_types()[layer].slot
    if slot not in get_method(method).layers:
        return Skipped(method, layer, f"the method has no parts for the slot '{slot}'")
    torch.manual_seed(0)
    try:
        sample = sample_of(layer, size)
        twin = copy.deepcopy(sample.layer)
        binarize(nn.ModuleDict({"layer": twin}), [Rule(types=[layer], use=method)], keep_first=0, keep_last=0)
    except (NoSampleError, BinarizeError) as problem:
        return Skipped(method, layer, str(problem))
    inputs = tuple(t.detach().to(device).requires_grad_(t.requires_grad) for t in sample.inputs)
    subjects = {
        name: _Subject(Sample(module.to(device), inputs))
        for name, module in (("float", sample.layer), ("binary", twin))
    }
    for _ in range(2):  # learned scales take their start from the first batch, and memory pools fill
        for subject in subjects.values():
            subject.step()
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(steps):
        for name, subject in subjects.items():
            times[name].append(subject.step())
    return Figures(
        method=method,
        layer=layer,
        device=device.type,
        seconds={name: statistics.median(values) for name, values in times.items()},
        kept_bytes={name: subject.kept() for name, subject in subjects.items()},
    )


class _Subject:
    """One layer on its batch."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._holder = nn.ModuleDict({"layer": sample.layer})
        self._grad = torch.randn_like(self._forward(sample.inputs))

    def _forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The layer's output; of several, the first that has a gradient."""
        found = self._sample.layer(*inputs)
        return next(t for t in ([found] if isinstance(found, Tensor) else found) if t is not None and t.requires_grad)

    def step(self) -> float:
        """Seconds of forward and backward pass."""
        for tensor in (*self._sample.inputs, *self._sample.layer.parameters()):
            tensor.grad = None
        self._wait()
        start = time.perf_counter()
        self._forward(self._sample.inputs).backward(self._grad)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self._grad.device.type == "cuda":
            torch.cuda.synchronize(self._grad.device)

    def kept(self) -> int:
        """Bytes kept for the backward pass; the input counts where the layer saves it, as it would inside a model."""

        def forward() -> Tensor:
            return self._forward(tuple(t.clone() if t.requires_grad else t for t in self._sample.inputs))

        return sum(kept_for_backward(self._holder, forward).values())
