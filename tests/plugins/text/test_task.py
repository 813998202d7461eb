from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import matthews_corrcoef
from torch import Tensor

from bnnapps.errors import CheckpointError, RecipeError
from bnnapps.losses import LossHub, LossTerm
from bnnapps.plugins.text.task import TextTask
from bnnapps.recipe.load import as_recipe
from bnnapps.recipe.schema import LossConfig, ResolvedStage
from bnnapps.training.checkpoint import save_model
from bnnapps.training.stages import open_model

CONFIG = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}


def task_of(name: str = "sst2", prepare: bool = True, **data: Any) -> TextTask:
    settings = {"task": name, "train_size": 40, "dev_size": 23, "max_length": 40, "batch_size": 8, "eval_batch_size": 5}
    values = {
        "task": "text",
        "data": settings | data,
        "model": {"config": CONFIG, "vocab_size": 300},
        "train": {"steps": 1},
    }
    task = TextTask(as_recipe(values, "here"))
    if prepare:
        task.prepare()
    return task


def stage(*losses: str) -> ResolvedStage:
    return ResolvedStage(
        name="s", binarize=None, width=None, steps=1, losses=[LossConfig(name=n) for n in losses or ("task",)]
    )


def module_of(task: TextTask, *losses: str, teacher: bool = False):
    hub = LossHub([LossTerm(name) for name in losses or ("task",)])
    model = task.build_model()
    other = None
    if teacher:
        torch.manual_seed(9)
        other = task.build_model()
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return task.make_module(model, stage(*losses), hub, other)


def evaluate(module, task: TextTask) -> tuple[dict[str, float], list[list[dict[str, float]]]]:
    """The metrics over each whole dev set, and those of each batch alone."""
    module.eval()
    parts: list[list[dict[str, float]]] = []
    module.on_validation_epoch_start()
    with torch.no_grad():
        for number, loader in enumerate(task.dev_loaders()):
            parts.append([])
            for index, batch in enumerate(loader):
                module.validation_step(batch, index, number)
                outputs, labels = module.predict(batch)
                parts[-1].append(dict(module.metrics(outputs, labels, 0)))
    return module.collected_metrics(), parts


def test_a_metric_is_that_of_the_whole_dev_set():
    task = task_of("cola")
    module = module_of(task)
    with torch.no_grad():
        module.model.bert.embeddings.word_embeddings.weight.mul_(50)
        outputs = torch.cat([module.eval().predict(batch)[0] for batch in task.dev_loaders()[0]])
        module.model.classifier.bias.sub_(outputs.median(dim=0).values)  # so that both classes are guessed
    found, parts = evaluate(module, task)
    guesses, labels = [], []
    for batch in task.dev_loaders()[0]:
        outputs, truth = module.predict(batch)
        guesses += outputs.argmax(-1).tolist()
        labels += truth.tolist()
    assert len(labels) == 23
    assert len(set(guesses)) == 2
    assert found == {"dev/matthews_correlation": pytest.approx(matthews_corrcoef(labels, guesses), abs=1e-6)}
    mean = sum(p["matthews_correlation"] for p in parts[0]) / len(parts[0])
    assert abs(mean - found["dev/matthews_correlation"]) > 1e-3
    assert task.monitor == "dev/matthews_correlation"


def test_mnli_has_two_dev_sets_and_is_chosen_by_the_matched_one():
    task = task_of("mnli")
    found, _ = evaluate(module_of(task), task)
    assert found.keys() == {"dev/accuracy", "dev/accuracy_mismatched"}
    assert task.monitor == "dev/accuracy"
    assert task.describe() == {"data": "miniglue mnli (generated)", "train": 40, "dev": 46}
    matched, mismatched = (torch.cat([b["input_ids"].reshape(-1) for b in loader]) for loader in task.dev_loaders())
    assert matched.tolist() != mismatched.tolist()
    assert task.build_model().config.num_labels == 3


def test_a_later_evaluation_forgets_the_earlier_one():
    task = task_of()
    module = module_of(task)
    assert evaluate(module, task)[0] == evaluate(module, task)[0]
    assert len(module._predictions) == 5


def test_stsb_is_a_regression():
    task = task_of("stsb")
    module = module_of(task, "task", "logits", teacher=True)
    batch = next(iter(task.train_loader()))
    assert batch["labels"].dtype == torch.float
    inputs = module.eval().loss_inputs(batch)
    assert inputs.task == "regression"
    assert inputs.student.logits.shape == (8, 1)
    _, terms = module.hub(inputs)
    with torch.no_grad():
        student, teacher = (
            m(**{k: v for k, v in batch.items() if k != "labels"}).logits for m in (module.model, module.teacher)
        )
    assert float(terms["task"]) == pytest.approx(float(((student[:, 0] - batch["labels"]) ** 2).mean()), rel=1e-5)
    assert float(terms["logits"]) == pytest.approx(float(((student - teacher) ** 2).mean()), rel=1e-5)
    found, _ = evaluate(module, task)
    assert found.keys() == {"dev/pearson", "dev/spearman", "dev/pearson_spearman"}
    assert task.monitor == "dev/pearson_spearman"


