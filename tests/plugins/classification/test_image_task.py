from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from image_files import write_cifar10, write_folder, write_npz

from bnnapps.errors import CheckpointError, DataError, RecipeError, UsageError
from bnnapps.losses import LossHub, LossTerm
from bnnapps.plugins.classification.data import prepare_images
from bnnapps.plugins.classification.metrics import compute
from bnnapps.plugins.classification.pictures import confusion_picture, contact_sheet
from bnnapps.plugins.classification.task import ClassificationTask
from bnnapps.recipe.load import as_recipe
from bnnapps.recipe.schema import LossConfig, ResolvedStage
from bnnapps.training.checkpoint import save_model
from bnnapps.training.stages import open_model


def recipe_of(model: dict[str, Any] | None = None, **data: Any):
    settings = {"source": "textures", "train_size": 40, "dev_size": 20, "batch_size": 8, "eval_batch_size": 6}
    values = {
        "task": "classification",
        "data": settings | data,
        "model": {"name": "digits_cnn", "options": {"width": 4}} if model is None else model,
        "train": {"steps": 1},
    }
    return as_recipe(values, "here")


def task_of(model: dict[str, Any] | None = None, **data: Any) -> ClassificationTask:
    task = ClassificationTask(recipe_of(model, **data))
    task.prepare()
    return task


def stage(*losses: str) -> ResolvedStage:
    return ResolvedStage(name="s", binarize=None, width=None, steps=1, losses=[LossConfig(name=n) for n in losses])


def module_of(task: ClassificationTask, *losses: str, teacher: bool = False):
    torch.manual_seed(9)
    other = copy.deepcopy(task.build_model()) if teacher else None
    if other is not None:
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return task.make_module(task.build_model(), stage(*losses), LossHub([LossTerm(n) for n in losses]), other)


# Data


def test_the_data_are_described():
    assert task_of().describe() == {
        "data": "textures, ten classes of 32x32 colour images (generated)",
        "train": 40,
        "dev": 20,
        "classes": 10,
        "channels": 3,
        "size": 32,
    }


def test_without_a_size_textures_are_of_the_usual_number():
    assert (len(p := prepare_images(recipe_of(train_size=None, dev_size=None).data, 0).splits.train), p.shape) == (
        5000,
        (3, 32, 32),
    )


def test_statistics_are_those_of_the_training_set_unless_given(tmp_path):
    write_cifar10(tmp_path)
    settings = {"source": "cifar10", "root": str(tmp_path), "train_size": None, "dev_size": None}
    data = prepare_images(recipe_of(**settings).data, 0)
    pixels = data.splits.train.images.double() / 255
    assert data.normalize.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert data.normalize.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    data = prepare_images(recipe_of(**settings, mean=[0.5], std=[0.5]).data, 0)
    batch = data.normalize(data.splits.train.images)
    assert (float(batch.min()), float(batch.max())) == (-1.0, 1.0)
    with pytest.raises(DataError, match=r"data\.mean has 2 numbers, but the images have 3 channels"):
        prepare_images(recipe_of(**settings, mean=[0.5, 0.5], std=[0.5, 0.5]).data, 0)


