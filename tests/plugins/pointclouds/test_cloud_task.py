"""The task on one recipe: batches, losses, metrics, models and their records, a killed run, the report."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from bnnapps.errors import CheckpointError, RecipeError, TrainingError, UsageError
from bnnapps.losses import LossHub, LossTerm
from bnnapps.plugins.pointclouds.augment import augmented, rotation
from bnnapps.plugins.pointclouds.data_config import CloudData
from bnnapps.plugins.pointclouds.metrics import cloud_confusion, of_classes, of_parts, of_scene, restricted
from bnnapps.plugins.pointclouds.module import CloudModule
from bnnapps.plugins.pointclouds.pictures import cloud_viewer, viewer_script
from bnnapps.plugins.pointclouds.task import CloudTask
from bnnapps.recipe.load import as_recipe
from bnnapps.recipe.schema import LossConfig, ResolvedStage
from bnnapps.report.page import script_hash
from bnnapps.training.runner import open_run, run_recipe
from bnnapps.training.stages import open_model

SMALL = {"points": 32, "train_size": 12, "dev_size": 10, "batch_size": 6, "eval_batch_size": 5}
QUIET = Console(file=io.StringIO())


def recipe_of(model: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **data: Any) -> Any:
    values = {
        "task": "pointclouds",
        "data": SMALL | data,
        "model": {"options": {"width": 0.125}} if model is None else model,
        "train": {"steps": 2} if train is None else train,
        "binarize": {"method": "bipointnet"},
    }
    return as_recipe(values, "here")


def task_of(model: dict[str, Any] | None = None, **data: Any) -> CloudTask:
    task = CloudTask(recipe_of(model, **data))
    task.prepare()
    return task


def module_of(task: CloudTask, *losses: str) -> CloudModule:
    stage = ResolvedStage(name="s", binarize=None, width=None, steps=1, losses=[LossConfig(name=n) for n in losses])
    return task.make_module(task.build_model(), stage, LossHub([LossTerm(n) for n in losses]), None)


# Batches


def test_rotations() -> None:
    turn = rotation(np.array([30.0, -50.0, 120.0]))
    assert torch.allclose(turn @ turn.T, torch.eye(3, dtype=torch.float64))
    assert float(torch.linalg.det(turn)) == pytest.approx(1)
    about_z = rotation(np.array([0.0, 0.0, 90.0]))
    along_x, along_y = torch.eye(3, dtype=torch.float64)[:2]
    assert torch.allclose(along_x @ about_z, along_y)


def test_changes_of_a_cloud() -> None:
    points = torch.randn(200, 6)
    rng = np.random.default_rng
    plain = CloudData()
    assert torch.equal(augmented(points, plain, rng(0), True), points)
    turned = augmented(points, CloudData(rotate=[180.0, 180.0, 180.0]), rng(0), True)
    for channels in (slice(0, 3), slice(3, 6)):
        assert torch.allclose(turned[:, channels].norm(dim=1), points[:, channels].norm(dim=1), atol=1e-5)
    assert not torch.allclose(turned, points)
    kept = augmented(points, CloudData(rotate=[180.0, 180.0, 180.0]), rng(0), False)
    assert torch.equal(kept[:, 3:], points[:, 3:])
    factor = augmented(points, CloudData(scale=[0.5, 2.0]), rng(0), True)[:, :3] / points[:, :3]
    assert torch.allclose(factor, factor[:1].expand_as(factor), atol=1e-4)
    assert len(set(factor[0].tolist())) == 3
    step = augmented(points, CloudData(translate=0.2), rng(0), True)[:, :3] - points[:, :3]
    assert torch.allclose(step, step[:1].expand_as(step), atol=1e-5)
    assert step.abs().max() <= 0.2
    noise = augmented(points, CloudData(jitter=0.01), rng(0), True)[:, :3] - points[:, :3]
    assert float(noise.std()) == pytest.approx(0.01, rel=0.15)
    thin = augmented(points, CloudData(dropout=0.9), rng(1), True)
    gone = (thin == points[0]).all(dim=1)
    assert 0 < int(gone.sum()) < 200
    assert torch.equal(thin[~gone], points[~gone])


def test_batches_follow_from_seed_and_epoch() -> None:
    task = task_of(jitter=0.01)
    loader = task.train_loader()
    first = [b["points"] for b in loader]
    assert first[0].shape == (6, 32, 3)
    again = [b["points"] for b in task.train_loader()]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    loader.set_epoch(1)
    assert not torch.equal(next(iter(loader))["points"], first[0])
    dev = task.dev_loaders()[0]
    batch = next(iter(dev))
    assert batch["points"].tolist() == [task.splits.dev.points[i, :32].tolist() for i in range(5)]


def test_points_that_fall_away_bring_no_wrong_class() -> None:
    task = task_of(source="rooms", dropout=0.8)
    for batch in task.train_loader():
        places = batch["points"][..., :3]
        same = (places == places[:, :1]).all(dim=2)
        assert (batch["labels"][same] == batch["labels"][:, :1].expand_as(same)[same]).all()


# Metrics


def test_accuracy_of_classes() -> None:
    logits = torch.eye(3)[torch.tensor([0, 0, 0, 1])] * 9
    found = of_classes(logits, torch.tensor([0, 0, 1, 1]))
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["class_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    with pytest.raises(TrainingError, match="not finite"):
        of_classes(logits * torch.nan, torch.tensor([0, 0, 1, 1]))


def test_overlap_of_parts() -> None:
    parts = ((0, 1), (2, 3, 4))
    labels = torch.tensor([[0, 0, 1, 1], [2, 2, 3, 3]])
    guesses = torch.tensor([[0, 1, 1, 1], [2, 2, 3, 3]])
    matrices = cloud_confusion(guesses, labels, 5)
    found = of_parts(matrices, torch.tensor([0, 1]), parts)
    first = (1 / 2 + 2 / 3) / 2
    assert found["instance_miou"] == pytest.approx((first + 1) / 2)  # part 4 is neither there nor predicted: 1
    assert found["category_miou"] == pytest.approx((first + 1) / 2)
    assert found["point_accuracy"] == pytest.approx(7 / 8)
    three = of_parts(matrices[[0, 0, 1]], torch.tensor([0, 0, 1]), parts)
    assert three["instance_miou"] == pytest.approx((2 * first + 1) / 3)
    assert three["category_miou"] == pytest.approx((first + 1) / 2)
    scores = restricted(torch.tensor([[[9.0, 0, 1, 2, 3]]]), torch.tensor([1]), parts)
    assert int(scores.argmax()) == 4


def test_overlap_in_a_scene() -> None:
    matrix = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    found = of_scene(matrix, ("a", "b", "c"))
    assert found["miou"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert "iou/c" not in found


# Losses and models


def test_the_regulariser_reads_the_feature_transform() -> None:
    task = task_of()
    module = module_of(task, "task", "orthogonal_transform")
    batch = next(iter(task.train_loader()))
    inputs = module.loss_inputs(batch)
    (matrices,) = inputs.student.taps["transforms"]
    assert matrices.shape == (6, 8, 8)
    total, terms = module.hub(inputs)
    expected = (torch.eye(8) - matrices @ matrices.mT).norm(dim=(1, 2)).mean().detach()
    assert float(terms["orthogonal_transform"]) == pytest.approx(float(expected), rel=1e-5)
    total.backward()
    with pytest.raises(UsageError, match="no feature transform"):
        module_of(task_of({"options": {"width": 0.125, "transforms": False}}), "task", "orthogonal_transform")
    with pytest.raises(UsageError, match="no tap 'hidden'"):
        module_of(task, "task", "direction_matching_hidden")


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ({"name": "pointnet2", "options": {"width": 0.125, "most": 4}}, {}),
        ({"name": "dgcnn", "options": {"width": 0.125, "neighbours": 4}}, {"normals": True}),
        ({"options": {"width": 0.125}}, {"target": "parts"}),
        ({"options": {"width": 0.125}}, {"source": "rooms"}),
    ],
)
def test_a_model_is_rebuilt_from_its_record(model: dict[str, Any], data: dict[str, Any]) -> None:
    task = task_of(model, **data)
    network = task.build_model().eval()
    record = json.loads(json.dumps(task.architecture(network)))
    other = task.build_from(record).eval()
    other.load_state_dict(network.state_dict())
    x = task.example_inputs()
    assert torch.equal(other(x), network(x))
    assert torch.equal(task.build_model().eval()(x), network(x))
    with pytest.raises(CheckpointError, match="classes, and the data has"):
        task.build_from(record | {"classes": 77})
    with pytest.raises(CheckpointError, match="record of its model"):
        task.build_from({"name": "resnet"})


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ({"name": "dgcnn"}, {"target": "parts"}, "take pointnet"),
        ({"options": {"breadth": 2}}, {}, "breadth"),
        ({"options": {"pool": "sum"}}, {}, "kind is 'sum'"),
        ({"name": "dgcnn", "options": {"neighbours": 40}}, {}, "cannot take clouds of 32 points: 40 neighbours"),
    ],
)
def test_models_that_do_not_fit(model: dict[str, Any], data: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        task_of(model, **data).build_model()
    assert "\n" not in str(caught.value)


# Runs


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    recipe = recipe_of(train={"steps": 4, "checkpoint_every": 1})
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    run_recipe(recipe, folder, QUIET)
    return recipe, folder


@pytest.mark.parametrize("at", [0, 3])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(
    at: int, unbroken: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = unbroken
    expected = open_run(folder)[1].state_dict()
    steps = CloudModule.training_step

    def killed(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == at:
            raise StopError
        return steps(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(CloudModule, "training_step", killed)
        with pytest.raises(StopError):
            run_recipe(recipe, tmp_path, QUIET)
    monkeypatch.setattr("bnnapps.training.runner.refresh_report", lambda folder: None)  # as before, and slow
    run_recipe(recipe, tmp_path, QUIET, resume=True)
    found = open_run(tmp_path)[1].state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in found.items())
    recovered = [k for k in found if k.endswith("binary.output.calibrated")]
    assert len(recovered) == 16
    assert all(bool(found[k]) for k in recovered)


def test_the_report_draws_clouds_with_the_only_script_that_may_run(unbroken: tuple[Any, Path]) -> None:
    _, folder = unbroken
    page = (folder / "report.html").read_text()
    assert page.count("<canvas") == 10
    assert page.count("<script") == 1
    allowed = page.split("script-src ")[1].split(";")[0]
    text = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert allowed == f"'sha256-{digest}'"
    assert text == viewer_script()
    assert "http" not in text


def test_a_script_cannot_end_itself() -> None:
    with pytest.raises(UsageError, match="</script"):
        script_hash("let x = '</SCRIPT>'")


def test_the_viewer_holds_places_and_classes() -> None:
    points = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 4.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    page = cloud_viewer([points], [labels], {"net": torch.eye(2)[[0, 1, 0]][None]}, ("<a>", "b"))
    data = page.split('data-points="')[1].split('"')[0]
    places = np.frombuffer(base64.b64decode(data), np.int8).reshape(3, 3)
    assert places[:, 1].tolist() == [-114, -114, 114]
    marks = [base64.b64decode(p.split('"')[0]) for p in page.split('data-labels="')[1:]]
    assert [list(m) for m in marks] == [[0, 1, 1], [0, 1, 0]]
    assert "66.7% of points right" in page
    assert "&lt;a&gt;" in page
    assert "<a>" not in page


def test_a_run_is_opened_without_its_data(unbroken: tuple[Any, Path]) -> None:
    _, folder = unbroken
    task, model, _ = open_run(folder)
    assert task.classes[8] == "table"
    assert open_model(task, folder / "model.ckpt") is not model
    assert task.example_inputs().shape == (4, 32, 3)
