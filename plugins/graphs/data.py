"""The graph, graphs or clouds of a recipe, read and split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bnnapps.errors import DataError, RecipeError
from bnnapps.plugins.graphs.config import GraphData
from bnnapps.plugins.graphs.embedded import load_karate, make_motifs, make_planted
from bnnapps.plugins.graphs.geom import load_geom
from bnnapps.plugins.graphs.links import Links, split_links
from bnnapps.plugins.graphs.loader import (
    Clouds,
    Examples,
    GraphLoader,
    Graphs,
    HeldOutLinks,
    Neighbourhoods,
    WholeGraph,
    WholeLinks,
)
from bnnapps.plugins.graphs.ogb import load_ogb
from bnnapps.plugins.graphs.planetoid import load_planetoid
from bnnapps.plugins.graphs.require import require_pyg
from bnnapps.plugins.graphs.sets import DEV, TEST, TRAIN, GraphSet, NodeGraph, unit_rows
from bnnapps.plugins.graphs.tu import load_tu
from bnnapps.validation import validated


@dataclass(frozen=True)
class Prepared:
    """Everything about the data that training needs: one of `graph`, `graphs` and `clouds`.

    Attributes:
        settings: of the recipe.
        seed: of the recipe.
        classes: their names; `unlinked` and `linked` for links.
        features: of a node or point.
        description: for the report.
        graph: one graph, whose features (as the network sees them) are `x`.
        links: for link prediction.
        graphs: many graphs.
        clouds: what `prepare_clouds` of the task `pointclouds` gives, with `points` of each.
    """

    settings: GraphData
    seed: int
    classes: tuple[str, ...]
    features: int
    description: str
    graph: NodeGraph | None = None
    x: Tensor | None = None
    links: Links | None = None
    graphs: GraphSet | None = None
    clouds: Any = None
    points: int = 0

    def train_loader(self) -> GraphLoader:
        """Batches of the training part."""
        data = self.settings
        if self.links is not None and self.x is not None:
            links = WholeLinks(self.links, self.x, self.seed, data.batch_size, data.repeats)
            return GraphLoader(links, 1, self.seed, shuffle=False)
        if self.graph is not None and self.x is not None:
            if data.neighbors is not None and data.batch_size is not None:
                near = Neighbourhoods(self.graph, self.x, [TRAIN], data.neighbors, self.seed)
                return GraphLoader(near, data.batch_size, self.seed, shuffle=True)
            return GraphLoader(WholeGraph(self.graph, self.x, [TRAIN], data.repeats), 1, self.seed, shuffle=False)
        assert data.batch_size is not None
        examples: Examples
        if self.graphs is not None:
            chosen = self.graphs.of(TRAIN)
            examples = Graphs([self.graphs.graphs[i] for i in chosen], self.graphs.parts[chosen])
        else:
            examples = Clouds(self.clouds.train, self.points, TRAIN, self.seed, train=True)
        return GraphLoader(examples, data.batch_size, self.seed, shuffle=True)

    def dev_loader(self) -> GraphLoader:
        """Batches of the dev and the test part together; each example says which it belongs to."""
        data = self.settings
        if self.links is not None and self.x is not None:
            return GraphLoader(HeldOutLinks(self.links, self.x), 1, self.seed, shuffle=False)
        if self.graph is not None and self.x is not None:
            if data.eval_neighbors is not None and data.eval_batch_size is not None:
                near = Neighbourhoods(self.graph, self.x, [DEV, TEST], data.eval_neighbors, self.seed)
                return GraphLoader(near, data.eval_batch_size, self.seed, shuffle=False)
            return GraphLoader(WholeGraph(self.graph, self.x, [DEV, TEST]), 1, self.seed, shuffle=False)
        assert data.batch_size is not None
        size = data.batch_size if data.eval_batch_size is None else data.eval_batch_size
        examples: Examples
        if self.graphs is not None:
            chosen = self.graphs.of(DEV, TEST)
            examples = Graphs([self.graphs.graphs[i] for i in chosen], self.graphs.parts[chosen])
        else:
            examples = Clouds(self.clouds.dev, self.points, DEV, self.seed, train=False)
        return GraphLoader(examples, size, self.seed, shuffle=False)

    def sizes(self) -> dict[str, Any]:
        """What the report says of them."""
        if self.links is not None and self.graph is not None:
            found: dict[str, Any] = {"nodes": len(self.graph), "train links": self.links.train.shape[1]}
            return found | {"dev links": self.links.dev.shape[1], "test links": self.links.test.shape[1]}
        if self.graph is not None:
            parts = torch.bincount(self.graph.parts, minlength=4).tolist()
            found = {"nodes": len(self.graph), "edges": self.graph.edges.shape[1] // 2}
            found |= {"train": parts[TRAIN], "dev": parts[DEV], "test": parts[TEST]}
            if self.graph.isolated:
                found["isolated nodes"] = self.graph.isolated
            return found | {"features": self.features, "classes": len(self.classes)}
        if self.graphs is not None:
            parts = torch.bincount(self.graphs.parts, minlength=4).tolist()
            found = {"train": parts[TRAIN], "dev": parts[DEV], "test": parts[TEST]}
            without = sum(g.edges.shape[1] == 0 for g in self.graphs.graphs)
            if without:
                found["graphs without edges"] = without
            return found | {"features": self.features, "classes": len(self.classes)}
        found = {"train": len(self.clouds.train), "dev": len(self.clouds.dev)}
        return found | {"points": self.points, "classes": len(self.classes)}


def prepare_graphs(data: GraphData, seed: int) -> Prepared:
    """The data that a recipe asks for.

    Raises:
        DataError, MissingExtraError: with one clear line.
    """
    require_pyg(f"data.source '{data.source}'")
    if data.source == "clouds":
        return _clouds(data, seed)
    if data.source in ("planetoid", "geom", "tu", "ogb") and data.root is None:
        raise DataError(f"data.source is '{data.source}', so data.root must name the folder of its files")
    root = Path("." if data.root is None else data.root).expanduser()
    if data.source in ("tu", "motifs"):
        if data.split >= data.folds:
            raise RecipeError(f"data.split is {data.split}: with {data.folds} folds it must be below {data.folds}")
        if data.source == "tu":
            graphs = load_tu(root, str(data.name), data.folds, data.split, data.generator_seed)
        else:
            count = 300 if data.train_size is None else data.train_size
            graphs = make_motifs(data.generator_seed, data.folds, data.split, count)
        _check_batches(len(graphs.of(TRAIN)), data.batch_size, graphs.origin)
        return Prepared(data, seed, graphs.classes, graphs.features, graphs.description, graphs=graphs)
    graph = _node_graph(data, root)
    x = unit_rows(graph.x) if data.unit_rows else graph.x
    if data.predicts == "link":
        links = split_links(
            graph.edges, len(graph), (data.held_out[0], data.held_out[1]), data.generator_seed, graph.origin
        )
        described = f"links of {graph.description}"
        return Prepared(data, seed, ("unlinked", "linked"), x.shape[1], described, graph=graph, x=x, links=links)
    for part, name in ((TRAIN, "train"), (DEV, "dev")):
        if not bool(((graph.parts == part) & (graph.labels >= 0)).any()):
            raise DataError(f"{graph.origin} has no {name} nodes with a class")
    if data.neighbors is not None:
        _check_batches(int((graph.parts == TRAIN).sum()), data.batch_size, graph.origin)
    return Prepared(data, seed, graph.classes, x.shape[1], graph.description, graph=graph, x=x)


def _node_graph(data: GraphData, root: Path) -> NodeGraph:
    if data.source == "karate":
        return load_karate()
    if data.source == "planetoid":
        return load_planetoid(root, str(data.name))
    if data.source == "geom":
        return load_geom(root, str(data.name), data.split)
    if data.source == "ogb":
        return load_ogb(root, str(data.name))
    return make_planted(data.generator_seed)


def _clouds(data: GraphData, seed: int) -> Prepared:
    from bnnapps.plugins.pointclouds.data import prepare_clouds
    from bnnapps.plugins.pointclouds.data_config import CloudData

    given = {"batch_size": data.batch_size, "train_size": data.train_size, "dev_size": data.dev_size} | data.clouds
    settings = validated(CloudData, given, "data.clouds", RecipeError)
    splits = prepare_clouds(settings, seed)
    if splits.train.per_point:
        raise RecipeError("data.clouds asks for a class of each point; a DGCNN here gives one to each cloud")
    described = splits.description
    return Prepared(data, seed, splits.classes, 3, described, clouds=splits, points=settings.points)


def _check_batches(count: int, size: int | None, origin: str) -> None:
    """BatchNorm has nothing to normalise over in a batch of one."""
    if count < 2:
        raise DataError(f"{origin}: {count} example is left for training; lower data.folds, or give more data")
    if size is not None and size > 1 and count % size == 1:
        better = size + 1 if count % (size + 1) != 1 else size - 1
        raise DataError(
            f"{origin}: {count} training examples in batches of {size} leave a last batch of one: set data.batch_size "
            f"to {better}"
        )
