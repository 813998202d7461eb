"""A small task for the tests of the runner: points in the plane, labelled by a teacher network's sign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnnapps.losses import LossHub, LossInputs, Outputs
from bnnapps.plugin import Plugin
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.training.loader import EpochLoader
from bnnapps.training.module import BinaryModule
from bnnapps.training.task import Section, Task
from bnnapps.validation import Record


class ToyData(Record):
    size: int = 96
    batch_size: int = 8


class ToyModel(Record):
    hidden: int = 16
    dropout: float = 0.2
    norm: Literal["batch", "layer"] = "batch"
    idle: bool = False


class ToyRecipe(Recipe):
    data: ToyData = ToyData()
    model: ToyModel = ToyModel()


class ToyModule(BinaryModule):
    def loss_inputs(self, batch: Any) -> LossInputs:
        x, labels = batch
        teacher = None
        if self.teacher is not None:
            with torch.no_grad():
                teacher = Outputs(self.teacher(x))
        return LossInputs(student=Outputs(self.model(x)), teacher=teacher, labels=labels)

    def predict(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.model(batch[0]), batch[1]

    def metrics(self, outputs: Tensor, labels: Tensor, loader: int) -> dict[str, float]:
        return {"accuracy": float((outputs.argmax(-1) == labels).float().mean())}


def collate(rows: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    return torch.stack([x for x, _ in rows]), torch.tensor([y for _, y in rows])


class ToyTask(Task):
    monitor = "dev/accuracy"

    def prepare(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.recipe.data.size, 6, generator=generator)
        labels = ((x[:, 0] * x[:, 1] > 0) ^ (x[:, 2] > 0)).long()
        self.rows = [(a, int(b)) for a, b in zip(x, labels, strict=True)]

    def describe(self) -> dict[str, Any]:
        return {"data": "toy (generated)", "train": len(self.rows)}

    def build_model(self) -> nn.Module:
        torch.manual_seed(self.recipe.seed)
        return self.build_from({"hidden": self.recipe.model.hidden})

    def architecture(self, model: nn.Module) -> dict[str, Any]:
        return {"hidden": self.recipe.model.hidden}

    def build_from(self, record: dict[str, Any]) -> nn.Module:
        hidden = record["hidden"]
        norm = nn.BatchNorm1d if self.recipe.model.norm == "batch" else nn.LayerNorm
        model = nn.Sequential(
            nn.Linear(6, hidden),
            norm(hidden),
            nn.Dropout(self.recipe.model.dropout),
            nn.Linear(hidden, hidden),
            norm(hidden),
            nn.Linear(hidden, 2),
        )
        if self.recipe.model.idle:  # a parameter that rests, and one that is frozen
            model[0].idle = nn.Parameter(torch.ones(3))
            model[1].weight.requires_grad_(False)
        return model

    def make_module(self, model: nn.Module, stage: ResolvedStage, hub: LossHub, teacher: nn.Module | None) -> ToyModule:
        return ToyModule(model, stage, hub, self.recipe.seed, teacher)

    def train_loader(self) -> EpochLoader:
        return EpochLoader(self.rows, collate, self.recipe.data.batch_size, self.recipe.seed)

    def dev_loaders(self) -> list[EpochLoader]:
        return [EpochLoader(self.rows, collate, 32, 0, shuffle=False)]

    def example_inputs(self) -> Tensor:
        return torch.stack([x for x, _ in self.rows[:4]])

    def save_assets(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "toy.json").write_text(json.dumps({"hidden": self.recipe.model.hidden}))

    def load_assets(self, folder: Path) -> None:
        self.prepare()

    def sections(self, model: nn.Module, folder: Path) -> list[Section]:
        return [Section("Toy", "<p>toy</p>")]


PLUGIN = Plugin(name="toy", title="for tests", recipe=ToyRecipe, task=ToyTask)
