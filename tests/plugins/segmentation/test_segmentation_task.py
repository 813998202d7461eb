"""The task on one recipe: models and their records, losses, the report, a killed run, bad checkpoints."""

from __future__ import annotations

import copy
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from segmentation_files import write_camvid

import bnnapps
from bnnapps.errors import CheckpointError, RecipeError, UsageError
from bnnapps.losses import LossHub, LossTerm
from bnnapps.plugins.segmentation.pictures import class_table, colours_of, confusion_picture, overlaid, overlay_sheet
from bnnapps.plugins.segmentation.task import SegmentationTask
from bnnapps.recipe.load import as_recipe
from bnnapps.recipe.schema import LossConfig, ResolvedStage
from bnnapps.training.checkpoint import save_model
from bnnapps.training.runner import open_run, run_recipe
from bnnapps.training.stages import open_model

SMALL = {"train_size": 6, "dev_size": 5, "batch_size": 3, "eval_batch_size": 2, "size": [32, 48]}
NET = {"backbone": "small_resnet", "options": {"width": 8}, "output_stride": 16}
QUIET = Console(file=io.StringIO())


def recipe_of(model: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **data: Any) -> Any:
    values = {
        "task": "segmentation",
        "data": SMALL | data,
        "model": NET if model is None else model,
        "train": {"steps": 2} if train is None else train,
        "binarize": {"method": "groupnet", "overrides": {"bases": 2}},
    }
    return as_recipe(values, "here")


def task_of(model: dict[str, Any] | None = None, **data: Any) -> SegmentationTask:
    task = SegmentationTask(recipe_of(model, **data))
    task.prepare()
    return task


def module_of(task: SegmentationTask, *losses: str, teacher: bool = False, **more: Any) -> Any:
    other = copy.deepcopy(task.build_model()) if teacher else None
    if other is not None:
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    stage = ResolvedStage(
        name="s", binarize=None, width=None, steps=1, losses=[LossConfig(name=n) for n in losses], **more
    )
    return task.make_module(task.build_model(), stage, LossHub([LossTerm(n) for n in losses]), other)


def test_the_data_are_described() -> None:
    assert task_of(only="road").describe() == {
        "data": "synthetic_road, scenes of 32x48 (generated), road or not",
        "train": 6,
        "dev": 5,
        "classes": 2,
        "size": "32x48",
    }


@pytest.mark.parametrize(
    "model", [NET, {"name": "dadnet", "options": {"width": 4}}, {"torchvision": "lraspp_mobilenet_v3_large"}]
)
def test_a_model_is_rebuilt_from_its_record(model: dict[str, Any], tmp_path: Path) -> None:
    task = task_of(model)
    network, again = task.build_model().eval(), task.build_model().eval()
    x = task.example_inputs()
    expected = network(x)
    assert torch.equal(again(x), expected)
    path = tmp_path / "model.ckpt"
    save_model(network, path, architecture=task.architecture(network), task="segmentation")
    assert torch.equal(open_model(task, path).eval()(x), expected)


def test_a_record_of_another_task_or_other_classes_is_refused() -> None:
    task = task_of()
    record = task.architecture(task.build_model())
    with pytest.raises(CheckpointError, match="outputs for 7 classes, and the data has 3"):
        task.build_from(record | {"classes": 7})
    with pytest.raises(CheckpointError, match="not of the task 'segmentation'"):
        task.build_from({"name": "resnet18"})


# Losses


def test_the_loss_counts_the_pixels_that_are_not_ignored() -> None:
    task = task_of()
    module = module_of(task, "task")
    batch = next(iter(task.train_loader()))
    batch["masks"][:, :10] = 255
    loss, _ = module.hub(module.loss_inputs(batch))
    expected = F.cross_entropy(module.model(batch["images"]), batch["masks"], ignore_index=255)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_a_student_learns_from_the_logits_and_maps_of_a_teacher() -> None:
    task = task_of()
    module = module_of(task, "soft_cross_entropy", "attention_map", teacher=True)
    total, parts = module.hub(module.loss_inputs(next(iter(task.train_loader()))))
    assert set(parts) == {"soft_cross_entropy", "attention_map"}
    assert float(parts["attention_map"]) > 0
    total.backward()
    assert all(p.grad is None for p in module.teacher.parameters())
    assert any(bool(p.grad.any()) for p in module.model.parameters() if p.grad is not None)


