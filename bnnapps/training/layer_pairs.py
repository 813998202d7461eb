"""Runs of the layers of student and teacher, paired by name."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from bnnapps.losses.layerwise import LayerPair, LayerPass, can_be_compared


class LayerPairs:
    """Watches the binary layers of a student and their float twins in a teacher while both run.

        with LayerPairs(student, teacher) as watched:
            student(images), teacher(images)
        pairs = watched.pairs()

    Layers that run several times (over the levels of a pyramid) give a pair for each run. Runs whose outputs have
    other shapes are left out: layers behind region proposals see other regions in student and teacher.

    Args:
        student: with binary layers.
        teacher: of the same architecture; layers that it does not have by the same name and shape are left out.

    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        theirs = dict(teacher.named_modules())
        self._layers: dict[str, tuple[nn.Module, nn.Module]] = {}
        for name, layer in student.named_modules():
            own: Any = layer
            other: Any = theirs.get(name)
            if can_be_compared(layer) and getattr(getattr(other, "weight", None), "shape", None) == own.weight.shape:
                self._layers[name] = layer, other
        self._runs: dict[tuple[str, str], list[LayerPass]] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> LayerPairs:
        self._runs = {}
        for name, both in self._layers.items():
            for who, layer in zip(("student", "teacher"), both, strict=True):
                self._handles.append(layer.register_forward_hook(self._keep(who, name)))
        return self

    def __exit__(self, *exception: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _keep(self, who: str, name: str) -> Any:
        def keep(layer: nn.Module, args: Any, output: Any) -> None:
            self._runs.setdefault((who, name), []).append(LayerPass(layer, args[0], output))

        return keep

    def pairs(self) -> tuple[LayerPair, ...]:
        """The pairs of the last runs; they are let go of."""
        found = []
        for name in self._layers:
            own, other = self._runs.get(("student", name), []), self._runs.get(("teacher", name), [])
            if [r.output.shape for r in own] == [r.output.shape for r in other]:
                found += [LayerPair(name, s, t) for s, t in zip(own, other, strict=True)]
        self._runs = {}
        return tuple(found)
