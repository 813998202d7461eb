"""An exported file in the place of the model that it was made from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.export.graph.inputs import read_inputs
from bnnapps.export.session import run


class ExportedModule(nn.Module):
    """A session that is called as the model was, and answers in the form of its outputs.

    Args:
        session: of ONNX Runtime.
        model: the model that the file was made from.
        example_inputs: what it was exported with.

    """

    def __init__(self, session: Any, model: nn.Module, example_inputs: Any) -> None:
        super().__init__()
        inputs = read_inputs(model, example_inputs, dynamic_batch=True)
        self.names = list(inputs.tensors)
        self.session = session
        with torch.no_grad():
            output = inputs.call(model, inputs.tensors)
        leaves, self.form = torch.utils._pytree.tree_flatten(output)
        self.places = [isinstance(leaf, Tensor) for leaf in leaves]

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of the file for the inputs of the model."""
        named = dict(zip(self.names, args, strict=False)) | kwargs
        tensors = {name: named[name].cpu() for name in self.names}
        found = iter(run(self.session, tensors, "ALL").values())
        leaves = [next(found) if place else None for place in self.places]
        return torch.utils._pytree.tree_unflatten(leaves, self.form)