def test_losses_that_a_network_has_nothing_for_are_refused() -> None:
    with pytest.raises(UsageError, match="DADNet has no stages"):
        module_of(task_of({"name": "dadnet", "options": {"width": 4}}), "attention_map", teacher=True)


def test_the_metrics_are_those_of_the_whole_dev_set() -> None:
    task = task_of()
    module = module_of(task, "task").eval()
    (loader,) = task.dev_loaders()
    with torch.no_grad():
        pairs = [module.predict(batch) for batch in loader]
    found = module.metrics(torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]), 0)
    data = task.prepared.splits.dev
    with torch.no_grad():
        logits = module.model(task.normalize(data.images))
    guess, truth = logits.argmax(1), data.masks.long()
    assert found["pixel_accuracy"] == pytest.approx(float((guess == truth).float().mean()))
    assert found["loss"] == pytest.approx(float(F.cross_entropy(logits, truth)), rel=1e-5)
    overlap = [float(((guess == c) & (truth == c)).sum() / ((guess == c) | (truth == c)).sum()) for c in truth.unique()]
    assert found["miou"] == pytest.approx(sum(overlap) / len(overlap))


def test_channels_last_computes_the_same() -> None:
    plain, last = task_of(), task_of(NET | {"channels_last": True})
    batch = next(iter(plain.train_loader()))
    one, two = (module_of(t, "task").eval().predict(batch) for t in (plain, last))
    assert torch.allclose(one[1], two[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"backbone": "small_resnet"}, "has random weights: set 'checkpoint' to a file"),
        ({"backbone": "small_resnet", "size": 3}, "unknown key 'size'"),
    ],
)
def test_teachers_without_weights_are_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        task_of().named_teacher(spec)


def test_a_teacher_of_a_file(tmp_path: Path) -> None:
    task = task_of()
    torch.manual_seed(11)
    network = task.build_model()
    with torch.no_grad():
        network.head.scores[0].weight.normal_()
    torch.save(network.state_dict(), tmp_path / "teacher.pt")
    teacher = task.named_teacher(NET | {"checkpoint": str(tmp_path / "teacher.pt")})
    assert torch.equal(teacher.head.scores[0].weight, network.head.scores[0].weight)


# A whole run


TWO_STAGES = {"steps": 2, "stages": [{"name": "float", "binarize": False}, {"name": "binary", "init": "float"}]}


def test_a_run_shows_masks_of_both_networks(tmp_path: Path, monkeypatch: Any) -> None:
    recipe = recipe_of(train=TWO_STAGES)
    result = run_recipe(recipe, tmp_path / "run", QUIET)
    assert [s["stage"] for s in result["stages"]] == ["float", "binary"]
    assert {"miou", "pixel_accuracy", "loss", "iou/road"} <= result["stages"][1]["metrics"].keys()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for text in ("Masks, from the worst dev image to the best", "Overlap of each class", "Confusion of pixels"):
        assert text in page
    assert re.search(r"float, \d+\.\d% of pixels right", page)
    assert re.search(r"binary, \d+\.\d% of pixels right", page)
    task, model, _ = open_run(tmp_path / "run")
    assert bnnapps.is_binarized(model)
    assert task.example_inputs().shape == (4, 3, 32, 48)
    facts = json.loads((tmp_path / "run" / "assets" / "task.json").read_text())
    assert (facts["classes"], facts["ignore"], facts["height"]) == (["rest", "road", "car"], 255, 32)
    monkeypatch.setattr("bnnapps.training.runner.refresh_report", lambda folder: None)  # as before, and slow
    second = run_recipe(recipe, tmp_path / "again", QUIET)
    other = open_run(tmp_path / "again")[1]
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    assert second["stages"][1]["metrics"] == result["stages"][1]["metrics"]


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, torch.Tensor]]:
    """A recipe, and the weights that it ends with."""
    folder = tmp_path_factory.mktemp("unbroken")
    recipe = recipe_of(train={"steps": 4, "checkpoint_every": 1}, augment="scale_crop", crop=[32, 32], color_jitter=0.1)
    run_recipe(recipe, folder, QUIET)
    return recipe, open_run(folder)[1].state_dict()


