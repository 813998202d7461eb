"""Functions whose gradient is a mask: autograd keeps one bit an element of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnnapps.nn.functional.autograd import call
from bnnapps.nn.functional.bits import pack_bits, unpack


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = torch.relu(x)
        ctx.positive = pack_bits(torch.gt(result, 0, out=torch.empty_like(result)))
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return unpack(ctx.positive).mul_(grads[0])


def relu(x: Tensor) -> Tensor:
    """max(0, x) with dL/dx = 1{x > 0} dL/dy. Keeps one bit an element."""
    if not (torch.is_grad_enabled() and x.requires_grad) or torch.compiler.is_compiling():
        return torch.relu(x)
    return call(_Relu, x)


class _DropScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, probability: float) -> Tensor:
        lowest = torch.finfo(scores.dtype).min
        # Floats and a sum: filling by a mask of booleans is several times slower on a CPU.
        dropped = torch.empty_like(scores).bernoulli_(probability)
        result = torch.add(scores, dropped, alpha=lowest).clamp_(min=lowest)
        ctx.kept = pack_bits(dropped.neg_().add_(1))
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return unpack(ctx.kept).mul_(grads[0]), None


def drop_scores(scores: Tensor, probability: float) -> Tensor:
    """Scores of which each, with the given probability, becomes the lowest number. Nothing is rescaled.

    dL/dscores is dL/dy where the score stayed, else 0. Keeps one bit an element. The scores are finite, and small
    beside the lowest number (or that number itself, as a masked position is).
    """
    return call(_DropScores, scores, probability)


class _Dropout(torch.autograd.Function):
    """Keeps x (which the function before it, a softmax, keeps anyway), to make its result again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        keep = torch.empty_like(x).bernoulli_(1 - probability)
        ctx.kept, ctx.probability = pack_bits(keep), probability
        ctx.save_for_backward(x)
        return x * _share(keep, probability)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        return _share(unpack(ctx.kept), ctx.probability).mul_(grads[0]), None


def _share(keep: Tensor, probability: float) -> Tensor:
    return keep.div_(1 - probability) if probability < 1 else keep  # where all is dropped, 0 stays 0


def dropout(x: Tensor, probability: float) -> Tensor:
    """`torch.nn.functional.dropout` in training. Keeps one bit an element, and x: see `saved_as_made`."""
    return call(_Dropout, x, probability)


class saved_as_made(torch.autograd.graph.saved_tensors_hooks):  # noqa: N801 - used like a function
    """Inside this context autograd keeps, of a result of `dropout`, nothing: the backward pass makes it again.

    What it is made from is asked of the node of the graph that made it, so that gradient checkpointing, which
    computes that anew, does its part. Another tensor than a result of `dropout` is kept as it is.
    """

    def __init__(self, made: Tensor) -> None:
        of_dropout = type(made.grad_fn).__name__ == f"{_Dropout.__name__}Backward"
        self._made: Tensor | None = made if of_dropout else None
        super().__init__(self._pack, _make)

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        self._made = None  # what was saved holds on to this object: the float values must not outlive the context

    def _pack(self, tensor: Tensor) -> Any:
        made = self._made
        if made is None or tensor.data_ptr() != made.data_ptr():
            return tensor
        same = tensor.shape == made.shape and tensor.stride() == made.stride() and tensor.dtype == made.dtype
        return made.grad_fn if same else tensor


def _make(saved: Any) -> Tensor:
    if isinstance(saved, Tensor):
        return saved
    (x,) = saved.saved_tensors
    result: Tensor = x * _share(unpack(saved.kept), saved.probability)
    return result
