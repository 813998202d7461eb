"""Named feature taps: what chosen modules put out during one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bnnapps.errors import UsageError, nearest
from bnnapps.nn.layers.base import Parts
from bnnapps.nn.layers.hf_attention import BinaryHFSelfAttention, is_hf_attention, projections

INPUT = ":input"
"""Behind a module's name: tap what the module was first called with instead of what it puts out."""


class Taps:
    """Collects, while `model` runs, what some of its modules put out.

    Each tap has a name and lists modules by their dotted names. After a forward pass `features[tap]` holds one tensor
    for each module, in the order of the list, with gradients; a module that ran several times (shared layers) gives
    one tensor for each run. Where a module puts out a tuple, its first element counts. `name:input` taps the first
    argument of a module's first run.

    Every forward pass of `model` starts afresh, so nothing of an earlier batch stays behind; modules that run outside
    of one (a recomputation in the backward pass) are not collected. A copy or a pickle of the model carries no taps;
    a copy of the taps begins unattached and empty.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        >>> with Taps(model, {"before": ["0"], "all": ["0:input", "1"]}) as taps:
        ...     output = model(torch.ones(2, 4))
        >>> [tuple(t.shape) for t in taps.features["all"]]
        [(2, 4), (2, 3)]

    Args:
        model: the module whose forward passes are watched.
        taps: names of modules, by the name of the tap.

    Raises:
        UsageError: the model has no module of that name; the nearest are given.

    """

    def __init__(self, model: nn.Module, taps: Mapping[str, Sequence[str]]) -> None:
        modules = dict(model.named_modules(remove_duplicate=False))
        for tap, names in taps.items():
            for name in names:
                if name.removesuffix(INPUT) not in modules:
                    raise UsageError(
                        f"tap '{tap}': the model has no module '{name.removesuffix(INPUT)}'; the nearest are "
                        f"{nearest(name.removesuffix(INPUT), filter(None, modules))}"
                    )
        self.names = {tap: tuple(names) for tap, names in taps.items()}
        self._model = model
        self._modules = {n: modules[n.removesuffix(INPUT)] for names in self.names.values() for n in names}
        self._collected: dict[str, list[Tensor]] = {}
        self._running = False
        self._handles: list[RemovableHandle] = []

    def attach(self) -> Taps:
        """Begin to watch; a second call changes nothing."""
        if not self._handles:
            self._handles = [self._model.register_forward_pre_hook(_Hook(self._start))]
            for name, module in self._modules.items():
                hook = _Hook(self._collect, name)
                if name.endswith(INPUT):
                    self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
                else:
                    self._handles.append(module.register_forward_hook(hook))
            self._handles.append(self._model.register_forward_hook(_Hook(self._stop), always_call=True))
        return self

    def remove(self) -> None:
        """Stop watching; what was collected stays until `clear`."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._running = False

    def clear(self) -> None:
        """Let go of what was collected."""
        self._collected = {}

    @property
    def features(self) -> dict[str, list[Tensor]]:
        """The tensors of the last forward pass, by tap.

        Raises:
            UsageError: a module of a tap did not run in it.

        """
        for tap, names in self.names.items():
            idle = next((n for n in names if n not in self._collected), None)
            if idle is not None:
                raise UsageError(f"tap '{tap}': the module '{idle}' did not run in the last forward pass")
        return {tap: [t for n in names for t in self._collected[n]] for tap, names in self.names.items()}

    def __getstate__(self) -> dict[str, Any]:
        """A copy watches nothing until it is attached, and holds no tensors."""
        return {**self.__dict__, "_collected": {}, "_running": False, "_handles": []}

    def __enter__(self) -> Taps:
        return self.attach()

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def _start(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        self.clear()
        self._running = True

    def _stop(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._running = False

    def _collect(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._running:
            return
        if not name.endswith(INPUT):
            self._collected.setdefault(name, []).append(_first_tensor(output, name))
        elif name not in self._collected:
            # Called as (module, args, kwargs): the first argument, by position or by keyword.
            self._collected[name] = [_first_tensor(args if args else output, name)]


class _Hook:
    """A hook that stays behind when its module is copied or pickled."""

    def __init__(self, function: Any, *first: Any) -> None:
        self._function = function
        self._first = first

    def __call__(self, *args: Any) -> Any:
        return self._function(*self._first, *args)

    def __reduce__(self) -> Any:
        return _Hook, (_nothing,)


def _nothing(*args: Any) -> None:
    return None


def _first_tensor(value: Any, name: str) -> Tensor:
    while not isinstance(value, Tensor):
        if isinstance(value, Mapping) and value:
            value = next(iter(value.values()))
        elif isinstance(value, Sequence) and not isinstance(value, str) and value:
            value = value[0]
        else:
            raise UsageError(f"the module '{name}' gives a {type(value).__name__}, which holds no tensor to tap")
    return value


def hugging_face_taps(model: nn.Module) -> dict[str, list[str]]:
    """The taps of a Hugging Face encoder, for `Taps`.

    * `hidden`: what enters the first layer (the embedding output), and the output of every layer: the tensors that
      `output_hidden_states=True` gives (where a model normalises once more after its last layer, transformers may
      give that for the last one).
    * `query`, `key`, `value`: the projections of every layer's self-attention, before any binarization; left out
      where a model computes them as one.
    * `scores`: query times key, scaled, as a binarized attention computes it from binary operands; only there.

    Raises:
        UsageError: no stack of layers with attention was found, or several (an encoder and a decoder).

    """
    attentions = [n for n, m in model.named_modules() if _is_attention(m)]
    stacks = {name: _layer_of(model, name) for name in attentions}
    lists = sorted({layer.rpartition(".")[0] for layer in stacks.values() if layer is not None})
    kind = type(model).__name__
    if not lists:
        raise UsageError(f"{kind} has no stack of layers with self-attention that could be tapped: name the modules")
    if len(lists) > 1:
        shown = ", ".join(f"'{n}'" for n in lists)
        raise UsageError(f"{kind} has several stacks of layers ({shown}): take one of them, or name the modules")
    stack = model.get_submodule(lists[0])
    layers = [f"{lists[0]}.{name}" for name, _ in stack.named_children()]
    taps = {"hidden": [layers[0] + INPUT, *layers]}
    inside = [name for name, layer in stacks.items() if layer is not None]
    found = [_projections(model.get_submodule(name)) for name in inside]
    if all(names is not None for names in found):
        for i, tap in enumerate(("query", "key", "value")):
            taps[tap] = [f"{name}.{names[i]}" for name, names in zip(inside, found, strict=True) if names]
    scores = [f"{name}.binary.scores" for name in inside]
    modules = dict(model.named_modules())
    if all(name in modules for name in scores):
        taps["scores"] = scores
    return taps


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, BinaryHFSelfAttention) or is_hf_attention(module) or _projections(module) is not None


def _projections(module: nn.Module) -> tuple[str, str, str] | None:
    if isinstance(module, Parts):  # binarizers carry the names of what they binarize
        return None
    children = {name for name, _ in module.named_children()}
    others = ("query_proj", "key_proj", "value_proj")  # DeBERTa, whose attention is not transformers' common one
    return others if children.issuperset(others) else projections(module)


def _layer_of(model: nn.Module, name: str) -> str | None:
    """The name of the layer that the module is part of: the member of the outermost list that it stands in."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        if isinstance(model.get_submodule(".".join(parts[:i])), nn.ModuleList):
            return ".".join(parts[: i + 1])
    return None