def padded(batch: dict[str, Tensor], more: int) -> dict[str, Tensor]:
    """The batch with more padding, and other tokens in it."""
    found = {k: F.pad(v, (0, more)) if v.dim() == 2 else v for k, v in batch.items()}
    found["input_ids"] = torch.where(found["attention_mask"] == 1, found["input_ids"], 7)
    return found


@pytest.mark.parametrize(
    ("loss", "more"), [("attention_score_mse", 0), ("logits", 0), ("logits", 6), ("task", 0), ("task", 6)]
)
def test_what_stands_in_the_padding_does_not_count(loss, more):
    task = task_of("rte")
    module = module_of(task, loss, teacher=True).eval()
    batch = next(iter(task.train_loader()))
    other = padded(batch, more)
    inputs, others = module.loss_inputs(batch), module.loss_inputs(other)
    assert others.mask is other["attention_mask"]
    assert not bool(inputs.mask.all())
    value = float(module.hub(inputs)[0])
    assert float(module.hub(others)[0]) == pytest.approx(value, rel=1e-5)
    if loss == "attention_score_mse":  # without the mask it does count
        first, second = (float(module.hub(dataclasses.replace(i, mask=None))[0]) for i in (inputs, others))
        assert first != pytest.approx(second, rel=1e-5)


def test_the_teacher_is_frozen_and_no_part_of_the_module():
    task = task_of()
    module = module_of(task, "hidden_mse", "logits", teacher=True)
    before = copy.deepcopy(module.teacher.state_dict())
    module.train()
    total, _ = module.hub(module.loss_inputs(next(iter(task.train_loader()))))
    total.backward()
    assert module.model.training
    assert not any(m.training for m in module.teacher.modules())
    assert all(not p.requires_grad and p.grad is None for p in module.teacher.parameters())
    assert all(p.grad is not None for p in module.model.bert.encoder.parameters())
    assert all(k.startswith("model.") for k in module.state_dict())
    assert len(list(module.parameters())) == len(list(module.model.parameters()))
    assert all(torch.equal(before[k], v) for k, v in module.teacher.state_dict().items())


def test_taps_are_taken_off_at_the_end():
    task = task_of()
    module = module_of(task, "hidden_mse", teacher=True)
    hooks = [len(m._forward_hooks) for n in (module.model, module.teacher) for m in n.modules()]
    assert sum(hooks) > 0
    module.on_fit_end()
    assert not any(m._forward_hooks for n in (module.model, module.teacher) for m in n.modules())


def test_a_loss_without_taps_watches_nothing():
    module = module_of(task_of())
    inputs = module.loss_inputs(next(iter(task_of().train_loader())))
    assert inputs.student.taps == {}
    assert inputs.teacher is None


@pytest.mark.parametrize("name", ["sst2", "rte", "mnli", "stsb"])
def test_example_inputs_are_what_the_model_takes(name):
    task = task_of(name)
    inputs = task.example_inputs()
    assert set(inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    assert {len(v) for v in inputs.values()} == {4}
    model = task.build_model().eval()
    assert model(**inputs).logits.shape == (4, 1 if name == "stsb" else (3 if name == "mnli" else 2))


def test_a_run_opened_without_its_data_has_example_inputs_too(tmp_path):
    task = task_of()
    task.save_assets(tmp_path / "assets")
    other = task_of(prepare=False)
    other.load_assets(tmp_path / "assets")
    inputs = other.example_inputs()
    assert {k: v.tolist() for k, v in inputs.items()} == {k: v.tolist() for k, v in task.example_inputs().items()}
    assert other._splits is None
    assert other.tokenizer.get_vocab() == task.tokenizer.get_vocab()
    assert task.build_model().eval()(**inputs).logits.shape == (4, 2)


def test_a_checkpoint_brings_back_a_narrowed_model(tmp_path):
    task = task_of()
    model = task.narrow(task.build_model(), 0.5)
    save_model(model, tmp_path / "m.ckpt", architecture=task.architecture(model))
    again = open_model(task, tmp_path / "m.ckpt")
    one, other = model.state_dict(), again.state_dict()
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert task.architecture(again)["width"] == 0.5
    inputs = task.example_inputs()
    assert torch.equal(model.eval()(**inputs).logits, again.eval()(**inputs).logits)


@pytest.mark.parametrize("record", [{}, {"config": 3, "width": 1.0}, {"config": {"model_type": "bert"}}])
def test_a_record_of_another_task_is_refused(record):
    with pytest.raises(CheckpointError, match="it is of another task"):
        task_of().build_from(record)


def test_texts_longer_than_the_model_takes_are_refused_before_training():
    task = task_of(max_length=41)
    with pytest.raises(RecipeError, match=r"data\.max_length is 41, but the model takes at most 40 tokens"):
        task.build_model()


def test_the_order_of_the_data_follows_from_the_seed():
    def first(task: TextTask) -> list[list[int]]:
        return next(b["input_ids"].tolist() for b in task.train_loader())

    assert first(task_of()) == first(task_of())


def test_the_report_shows_wrong_predictions_first():
    task = task_of(dev_size=30)
    (section,) = task.sections(task.build_model(), None)  # type: ignore[arg-type]
    assert section.title == "Dev examples"
    rows = [part.split("'")[1] for part in section.html.split("<tr class=")[1:]]
    assert len(rows) == 20
    assert rows == sorted(rows, reverse=True)  # "wrong" before "right"