def test_sizes_are_drawn_with_the_seed(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    settings = {"source": "npz", "root": str(path), "train_size": 6, "dev_size": 3, "batch_size": 3}
    one, two, other = (prepare_images(recipe_of(**settings).data, seed).splits.train.images for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert len(one) == 6


def test_images_are_brought_to_a_size_and_to_three_channels(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    settings = {"source": "npz", "root": str(path), "train_size": None, "dev_size": None, "size": 24, "channels": 3}
    data = prepare_images(recipe_of(**settings).data, 0)
    assert data.splits.train.shape == (3, 24, 24)
    images = data.splits.train.images
    assert torch.equal(images[:, 0], images[:, 2])
    assert (data.channels, data.size) == (3, 24)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "cifar10"}, r"data\.root must name the folder of the official batches"),
        ({"train_size": 1}, r"only 1 training image"),
        (
            {"train_size": 41},
            r"41 training images in batches of 8 leave a last batch of one image: set data.batch_size to 9",
        ),
        ({"channels": 1}, r"data\.channels is 1, but the images have 3"),
    ],
)
def test_data_that_cannot_be_trained_on(data, message):
    with pytest.raises(DataError, match=message):
        task_of(**data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"root": "x"}, "source is 'textures', which reads none"),
        ({"mean": [0.5]}, "give both of 'mean' and 'std'"),
        ({"mean": [0.5], "std": [0.0]}, "every number must be positive"),
        ({"mean": [0.5], "std": [0.1, 0.2]}, "mean has 1 numbers and std 2"),
        ({"augment": "imagenet"}, "augment 'imagenet' needs the whole files, but source is 'textures'"),
        ({"source": "folder", "root": "x", "cache": True, "augment": "imagenet"}, "but cache is true"),
        ({"source": "folder", "root": "x", "channels": 1}, "gives colour images"),
        ({"source": "folder", "root": "x", "cache": True, "workers": 2}, "workers has no use"),
        ({"lighting": 0.1}, "lighting and color_jitter belong to augment 'imagenet'"),
        ({"workers": 2}, "workers is for source 'folder'"),
        ({"skip_broken": True}, "skip_broken is for source 'folder'"),
        ({"mixup": 0.001}, "give 0 for none, or at least 0.01"),
        ({"augment": "flip"}, "key 'data.augment' is 'flip'"),
    ],
)
def test_a_recipe_whose_data_do_not_fit_together(data, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of(**data)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({}, "give exactly one of 'name', 'torchvision' and 'timm', not none"),
        ({"name": "resnet20", "timm": "resnet18"}, "not name and timm"),
        ({"name": "resnet20", "pretrained": True}, "pretrained is for torchvision and timm"),
        ({"timm": "resnet18", "pretrained": True, "checkpoint": "a"}, "give one of 'pretrained' and 'checkpoint'"),
        ({"name": "resnet20", "options": {"num_classes": 3}}, "'num_classes' is set by the task"),
    ],
)
def test_a_recipe_whose_model_does_not_fit_together(model, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of(model)


# Loaders


def test_a_resumed_epoch_repeats_its_augmentation_exactly():
    task = task_of(augment="flip_crop")
    whole = task.train_loader()
    whole.set_epoch(2)
    expected = list(whole)
    rest = task_of(augment="flip_crop").train_loader()
    rest.load_state_dict({"epoch": 2, "handed_out": 3})
    found = list(rest)
    assert len(found) == 2
    assert all(torch.equal(a["images"], b["images"]) for a, b in zip(found, expected[3:], strict=True))
    whole.set_epoch(3)
    assert not torch.equal(next(iter(whole))["images"], expected[0]["images"])


def test_processes_share_the_images_that_one_would_see():
    task = task_of(augment="crop", train_size=48)
    alone = task.train_loader()
    alone.set_epoch(1)
    expected = {tuple(x.flatten().tolist()) for b in alone for x in b["images"][:, :, ::8, ::8]}
    found = set()
    for rank in (0, 1):
        loader = task.train_loader()
        loader.shard(rank, 2)
        loader.set_epoch(1)
        found |= {tuple(x.flatten().tolist()) for b in loader for x in b["images"][:, :, ::8, ::8]}
    assert found == expected


def test_the_dev_set_is_never_changed():
    task = task_of(augment="flip_crop")
    (loader,) = task.dev_loaders()
    images = torch.cat([b["images"] for b in loader])
    assert torch.equal(task.normalize.undo(images), task.prepared.splits.dev.images)


# Models


@pytest.mark.parametrize(
    "model",
    [
        {"name": "digits_cnn"},
        {"name": "digits_resnet", "options": {"width": 8}},
        {"name": "resnet20", "options": {"stem_activation": "none"}},
        {"torchvision": "resnet18"},
        {"timm": "resnet18", "options": {"drop_rate": 0.1}},
    ],
)
def test_a_model_of_every_source_is_rebuilt_from_its_record(model, tmp_path):
    task = task_of(model)
    network = task.build_model()
    again = task.build_model()
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )
    record = json.loads(json.dumps(task.architecture(network)))
    save_model(network, tmp_path / "m.ckpt", architecture=record)
    opened = open_model(task, tmp_path / "m.ckpt").eval()
    inputs = task.example_inputs()
    assert torch.equal(network.eval()(inputs), opened(inputs))
    assert opened(inputs).shape == (4, 10)
    assert task.architecture(copy.deepcopy(opened)) == record
    assert task.architecture(pickle.loads(pickle.dumps(opened))) == record


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ({"name": "resnet2"}, {}, r"model\.name: .*unknown model 'resnet2'; the nearest are 'resnet20'"),
        ({"name": "digits_cnn", "options": {"widht": 3}}, {}, r"model\.name 'digits_cnn' with options .*'widht'"),
        ({"torchvision": "resnet81"}, {}, r"model\.torchvision: torchvision has no 'resnet81'"),
        ({"torchvision": "resnet18", "options": {"depth": 3}}, {}, r"model\.torchvision 'resnet18' with options"),
        ({"timm": "resnet81"}, {}, r"model\.timm: timm has no 'resnet81'"),
        ({"timm": "vit_tiny_patch16_224"}, {}, r"cannot take images of 32x32 with 3 channels"),
        ({"torchvision": "resnet18"}, {"source": "digits"}, r"images have 1 channel, and torchvision's models take 3"),
    ],
)
def test_a_model_that_cannot_be_built(model, data, message):
    with pytest.raises(RecipeError, match=message) as caught:
        task_of(model, **data).build_model()
    assert "\n" not in str(caught.value)


