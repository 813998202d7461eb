"""What autograd keeps of a forward pass for the backward pass, layer by layer."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch._C._autograd import _get_sequence_nr
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from bnnapps.profile.owners import owners


def kept_for_backward(model: nn.Module, forward: Callable[[], Tensor]) -> dict[str, int]:
    """Bytes that stay allocated between the forward and the backward pass, by the name of the layer.

    `forward` runs the model (in the mode that it is in) and returns the loss. Every storage that the forward pass
    allocated and that is still alive when only the loss is held counts, once, with all its bytes. Parameters, buffers
    and the batch were there before, so they do not count.

    A storage is charged to the layer whose operator saved it: the input of a float linear layer to that layer,
    although the layer before made it; to the first one in forward order, where several did. What no operator of the
    graph names (bits, which stand for a tensor) is charged to the layer that made it. Layers are the innermost modules
    at work, parts of a binary layer counted with it; "" is the model itself, or what ran outside of it.

    Raises:
        ValueError: the loss has no gradient.

    """
    ledger = _Ledger(owners(model))
    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(ledger.enter, prepend=True))
        handles.append(module.register_forward_hook(ledger.leave, always_call=True))
    try:
        with ledger:
            loss = forward()
    finally:
        for handle in handles:
            handle.remove()
    if loss.grad_fn is None:
        raise ValueError(
            "the loss has no gradient, so nothing is kept: train mode, gradients on, parameters not frozen?"
        )
    names = {module: name for name, module in model.named_modules()}
    kept: dict[str, int] = {}
    for owner, size in ledger.charged(loss):
        name = "" if owner is None else names[owner]
        kept[name] = kept.get(name, 0) + size
    return kept


class _Ledger(TorchDispatchMode):
    def __init__(self, owner: dict[nn.Module, nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._owner = owner
        self._stack: list[nn.Module] = []
        self._made: dict[int, tuple[StorageWeakRef, int, nn.Module | None]] = {}
        # From which autograd sequence number on which module was at work.
        self._since: list[int] = [0]
        self._at_work: list[nn.Module | None] = [None]

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._stack.append(self._owner[module])
        self._switch()

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._stack.pop()
        self._switch()

    def _switch(self) -> None:
        self._since.append(_get_sequence_nr())
        self._at_work.append(self._stack[-1] if self._stack else None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(t) for t in _tensors((args, kwargs or {}))}
        old = {_key(t) for t in _tensors((args, kwargs or {}))}
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            if id(tensor) not in before and _key(tensor) not in old:
                self._note(tensor)
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._made[_key(tensor)] = StorageWeakRef(storage), storage.nbytes(), self._at_work[-1]

    def charged(self, loss: Tensor) -> Iterator[tuple[nn.Module | None, int]]:
        """Each storage that is alive, beside the loss itself: the module that it is charged to, and its bytes."""
        savers: dict[int, int] = {}
        for node in _nodes(loss):
            number = node._sequence_nr()
            for tensor in _saved_by(node):
                key = _key(tensor)
                savers[key] = min(number, savers.get(key, number))
        for key, (reference, size, maker) in self._made.items():
            if reference.expired() or key == _key(loss):
                continue
            if key in savers:
                maker = self._at_work[bisect.bisect_right(self._since, savers[key]) - 1]
            yield maker, size


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _nodes(loss: Tensor) -> Iterator[Any]:
    """Every node of the graph behind `loss`."""
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(following for following, _ in node.next_functions)


def _saved_by(node: Any) -> Iterator[Tensor]:
    """The tensors that an operator saved; of tensors kept as bits, copies."""
    yield from _tensors(getattr(node, "saved_tensors", ()))
    for name in dir(node):
        if name.startswith("_saved_"):
            yield from _tensors(getattr(node, name))
