"""What a recipe for graphs may say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from bnnapps.recipe.schema import Recipe
from bnnapps.validation import Options, Record

Source = Literal["karate", "planted", "motifs", "planetoid", "geom", "tu", "ogb", "clouds"]
Target = Literal["node", "graph", "link"]
EMBEDDED: tuple[Source, ...] = ("karate", "planted", "motifs")
OF_NODES: tuple[Source, ...] = ("karate", "planted", "planetoid", "geom", "ogb")
OF_GRAPHS: tuple[Source, ...] = ("motifs", "tu")


class GraphData(Record):
    """Which graph or graphs, what is to be predicted, and how that is batched."""

    source: Source = "planted"
    """`karate`, `planted` and `motifs` need no files; `geom`: WebKB and film; `clouds`: points of `clouds`."""
    root: str | None = None
    """The folder of the files."""
    name: str | None = None
    """Of the set within the folder: `cora`, `texas`, `MUTAG`, `ogbn-arxiv`."""
    target: Target | None = None
    """A class for each node, a class for each graph, or whether two nodes are linked; by default that of the source."""
    split: int = Field(default=0, ge=0)
    """For `geom`: the number of the split; for graphs: the fold that is tested (the next one is the dev set)."""
    folds: int = Field(default=10, ge=3)
    """For graphs: into how many parts they are dealt."""
    held_out: list[float] = Field(default=[0.05, 0.1], min_length=2, max_length=2)
    """For links: the shares of dev and test edges."""
    unit_rows: bool = True
    """Each row of features divided by its sum, as PyG's NormalizeFeatures does."""
    batch_size: int | None = Field(default=None, ge=1)
    """Graphs, nodes or links a step; null: all at once."""
    eval_batch_size: int | None = Field(default=None, ge=1)
    """Likewise in evaluation."""
    neighbors: list[int] | None = None
    """For nodes with a `batch_size`: how many neighbours are drawn at each hop, one number a layer; -1: all."""
    eval_neighbors: list[int] | None = None
    """Likewise in evaluation, by `eval_batch_size`; null: the whole graph at once."""
    repeats: int = Field(default=1, ge=1)
    """Where a step takes everything at once: steps an epoch."""
    train_size: int | None = Field(default=None, ge=2)
    """For `clouds` and `motifs`: take only so many training clouds, or make so many graphs."""
    dev_size: int | None = Field(default=None, ge=1)
    """For `clouds`: take only so many dev clouds."""
    clouds: dict[str, Any] = Field(default_factory=dict)
    """For `clouds`: the `data` of the task `pointclouds`, such as {source: shapes10, points: 64}."""
    select_by: Literal["score", "loss"] = "score"
    """Which epoch is best: the highest accuracy (links: area under the curve) or the lowest loss on the dev part."""
    generator_seed: int = Field(default=0, ge=0)
    """Of the generated sources, of folds, and of held-out links."""

    @property
    def predicts(self) -> Target:
        """What is predicted."""
        if self.target is not None:
            return self.target
        return "node" if self.source in OF_NODES else "graph"

    @model_validator(mode="after")
    def _fits_together(self) -> GraphData:
        if self.source in EMBEDDED and (self.root is not None or self.name is not None):
            raise ValueError(f"root and name are for files, but source is '{self.source}': drop them, or set source")
        if self.source in ("planetoid", "geom", "tu", "ogb") and self.name is None:
            raise ValueError(f"source is '{self.source}', so name must say which set, such as cora, texas or MUTAG")
        if (self.predicts == "graph") != (self.source not in OF_NODES):
            what = "nodes and links" if self.source in OF_NODES else "graphs"
            raise ValueError(f"target is '{self.predicts}', but source '{self.source}' is about {what}")
        if self.neighbors is not None and (self.predicts != "node" or self.batch_size is None):
            raise ValueError("neighbors are for target 'node' with a batch_size: set it, or drop neighbors")
        if self.predicts == "node" and self.batch_size is not None and self.neighbors is None:
            raise ValueError("batches of nodes need 'neighbors', such as [10, 10]: one number for each layer")
        if (self.eval_neighbors is None) != (self.eval_batch_size is None) and self.predicts == "node":
            raise ValueError("give both of 'eval_neighbors' and 'eval_batch_size', or neither")
        for key in ("neighbors", "eval_neighbors"):
            wrong = [n for n in getattr(self, key) or () if n < 1 and n != -1]
            if wrong:
                raise ValueError(f"{key} has {wrong[0]}: each must be at least 1, or -1 for all neighbours")
        dev, test = self.held_out
        if min(dev, test) <= 0 or dev + test >= 1:
            raise ValueError(f"held_out is {self.held_out}: both shares must be positive, their sum below 1")
        if self.predicts == "graph" and self.batch_size is None:
            raise ValueError("batches of graphs need 'batch_size'")
        if self.source == "clouds" and "source" not in self.clouds:
            raise ValueError("source is 'clouds', so clouds must name one: {source: shapes10, points: 64}")
        if self.source != "clouds" and self.clouds:
            raise ValueError(f"clouds is for source 'clouds', and source is '{self.source}': drop it")
        return self


