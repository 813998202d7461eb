"""Graphs with PyTorch Geometric: classes of nodes and graphs, links, and binary DGCNN for clouds of points."""

from bnnapps.plugin import Plugin
from bnnapps.plugins.graphs.config import GraphRecipe
from bnnapps.plugins.graphs.task import GraphTask

PLUGIN = Plugin(
    name="graphs",
    title="Nodes, graphs and links with PyTorch Geometric: Planetoid, WebKB, TU sets, OGB; binary DGCNN for clouds",
    recipe=GraphRecipe,
    task=GraphTask,
)

__all__ = ["PLUGIN", "GraphRecipe", "GraphTask"]