def test_weights_of_a_file_are_the_start(tmp_path):
    task = task_of()
    state = {
        f"module.{k}": torch.randn_like(v) if v.is_floating_point() else v
        for k, v in task.build_model().state_dict().items()
    }
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pt")
    model = {"name": "digits_cnn", "options": {"width": 4}, "checkpoint": str(tmp_path / "w.pt")}
    found = task_of(model).build_model().state_dict()
    assert all(torch.equal(state[f"module.{k}"], v) for k, v in found.items())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("0.weight"), r"has no tensor '0\.weight', which the model has"),
        (lambda s: s.update({"0.weight": torch.zeros(3)}), r"'0\.weight' is \(3,\), in the model \(4, 3, 3, 3\)"),
        (lambda s: s.update({"more": torch.zeros(3)}), r"has the tensor 'more', which the model does not have"),
        (lambda s: s.update({"0.weight": "text"}), r"'0\.weight' is str"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, spoil, message):
    state = task_of().build_model().state_dict()
    spoil(state)
    torch.save(dict(state), tmp_path / "w.pt")
    model = {"name": "digits_cnn", "options": {"width": 4}, "checkpoint": str(tmp_path / "w.pt")}
    with pytest.raises(CheckpointError, match=message):
        task_of(model).build_model()


def test_a_record_of_other_classes_or_of_another_task_is_refused():
    task = task_of()
    record = task.architecture(task.build_model())
    with pytest.raises(CheckpointError, match="has outputs for 7 classes, and the data has 10"):
        task.build_from(record | {"classes": 7})
    for other in ({}, {"config": {}, "width": 1.0}):
        with pytest.raises(CheckpointError, match="is not of the task 'classification'"):
            task.build_from(other)


def test_a_teacher_by_name_has_weights_from_somewhere(tmp_path):
    task = task_of()
    with pytest.raises(RecipeError, match=r"has random weights: set 'pretrained' to true, or 'checkpoint'"):
        task.named_teacher({"torchvision": "resnet18"})
    with pytest.raises(RecipeError, match=r"train\.teacher: unknown key 'torchvison'"):
        task.named_teacher({"torchvison": "resnet18"})
    torch.save(task.build_model().state_dict(), tmp_path / "w.pt")
    spec = {"name": "digits_cnn", "options": {"width": 4}, "checkpoint": str(tmp_path / "w.pt")}
    state = task.named_teacher(spec).state_dict()
    assert all(torch.equal(v, state[k]) for k, v in task.build_model().state_dict().items())


# Training


def test_the_module_learns_from_labels_and_teacher():
    task = task_of({"name": "digits_resnet", "options": {"width": 4}})
    losses = ("task", "soft_cross_entropy", "attention_map", "squared_hinge")
    module = module_of(task, *losses, teacher=True).train()
    inputs = module.loss_inputs(next(iter(task.train_loader())))
    assert [tuple(t.shape) for t in inputs.student.taps["stages"]] == [(8, 4, 8, 8), (8, 8, 4, 4)]
    total, terms = module.hub(inputs)
    assert terms.keys() == set(losses)
    assert float(terms["task"]) == pytest.approx(float(F.cross_entropy(inputs.student.logits.detach(), inputs.labels)))
    total.backward()
    assert all(p.grad is not None for p in module.model.parameters())
    assert all(not p.requires_grad for p in module.teacher.parameters())
    assert all(k.startswith("model.") for k in module.state_dict())
    module.on_fit_end()
    assert not any(m._forward_hooks for n in (module.model, module.teacher) for m in n.modules())


