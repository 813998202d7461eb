"""The Lightning module of graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.losses import LossHub, LossInputs, Outputs
from bnnapps.plugins.graphs.losses import RECONSTRUCTION, STRUCTURES
from bnnapps.plugins.graphs.metrics import compute
from bnnapps.recipe.schema import ResolvedStage
from bnnapps.training.module import BinaryModule

_INPUTS = ("x", "edges", "batch", "pairs", "points")


def inputs_of(batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """What the network is called with."""
    return tuple(batch[key] for key in _INPUTS if key in batch)


def logits_of(network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """A row of logits for each label of the batch."""
    found: Tensor = network(*inputs_of(batch))
    return found[batch["rows"]] if "rows" in batch else found


class GraphModule(BinaryModule):
    """A network that learns classes of nodes, graphs or clouds, or which nodes are linked."""

    def __init__(
        self,
        model: nn.Module,
        stage: ResolvedStage,
        hub: LossHub,
        seed: int,
        teacher: nn.Module | None,
        links: bool,
    ) -> None:
        super().__init__(model, stage, hub, seed, teacher)
        self.links = links

    def loss_inputs(self, batch: dict[str, Tensor]) -> LossInputs:
        """Run student and teacher on a batch."""
        student = self._outputs(self.model, batch, self.hub.extras)
        teacher = None
        if self.teacher is not None:
            with torch.no_grad():
                teacher = self._outputs(self.teacher, batch, self.hub.teacher_extras)
        return LossInputs(student=student, teacher=teacher, labels=batch["labels"])

    def _outputs(self, network: nn.Module, batch: dict[str, Tensor], wanted: tuple[str, ...]) -> Outputs:
        extras: dict[str, Any] = {}
        structured: Any = getattr(network, "structured", None)
        if STRUCTURES in wanted and structured is not None:
            logits, extras[STRUCTURES] = structured(batch["points"])
        else:
            logits = logits_of(network, batch)
        if RECONSTRUCTION in wanted:
            extras[RECONSTRUCTION] = [m.lost for m in _aggregations(network)]
        return Outputs(logits, extras=extras)

    def predict(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of a batch, and the label and part of each, (N, 2)."""
        logits = logits_of(self.model, batch).float()
        return logits.cpu(), torch.stack([batch["labels"], batch["part"]], dim=1).cpu()

    def metrics(self, outputs: Tensor, labels: Tensor, loader: int) -> Mapping[str, float]:
        """Scores of the dev and the test part."""
        return compute(outputs, labels[:, 0], labels[:, 1], self.links)


def _aggregations(network: nn.Module) -> list[Any]:
    from bnnapps.plugins.graphs.meta import MetaAggregation

    return [m for m in network.modules() if isinstance(m, MetaAggregation)]


def lacks(network: nn.Module, extra: str) -> str | None:
    """Why a loss cannot read that extra of a network; `None`: it can."""
    if extra == STRUCTURES and not hasattr(network, "structured"):
        return "compares neighbours among features, which only a dgcnn finds"
    if extra == RECONSTRUCTION and not _aggregations(network):
        return "is that of Meta-Aggregator, with model.aggregation meta_greedy or meta_adaptable"
    return None if extra in (STRUCTURES, RECONSTRUCTION) else f"needs '{extra}', which this task does not give"
