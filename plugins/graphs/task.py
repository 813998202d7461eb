"""The task on graphs: classes of nodes, of graphs or of clouds, and links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnnapps.errors import UsageError
from bnnapps.losses import LossHub
from bnnapps.plugins.classification.pictures import confusion_picture
from bnnapps.plugins.graphs.config import GraphData, GraphModel
from bnnapps.plugins.graphs.data import Prepared, prepare_graphs
from bnnapps.plugins.graphs.loader import GraphLoader
from bnnapps.plugins.graphs.model import Shape, build_shape, load_weights, take_weights
from bnnapps.plugins.graphs.module import GraphModule, inputs_of, lacks, logits_of
from bnnapps.plugins.graphs.pictures import embedding_picture, score_picture
from bnnapps.plugins.graphs.sets import DEV, TEST
from bnnapps.recipe.schema import Recipe, ResolvedStage
from bnnapps.training.checkpoint import load_file, save_file
from bnnapps.training.folder import write_text
from bnnapps.training.shaped import ShapedTask, labelled
from bnnapps.training.task import Section

_EXAMPLES = 4


class GraphTask(ShapedTask):
    """Classes of nodes, of graphs or of clouds, and links between nodes."""

    shape = Shape

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.data, GraphData)
        assert isinstance(recipe.model, GraphModel)
        self.data, self.settings = recipe.data, recipe.model
        score = "dev/auc" if self.data.predicts == "link" else "dev/accuracy"
        self.monitor = score if self.data.select_by == "score" else "dev/loss"
        self.maximize = self.data.select_by == "score"
        self._prepared: Prepared | None = None
        self._saved: dict[str, Any] | None = None
        self._examples: tuple[Tensor, ...] | None = None

    # Data

    @property
    def prepared(self) -> Prepared:
        """The data, read on first use."""
        if self._prepared is None:
            self._prepared = prepare_graphs(self.data, self.recipe.seed)
        return self._prepared

    def prepare(self) -> None:
        """Read the graphs."""
        _ = self.prepared

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.prepared.classes if self._saved is None else tuple(self._saved["classes"])

    @property
    def features(self) -> int:
        """Features of a node."""
        return self.prepared.features if self._saved is None else int(self._saved["features"])

    def describe(self) -> dict[str, Any]:
        """Name, origin and sizes of the data."""
        return {"data": self.prepared.description, **self.prepared.sizes()}

    def train_loader(self) -> GraphLoader:
        """The training part."""
        return self.prepared.train_loader()

    def dev_loaders(self) -> list[GraphLoader]:
        """The dev and the test part, in one loader: the metrics tell them apart."""
        return [self.prepared.dev_loader()]

    def example_inputs(self) -> tuple[Tensor, ...]:
        """What the network is called with: the graph, or the first graphs or clouds; of a run, those of its assets."""
        if self._examples is None:
            loader = self.prepared.dev_loader()
            count = _EXAMPLES if self.data.predicts == "graph" else len(loader.dataset)  # type: ignore[arg-type]
            if self.data.eval_neighbors is not None:
                count = _EXAMPLES
            self._examples = inputs_of(loader.examples.collate(list(range(min(count, len(loader.dataset))))))  # type: ignore[arg-type]
        return self._examples

    def one_example(self) -> Any:
        """The whole graph, whose nodes are no batch; of graphs and clouds the first."""
        inputs = self.example_inputs()
        if self.data.predicts != "graph":
            return inputs
        if len(inputs) == 1:
            return (inputs[0][:1],)
        x, edges, batch = inputs
        nodes = int((batch == 0).sum())
        return x[:nodes], edges[:, edges[0] < nodes], batch[:nodes]

    # Models

    def build_model(self) -> nn.Module:
        """The network that the recipe asks for."""
        shape = Shape.of(self.settings, self.data.predicts, self.features, len(self.classes))
        torch.manual_seed(self.recipe.seed)
        model = build_shape(shape)
        _start_input_norm(model, self.example_inputs()[0])
        if self.settings.checkpoint is not None:
            load_weights(model, self.settings.checkpoint)
        return labelled(model, shape)

    def build_shape(self, shape: Any) -> nn.Module:
        """A float network of that shape, with random weights."""
        return build_shape(shape)

    def fitted(self, model: nn.Module, stage: ResolvedStage) -> nn.Module:
        """The network that the stage asks for, with the weights that both have."""
        whole = Shape.of(self.settings, self.data.predicts, self.features, len(self.classes))
        wanted = whole.of_stage(self.settings.stages.get(stage.name, {}))
        if self.architecture(model) == wanted._asdict():
            return model
        torch.manual_seed(self.recipe.seed)
        network = build_shape(wanted)
        take_weights(network, model)
        return labelled(network, wanted)

    def misfit(self, shape: Any) -> str | None:
        """Another kind of target, or other numbers of features or classes."""
        wanted = self.data.predicts, self.features, len(self.classes)
        if (shape.target, shape.features, shape.classes) == wanted:
            return None
        return (
            f"is for a {shape.target} with {shape.features} features and {shape.classes} classes, and the data has a "
            f"{wanted[0]} with {wanted[1]} and {wanted[2]}"
        )

    def make_module(
        self, model: nn.Module, stage: ResolvedStage, hub: LossHub, teacher: nn.Module | None
    ) -> GraphModule:
        """The Lightning module for a stage."""
        return GraphModule(model, stage, hub, self.recipe.seed, teacher, self.data.predicts == "link")

    def lacks(self, model: nn.Module, extra: str) -> str | None:
        """Structures are found by a DGCNN, and reconstructions by a Meta-Aggregator."""
        return lacks(model, extra)

    # The run folder

    def save_assets(self, folder: Path) -> None:
        """Write the example inputs, and the names of the classes."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"inputs": list(self.example_inputs())}, folder / "examples.pt")
        facts = {"classes": list(self.classes), "features": self.features, "target": self.data.predicts}
        write_text(folder / "task.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def load_assets(self, folder: Path) -> None:
        """Read the example inputs and the names of the classes."""
        path = folder / "task.json"
        try:
            self._saved = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise UsageError(f"{path} cannot be read ({problem}): the run's assets are damaged") from None
        self._examples = tuple(load_file(folder / "examples.pt")["inputs"])

    def sections(self, model: nn.Module, folder: Path) -> list[Section]:
        """The embedding, and the confusion of classes (for links: the scores), on the test part where there is one."""
        logits, embedded, labels, part = self._predicted(model)
        name = "test" if bool((part == TEST).any()) else "dev"
        rows = part == (TEST if name == "test" else DEV)
        logits, labels = logits[rows], labels[rows]
        guesses = logits.argmax(1)
        if self.data.predicts == "link":
            found = [Section(f"Scores of the {name} pairs", score_picture(logits[:, 1] - logits[:, 0], labels))]
            return [*found, Section(f"Confusion of the {name} pairs", confusion_picture(logits, labels, self.classes))]
        what = f"{name} {'clouds' if self.data.source == 'clouds' else f'{self.data.predicts}s'}"
        picture = embedding_picture(embedded[rows], labels, guesses, self.classes, what)
        return [
            Section("Embedding", picture),
            Section(f"Confusion of the {what}", confusion_picture(logits, labels, self.classes)),
        ]

    @torch.no_grad()
    def _predicted(self, model: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits, embedding, label and part of every example of the dev loader."""
        model.eval()
        found = []
        for batch in self.prepared.dev_loader():
            inputs = inputs_of(batch)
            embedded = model.embed(*inputs[:2]) if "pairs" in batch else model.embed(*inputs)  # type: ignore[operator]
            embedded = embedded[batch["rows"]] if "rows" in batch else embedded
            found.append((logits_of(model, batch).float(), embedded.float(), batch["labels"], batch["part"]))
        logits, embedding, labels, part = (torch.cat(column) for column in zip(*found, strict=True))
        return logits, embedding, labels, part


def _start_input_norm(model: nn.Module, x: Tensor) -> None:
    """Statistics of the example inputs for a BatchNorm on the features, which knows none before its first batch.

    So a plan, which is made before the training, sees signs of both kinds behind it.
    """
    norm = getattr(getattr(model, "encoder", None), "input_norm", None)
    if norm is not None:
        norm.running_mean.copy_(x.mean(0))
        norm.running_var.copy_(x.var(0, correction=0))