def test_a_network_without_stages_has_no_attention_maps():
    with pytest.raises(UsageError, match="has no stages that a loss on attention maps could compare"):
        module_of(task_of(), "attention_map", teacher=True)


def test_mixup_mixes_in_training_alone():
    task = task_of(mixup=1.0)
    module = module_of(task, "task").train()
    batch = next(iter(task.train_loader()))
    torch.manual_seed(1)
    mixed = module.loss_inputs(batch)
    assert mixed.labels.shape == (8, 10)
    expected = -(mixed.labels * mixed.student.logits.log_softmax(1)).sum(1).mean()
    assert float(module.hub(mixed)[0]) == pytest.approx(float(expected), rel=1e-5)
    torch.manual_seed(1)
    assert torch.equal(module.loss_inputs(batch).labels, mixed.labels)
    assert torch.equal(module.eval().loss_inputs(batch).labels, batch["labels"])
    with pytest.raises(RecipeError, match="mixes labels, which the loss 'squared_hinge' cannot read"):
        module_of(task, "squared_hinge")


def test_metrics_are_of_the_whole_dev_set():
    logits = torch.tensor([[3.0, 0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0]])
    labels = torch.tensor([0, 2, 6])
    found = compute(logits, labels)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["accuracy_top5"] == pytest.approx(2 / 3)
    assert found["loss"] == pytest.approx(float(F.cross_entropy(logits, labels)))
    assert compute(logits[:, :3], torch.tensor([0, 2, 0])).keys() == {"accuracy", "loss"}


# The run folder


def test_a_run_is_opened_again_without_its_data(tmp_path):
    root = write_folder(tmp_path / "set")
    settings = {"source": "folder", "root": str(root), "size": 16, "train_size": None, "dev_size": None}
    task = task_of(**settings)
    task.save_assets(tmp_path / "assets")
    (root / "train").rename(tmp_path / "gone")
    other = ClassificationTask(recipe_of(**settings))
    other.load_assets(tmp_path / "assets")
    assert torch.equal(other.example_inputs(), task.example_inputs())
    assert other.classes == ("apple", "bear", "cat")
    record = task.architecture(task.build_model())
    assert other.build_from(record)(other.example_inputs()).shape == (4, 3)
    facts = json.loads((tmp_path / "assets" / "task.json").read_text())
    assert (facts["channels"], facts["height"], facts["width"]) == (3, 16, 16)


def test_damaged_assets_are_named(tmp_path):
    task = task_of()
    task.save_assets(tmp_path)
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(UsageError, match=r"task\.json cannot be read"):
        task.load_assets(tmp_path)


# Pictures


def test_the_contact_sheet_shows_the_surest_errors_first():
    torch.manual_seed(0)
    logits = torch.randn(60, 3)
    labels = torch.randint(0, 3, (60,))
    images = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8)
    page = contact_sheet(images, logits, labels, ["<a>", "b", "c"])
    wrong = int((logits.argmax(1) != labels).sum())
    assert f"<p>{wrong} of 60 dev images are classified wrongly; here are the 24" in page
    assert page.count("<img ") == 24
    assert "&lt;a&gt;" in page
    assert "<a>" not in page
    shares = [int(part.split("%")[0].split()[-1]) for part in page.split("</figcaption>")[:-1]]
    assert shares == sorted(shares, reverse=True)
    assert "0 of 60 dev images are classified wrongly.</p>" in contact_sheet(
        images, F.one_hot(labels, 3) * 9.0, labels, "abc"
    )


def test_the_confusion_matrix_counts_every_image():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    guesses = torch.tensor([0, 1, 1, 1, 2, 0])
    page = confusion_picture(F.one_hot(guesses, 3).float(), labels, ["cat", "dog", "cow"])
    assert page.count("<svg") == 1
    assert all(name in page for name in ("cat", "dog", "cow", "prediction"))


def test_many_classes_give_a_table_of_the_pairs_confused_most():
    labels = torch.tensor([3, 3, 3, 7, 8])
    guesses = torch.tensor([5, 5, 3, 9, 8])
    names = [f"class{i}" for i in range(30)]
    page = confusion_picture(F.one_hot(guesses, 30).float(), labels, names)
    assert page.index("<td>class3</td><td>class5</td><td>2 of 3</td>") < page.index("<td>class7</td><td>class9</td>")
    assert page.count("<tr>") == 3
    assert confusion_picture(F.one_hot(labels, 30).float(), labels, names) == "<p>No class is taken for another.</p>"
