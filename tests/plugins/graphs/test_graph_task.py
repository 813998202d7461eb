"""The task on graphs: runs to their end, killed runs, what is described and drawn, and mistakes in one line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_files import write_blocks, write_geom, write_planetoid
from rich.console import Console

import bnnapps
from bnnapps.cli import main
from bnnapps.errors import BnnappsError, CheckpointError, RecipeError
from bnnapps.losses import LossHub, LossTerm
from bnnapps.plugins.graphs.metrics import compute
from bnnapps.plugins.graphs.pictures import embedding_picture, plane, score_picture
from bnnapps.plugins.graphs.sets import DEV, TEST
from bnnapps.plugins.graphs.task import GraphTask
from bnnapps.recipe.load import as_recipe
from bnnapps.training.runner import open_run, preview, run_recipe

QUIET = Console(file=io.StringIO())
LINEAR = ["linear", "pyg.Linear"]
SIGNS = {"rules": [{"types": LINEAR, "use": "bnn"}], "keep_first": 0, "keep_last": 0}
NODES = {"data": {"source": "karate"}, "model": {"hidden": 8}, "binarize": {"method": "bigcn"}}
GRAPHS = {
    "data": {"source": "motifs", "train_size": 24, "folds": 4, "batch_size": 6},
    "model": {"name": "gin", "hidden": 8},
    "binarize": SIGNS,
}
LINKS = {"data": {"source": "karate", "target": "link"}, "model": {"hidden": 8}, "binarize": {"method": "bigcn"}}
SMALL = {"widths": [4, 6, 8], "embedding": 8, "head": [8], "k": 4}
CLOUDS = {
    "data": {
        "source": "clouds",
        "clouds": {"source": "shapes10", "points": 16, "stored": 32},
        "batch_size": 4,
        "train_size": 20,
        "dev_size": 10,
    },
    "model": {"name": "dgcnn", "options": SMALL},
    "binarize": {"method": "binarygnn"},
}
NEAR_DATA = {"source": "karate", "batch_size": 2, "neighbors": [3, 2], "eval_batch_size": 8, "eval_neighbors": [4, 4]}
NEAR = NODES | {"data": NEAR_DATA}
NAMES: dict[str, Any] = {"ids": lambda base: "-".join(str(base["data"].get(k)) for k in ("source", "target"))}


def recipe_of(base: dict[str, Any], train: dict[str, Any] | None = None, **more: Any) -> Any:
    values = {"task": "graphs", "seed": 7, "train": {"steps": 2, "lr": 0.01} | (train or {}), **base, **more}
    return as_recipe(values | {"trainer": {"accelerator": "cpu"}}, "test")


@pytest.mark.parametrize("base", [NODES, GRAPHS, LINKS, CLOUDS, NEAR], **NAMES)
def test_a_run_ends_with_a_report(base: dict[str, Any], tmp_path: Path) -> None:
    recipe = recipe_of(base)
    result = run_recipe(recipe, tmp_path / "run", QUIET)
    metrics = result["stages"][0]["metrics"]
    score = "auc" if base is LINKS else "accuracy"
    assert {score, "loss"} <= metrics.keys()
    assert ("test_" + score in metrics) == (base is not CLOUDS)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert ("Scores of the test pairs" if base is LINKS else "in a plane") in page
    assert "Confusion" in page
    task, model, _ = open_run(tmp_path / "run")
    assert bnnapps.is_binarized(model)
    bnnapps.plan_of(model).assert_ran(model, task.example_inputs())
    again = run_recipe(recipe, tmp_path / "again", QUIET)
    other = open_run(tmp_path / "again")[1]
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    assert again["stages"][0]["metrics"] == metrics


class StopError(Exception):
    pass


@pytest.mark.parametrize("base", [GRAPHS, LINKS, NEAR], **NAMES)
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(base: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from bnnapps.plugins.graphs.module import GraphModule

    recipe = recipe_of(base, {"steps": 6, "checkpoint_every": 1})
    run_recipe(recipe, tmp_path / "whole", QUIET)
    expected = open_run(tmp_path / "whole")[1].state_dict()
    steps = GraphModule.training_step

    def killed(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 4:
            raise StopError
        return steps(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(GraphModule, "training_step", killed)
        with pytest.raises(StopError):
            run_recipe(recipe, tmp_path / "broken", QUIET)
    run_recipe(recipe, tmp_path / "broken", QUIET, resume=True)
    found = open_run(tmp_path / "broken")[1].state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in found.items())


def test_real_files_run(tmp_path: Path) -> None:
    write_planetoid(tmp_path / "planetoid", gap=True)
    write_blocks(tmp_path / "tu")
    write_geom(tmp_path / "texas")
    sources = [
        {"source": "planetoid", "root": str(tmp_path / "planetoid"), "name": "tiny"},
        {"source": "tu", "root": str(tmp_path / "tu"), "name": "TINY", "folds": 3, "batch_size": 2},
        {"source": "geom", "root": str(tmp_path), "name": "texas"},
    ]
    for number, data in enumerate(sources):
        result = run_recipe(recipe_of({"data": data, "model": {"hidden": 4}}), tmp_path / str(number), QUIET)
        assert "(real)" in result["data"]["data"]
        assert result["stages"][0]["steps"] == 2
    assert result["data"]["nodes"] == 10


def test_the_data_are_described(tmp_path: Path) -> None:
    def described(base: dict[str, Any]) -> dict[str, Any]:
        return GraphTask(recipe_of(base)).describe()

    found = described(NODES)
    assert (found["nodes"], found["edges"], found["train"], found["dev"], found["test"]) == (34, 78, 2, 11, 21)
    assert "isolated nodes" not in found
    assert described(LINKS) == {
        "data": "links of Zachary's karate club (real)",
        "nodes": 34,
        "train links": 66,
        "dev links": 4,
        "test links": 8,
    }
    write_blocks(tmp_path)
    data = {"source": "tu", "root": str(tmp_path), "name": "TINY", "folds": 3, "batch_size": 2}
    assert described({"data": data})["graphs without edges"] == 1
    assert described(CLOUDS)["points"] == 16
    isolated = GraphTask(recipe_of({"data": {"source": "planted"}, "model": {}})).describe()
    assert isolated["isolated nodes"] > 0


def test_one_example_of_a_batch_of_graphs_is_a_graph() -> None:
    task = GraphTask(recipe_of(GRAPHS))
    x, edges, batch = task.one_example()
    first = task.prepared.graphs.graphs[task.prepared.graphs.of(DEV, TEST)[0]]
    assert torch.equal(x, first.x)
    assert torch.equal(edges, first.edges)
    assert not bool(batch.any())
    whole = GraphTask(recipe_of(NODES))
    assert whole.one_example()[0].shape == (34, 34)


def test_the_norm_of_the_input_starts_from_the_graph() -> None:
    base = NODES | {"model": {"hidden": 8, "input_norm": True, "activation": "none"}}
    task = GraphTask(recipe_of(base))
    model, x = task.build_model().eval(), task.example_inputs()[0]
    assert torch.equal(model.encoder.input_norm.running_mean, x.mean(0))
    warned = bnnapps.plan(model, "bigcn", example_inputs=task.example_inputs()).warnings
    assert not any("convs.0.lin" in line for line in warned)
    other = GraphTask(recipe_of(NODES)).build_model()
    warned = bnnapps.plan(other, "bigcn", example_inputs=task.example_inputs()).warnings
    assert any("'encoder.convs.0.lin'" in line and "never negative" in line for line in warned)


# Losses


def module_of(base: dict[str, Any], *terms: LossTerm, teacher: bool = False) -> Any:
    recipe = recipe_of(base)
    task = GraphTask(recipe)
    torch.manual_seed(0)
    other = task.build_model() if teacher else None
    return task.make_module(task.build_model(), recipe.train.resolved()[0], LossHub(terms), other), task


def test_a_student_learns_local_structure() -> None:
    terms = [LossTerm("soft_cross_entropy"), LossTerm("local_structure")]
    module, task = module_of(CLOUDS, *terms, teacher=True)
    with torch.no_grad():
        for p in module.model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    total, parts = module.hub(module.loss_inputs(next(iter(task.train_loader()))))
    assert float(parts["local_structure"]) > 0
    total.backward()
    assert bool(module.model.edges[0].linear.weight.grad.any())
    assert all(p.grad is None for p in module.teacher.parameters())


def test_auto_encoders_add_their_loss() -> None:
    meta = NODES | {"model": {"hidden": 8, "aggregation": "meta_greedy"}, "binarize": None}
    module, task = module_of(meta, LossTerm("task"), LossTerm("reconstruction", weight=0.1))
    batch = next(iter(task.train_loader()))
    _, parts = module.hub(module.loss_inputs(batch))
    lost = [m.lost for m in module.model.modules() if hasattr(m, "lost")]
    assert float(parts["reconstruction"]) == pytest.approx(float(sum(lost).detach()))


@pytest.mark.parametrize(
    ("loss", "message"),
    [("local_structure", "which only a dgcnn finds"), ("reconstruction", "with model.aggregation meta_greedy")],
)
def test_losses_that_a_network_has_nothing_for_are_refused(loss: str, message: str) -> None:
    stages = [{"name": "a", "binarize": False}, {"name": "b", "teacher": "a", "losses": [{"name": loss}]}]
    with pytest.raises(RecipeError, match=f"stage 'b': the loss '{loss}' .*{message}"):
        preview(recipe_of(NODES | {"train": {"steps": 1, "stages": stages}}))


# Scores and pictures


def test_scores_of_both_parts() -> None:
    logits = torch.tensor([[2.0, 0], [0, 2], [2, 0], [0, 2]])
    labels, part = torch.tensor([0, 0, 0, 1]), torch.tensor([DEV, DEV, TEST, TEST])
    found = compute(logits, labels, part, links=False)
    assert (found["accuracy"], found["test_accuracy"]) == (0.5, 1.0)
    assert found["test_loss"] == pytest.approx(float(torch.tensor(1 + 2.718281828**-2).log()), rel=1e-5)
    found = compute(logits, torch.tensor([0, 1, 1, 0]), part, links=True)
    assert (found["auc"], found["test_auc"]) == (1.0, 0.0)
    assert "test_accuracy" not in found
    assert "test_auc" not in compute(logits[:2], labels[:2], part[:2], links=False)
    with pytest.raises(BnnappsError, match="not finite"):
        compute(logits * float("nan"), labels, part, links=False)


def test_the_plane_sets_classes_apart() -> None:
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(50)
    x = torch.randn(150, 20) * 0.1
    x[:, 3] += labels == 1
    x[:, 7] += labels == 2
    points, share = plane(x, labels, 3)
    again, _ = plane(x.flip(0), labels.flip(0), 3)
    assert torch.allclose(points, again.flip(0), atol=1e-9)
    means = torch.stack([points[labels == c].mean(0) for c in range(3)])
    assert float(torch.pdist(means).min()) > 0.8
    assert 0.5 < share <= 1


@pytest.mark.parametrize(("width", "classes"), [(1, 3), (5, 2), (4, 1)])
def test_the_plane_of_few_features_or_classes(width: int, classes: int) -> None:
    torch.manual_seed(0)
    points, share = plane(torch.randn(12, width), torch.arange(12) % classes, classes)
    assert points.shape == (12, 2)
    assert bool(points.isfinite().all())
    assert 0 < share <= 1 + 1e-9
    assert bool(plane(torch.zeros(5, 3), torch.zeros(5, dtype=torch.long), 1)[0].isfinite().all())


def test_pictures_escape_names() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    found = embedding_picture(torch.randn(4, 3), labels, labels, ["<b>one", "two"], "nodes")
    assert "<b>one" not in found
    assert "&lt;b&gt;one" in found
    assert "classified wrongly" not in found
    assert "classified wrongly" in embedding_picture(torch.randn(4, 3), labels, 1 - labels, ["one", "two"], "nodes")
    assert "<svg" in score_picture(torch.tensor([1.0, 1.0]), torch.tensor([0, 1]))


# Mistakes


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"data": {"source": "karate", "root": "x"}}, "root and name are for files"),
        ({"data": {"source": "planetoid", "root": "x"}}, "name must say which set"),
        ({"data": {"source": "karate", "target": "graph"}}, "about nodes and links"),
        ({"data": {"source": "motifs"}}, "batches of graphs need 'batch_size'"),
        ({"data": {"source": "karate", "batch_size": 4}}, "batches of nodes need 'neighbors'"),
        ({"data": {"source": "karate", "neighbors": [4]}}, "neighbors are for target 'node' with a batch_size"),
        ({"data": {"source": "karate", "batch_size": 4, "neighbors": [0, 2]}}, "neighbors has 0"),
        ({"data": {"source": "karate", "batch_size": 4, "neighbors": [2]}}, "data.neighbors has 1 numbers"),
        ({"data": {"source": "karate", "held_out": [0.5, 0.5]}}, "their sum below 1"),
        ({"data": {"source": "karate", "eval_neighbors": [4, 4]}}, "give both of 'eval_neighbors'"),
        ({"data": {"source": "clouds", "batch_size": 4}, "model": {"name": "dgcnn"}}, "clouds must name one"),
        ({"data": {"source": "karate", "clouds": {"source": "shapes10"}}}, "clouds is for source 'clouds'"),
        ({"model": {"name": "dgcnn"}}, "go together"),
        ({"model": {"name": "gat", "hidden": 9}}, "which 8 heads do not divide"),
        ({"model": {"name": "gcn", "norm": "operands"}}, "norm 'operands' is for sage"),
        ({"model": {"name": "gcn", "norm": "medians"}}, "norm 'medians' is for sage"),
        ({"model": {"options": {"k": 3}}}, "options are for dgcnn"),
        ({"model": {"stages": {"a": {"k": 3}}}}, "stages are for dgcnn"),
        (CLOUDS | {"model": {"name": "dgcnn", "stages": {"float": {"k": 3}}}}, "there is no stage 'float'"),
        ({"model": {"name": "gat", "aggregation": "meta_greedy"}}, "and name is 'gat'"),
        ({"model": {"nme": "gat"}}, "unknown key 'model.nme'"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(base: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of({"data": {"source": "karate"}} | base)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"data": {"source": "planetoid", "name": "cora"}, "model": {}}, "data.root must name the folder"),
        (
            {"data": {"source": "planetoid", "name": "cora", "root": "nowhere"}, "model": {}},
            "has no file ind.cora.graph",
        ),
        ({"data": {"source": "motifs", "batch_size": 4, "split": 12}, "model": {}}, "it must be below 10"),
        ({"data": {"source": "motifs", "train_size": 20, "folds": 4, "batch_size": 9}}, "leave a last batch of one"),
        (CLOUDS | {"data": CLOUDS["data"] | {"clouds": {"source": "shapes11"}}}, "data.clouds"),
        (CLOUDS | {"data": CLOUDS["data"] | {"clouds": {"source": "rooms", "points": 16}}}, "a class of each point"),
    ],
)
def test_data_that_cannot_be_had_are_refused_in_one_line(base: dict[str, Any], message: str) -> None:
    with pytest.raises(BnnappsError) as caught:
        GraphTask(recipe_of(base)).prepare()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_a_dgcnn_are_checked() -> None:
    for options, message in (({"kk": 3}, "unexpected keyword argument 'kk'"), ({"edges": "no"}, "edges is 'no'")):
        with pytest.raises(RecipeError, match=message):
            GraphTask(recipe_of(CLOUDS | {"model": {"name": "dgcnn", "options": options}})).build_model()


def test_a_record_of_another_task_or_other_data_is_refused() -> None:
    task = GraphTask(recipe_of(NODES))
    record = task.architecture(task.build_model())
    assert type(task.build_from(json.loads(json.dumps(record)))).__name__ == "NodeClassifier"
    with pytest.raises(CheckpointError, match="for a node with 34 features and 5 classes, and the data has a node"):
        task.build_from(record | {"classes": 5})
    with pytest.raises(CheckpointError, match="not of the task 'graphs'"):
        task.build_from({"name": "resnet18"})


def test_a_network_starts_from_a_file(tmp_path: Path) -> None:
    task = GraphTask(recipe_of(NODES))
    torch.manual_seed(11)
    state = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in task.build_model().state_dict().items()}
    torch.save(state, tmp_path / "start.pt")
    started = NODES | {"model": {"hidden": 8, "checkpoint": str(tmp_path / "start.pt")}}
    found = GraphTask(recipe_of(started)).build_model().state_dict()
    assert all(torch.equal(v, state[k]) for k, v in found.items())
    state.pop(next(iter(state)))
    torch.save(state, tmp_path / "start.pt")
    with pytest.raises(CheckpointError, match="has no tensor"):
        GraphTask(recipe_of(started)).build_model()


def test_the_command_line_refuses_a_malicious_file_in_one_line(tmp_path: Path, capsys: Any) -> None:
    write_planetoid(tmp_path)
    (tmp_path / "ind.tiny.graph").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    arguments = ["run", "bigcn_cora", "--set", f"data.root={tmp_path}", "--set", "data.name=tiny", "--dry-run"]
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 1
    text = capsys.readouterr().err
    assert "ind.tiny.graph holds more than arrays and lists, so it is refused" in " ".join(text.split())
    assert "Traceback" not in text
    assert not Path("ran").exists()