@pytest.mark.parametrize("at", [3])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(
    at: int, unbroken: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    recipe, expected = unbroken
    from bnnapps.plugins.segmentation.module import SegmentationModule

    steps = SegmentationModule.training_step

    def killed(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == at:
            raise StopError
        return steps(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, "training_step", killed)
        with pytest.raises(StopError):
            run_recipe(recipe, tmp_path, QUIET)
    monkeypatch.setattr("bnnapps.training.runner.refresh_report", lambda folder: None)  # as before, and slow
    run_recipe(recipe, tmp_path, QUIET, resume=True)
    found = open_run(tmp_path)[1].state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in found.items())


def test_a_run_on_files(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("bnnapps.training.runner.refresh_report", lambda folder: None)  # as above, and slow
    root = write_camvid(tmp_path / "camvid")
    recipe = recipe_of(
        source="camvid", root=str(root), train_size=None, dev_size=None, batch_size=2, cache=False, workers=1
    )
    result = run_recipe(recipe, tmp_path / "run", QUIET)
    assert result["data"]["data"] == "CamVid, 11 classes (real)"
    assert "iou/bicyclist" in result["stages"][0]["metrics"]


# Pictures


def test_colours_differ_and_a_background_is_dark() -> None:
    found = colours_of(["background", *map(str, range(20))])
    assert len({tuple(c) for c in found.tolist()}) == 21
    assert found[0].max() < 60
    assert colours_of(["sky", "road"])[0].max() > 100


def test_an_overlay_mixes_the_colour_of_each_class() -> None:
    image = torch.full((3, 2, 2), 100, dtype=torch.uint8)
    mask = torch.tensor([[0, 1], [255, 1]], dtype=torch.uint8)
    colours = colours_of(["rest", "road"])
    found = overlaid(image, mask, colours)
    for (row, column), paint in (((0, 0), colours[0]), ((0, 1), colours[1]), ((1, 0), [235] * 3)):
        assert found[row, column].tolist() == [round(0.4 * 100 + 0.6 * int(v)) for v in paint]


def test_the_sheet_escapes_names_and_keeps_large_images_small() -> None:
    image = torch.zeros(3, 600, 960, dtype=torch.uint8)
    mask = torch.zeros(600, 960, dtype=torch.uint8)
    mask[300:] = 1
    sheet = overlay_sheet([image], [mask], {"binary": [mask.long()]}, ["rest", "<b>road"])
    assert "<b>road" not in sheet
    assert "&lt;b&gt;road" in sheet
    assert "100.0% of pixels right" in sheet
    assert sheet.count("<img") == 3
    assert len(sheet) < 100_000


def test_the_table_has_each_class() -> None:
    matrix = torch.tensor([[8, 2, 0], [0, 10, 0], [0, 0, 0]])
    found = class_table(matrix, ["sky", "road", "car"], 7)
    assert "80.0%" in found  # sky: 8 of 10 found
    assert "83.3%" in found  # road: 10 of the 12 that were called so
    assert "not in the dev masks" in found
    assert "Mean IoU 81.7%, pixel accuracy 90.0%, over 7 dev images." in found  # of 8/10 and 10/12
    assert confusion_picture(torch.zeros(30, 30), [str(i) for i in range(30)]) == ""
    assert "<svg" in confusion_picture(matrix, ["sky", "road", "car"])