Network = Literal["gcn", "sage", "gat", "gin", "edge", "dgcnn"]
Aggregation = Literal["mean", "max", "add", "std", "meta_greedy", "meta_adaptable"]


class GraphModel(Record):
    """The network: convolutions of PyTorch Geometric in a row, or a DGCNN for clouds."""

    name: Network = "gcn"
    hidden: int = Field(default=64, ge=1)
    """Features of a node between layers; for `gat` those of all heads together."""
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=8, ge=1)
    """For `gat`: of every layer but the last, which has one."""
    aggregation: Aggregation | None = None
    """How a node sums up its neighbours; by default that of the layer (gcn, gin add; sage mean; edge max)."""
    activation: Literal["relu", "elu", "prelu", "hardtanh", "squash", "none"] = "relu"
    """Behind every layer but the last; `squash`: tanh, which becomes a sign in a binary network."""
    norm: Literal["none", "after", "before", "operands", "medians"] = "none"
    """BatchNorm behind each layer, before each layer, or (sage) on each operand of a layer, with `Squash` behind it;
    `medians` has in its place the features less their medians over the nodes at hand."""
    norm_momentum: float = Field(default=0.1, gt=0, le=1)
    """Of the running statistics; the code of binary_gnn has 0.999."""
    input_norm: bool = False
    """BatchNorm without scale and shift on the features of the input (Bi-GCN)."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Before each layer, on real features. Before a sign what is dropped becomes +1: see activation.dropout."""
    head: bool = False
    """A linear layer behind the last convolution (graphs always have one)."""
    pool: Literal["add", "mean", "max"] = "add"
    """For graphs: how nodes are summed up."""
    jump: bool = True
    """For graphs: the head reads the pooled output of every layer, not of the last alone."""
    options: Options = Field(default_factory=dict)
    """For `dgcnn`: features, k, edges, neighbors and so on; see `BinaryDGCNN`."""
    stages: dict[str, Options] = Field(default_factory=dict)
    """For `dgcnn`: what is other in the network of a stage, by the stage's name, such as `{float: {edges: float}}`; a
    stage that starts from a network of other options takes the weights that both have."""
    checkpoint: str | None = None
    """A file of weights to start from: a state_dict, or a checkpoint that has one."""

    @model_validator(mode="after")
    def _fits_together(self) -> GraphModel:
        if self.name == "gat" and self.hidden % self.heads:
            raise ValueError(f"hidden is {self.hidden}, which {self.heads} heads do not divide: change one of them")
        if self.norm in ("operands", "medians") and self.name != "sage":
            raise ValueError(f"norm '{self.norm}' is for sage, and name is '{self.name}': use before or after")
        if self.name == "gat" and self.aggregation in ("meta_greedy", "meta_adaptable"):
            raise ValueError("aggregation 'meta' goes with gcn, sage, gin and edge, and name is 'gat'")
        for key in ("options", "stages"):
            if getattr(self, key) and self.name != "dgcnn":
                raise ValueError(f"{key} are for dgcnn, and name is '{self.name}': drop them")
        return self


class GraphRecipe(Recipe):
    """A recipe of the task `graphs`."""

    data: GraphData = GraphData()
    model: GraphModel = GraphModel()

    @model_validator(mode="after")
    def _stages_are_there(self) -> GraphRecipe:
        names = [stage.name for stage in self.train.stages]
        unknown = [name for name in self.model.stages if name not in names]
        if unknown:
            known = ", ".join(names) or "none"
            raise ValueError(f"model.stages: there is no stage '{unknown[0]}' in train.stages ({known})")
        return self

    @model_validator(mode="after")
    def _model_fits_data(self) -> GraphRecipe:
        if (self.model.name == "dgcnn") != (self.data.source == "clouds"):
            raise ValueError("model.name 'dgcnn' and data.source 'clouds' go together: set both, or neither")
        for key in ("neighbors", "eval_neighbors"):
            hops = getattr(self.data, key)
            if hops is not None and len(hops) != self.model.layers:
                raise ValueError(
                    f"data.{key} has {len(hops)} numbers and model.layers is {self.model.layers}: one each"
                )
        return self
