"""Parents that read the weight of a child and never call it: a binary twin of the child would do nothing.

Seen in the code of the parent: its forward, or a method that its forward uses, says `self.child.weight`, and none of
them uses `self.child` otherwise. Questions about the weight (`.dtype`, `.shape` ...) are no reading.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

from torch import nn

_QUESTIONS = {"dtype", "device", "shape", "size", "ndim", "dim", "numel", "requires_grad", "is_cuda", "data_ptr"}


def readers(model: nn.Module) -> dict[int, str]:
    """The class that reads its weight, for every module (by `id`) whose parent does so."""
    found: dict[int, str] = {}
    for module in model.modules():
        kind: Any = type(module)
        for child in _read_children(kind):
            read = module._modules.get(child)
            if read is not None:
                found[id(read)] = type(module).__name__
    return found


@functools.cache
def _read_children(kind: Any) -> frozenset[str]:
    """The attributes `x` of which the forward of a class, or what it uses of its class, only reads `self.x.weight`."""
    codes, queue = {}, ["forward"]
    while queue:
        name = queue.pop()
        code = _code(kind, name)
        if name not in codes and code is not None:
            codes[name] = code
            queue += [n for n in code.co_names if n in _own(kind)]
    uses = [use for code in codes.values() for use in _uses(code)]
    return frozenset(child for child, read in uses if read) - {child for child, read in uses if not read}


@functools.cache
def _own(kind: Any) -> frozenset[str]:
    """The names that a class defines, or its parents up to those of PyTorch."""
    own = [k for k in kind.__mro__ if k.__module__.split(".")[0] != "torch"]
    return frozenset(name for k in own for name in vars(k) if not name.startswith("__"))


def _code(kind: Any, name: str) -> CodeType | None:
    """The code of a method or property, unless PyTorch wrote it (its fused paths are known, and turned off)."""
    method: Any = getattr(kind, name, None)
    method = method.fget if isinstance(method, property) else method
    method = inspect.unwrap(method) if callable(method) else None
    code = getattr(method, "__code__", None)
    if not isinstance(code, CodeType) or str(method.__module__).split(".")[0] == "torch":
        return None
    return code


def _uses(code: CodeType) -> Iterator[tuple[str, bool]]:
    """Each x of `self.x` in the code, with whether that is a reading of `self.x.weight`, or a use of x itself.

    Other attributes of x, and questions about its weight, are neither.
    """
    steps = [(s.opname, s.argval) for s in dis.get_instructions(code) if s.opname not in ("CACHE", "EXTENDED_ARG")]
    nothing = ("", None)
    for (_, owner), (load, child), (then, weight), (_, after) in zip(
        steps, steps[1:], [*steps[2:], nothing], [*steps[3:], nothing, nothing], strict=False
    ):
        if owner != "self" or not load.startswith(("LOAD_ATTR", "LOAD_METHOD")):
            continue
        if not then.startswith(("LOAD_ATTR", "LOAD_METHOD")):
            yield child, False
        elif weight == "weight" and after not in _QUESTIONS:
            yield child, True
    for constant in code.co_consts:  # what is defined inside: comprehensions, nested functions
        if isinstance(constant, CodeType):
            yield from _uses(constant)
