from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}
        self.given: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                reference = StorageWeakRef(leaf.untyped_storage())
                if reference.cdata not in self.made:
                    self.given[reference.cdata] = reference
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                reference = StorageWeakRef(storage)
                if reference.cdata not in self.given:
                    self.made[reference.cdata] = reference, storage.nbytes()
        return result


def kept_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes made inside `forward` that stay allocated for its backward pass, its result left out."""
    with _Watch() as watch:
        result = forward()
    own = StorageWeakRef(result.untyped_storage()).cdata
    return sum(size for key, (reference, size) in watch.made.items() if key != own and not reference.expired())
