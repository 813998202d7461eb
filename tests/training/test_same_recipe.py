from __future__ import annotations

import pytest
from rich.console import Console

from bnnapps.errors import UsageError
from bnnapps.recipe.load import as_recipe
from bnnapps.training.folder import RunFolder
from bnnapps.training.module import BinaryModule
from bnnapps.training.runner import read_run_recipe, run_recipe
from bnnapps.training.same_recipe import check_same, recipe_changes


def test_each_key_that_differs_is_named() -> None:
    before = {"a": 1, "b": {"c": [1, 2], "d": None}, "stages": [{"name": "x", "lr": 1.0}, {"name": "y"}], "e": {}}
    after = {"a": 1, "b": {"c": [1, 3], "d": "f"}, "stages": [{"name": "x", "lr": 2.0}, {"name": "z"}], "e": {"g": 1}}
    assert list(recipe_changes(before, after)) == [
        "b.c.1 was 2, is 3",
        "b.d was null, is 'f'",
        "stages.x.lr was 1.0, is 2.0",
        "stages.y is gone",
        "stages.z is new",
        "e.g is new",
    ]
    assert list(recipe_changes(before, before)) == []
    assert list(recipe_changes({"a": "x" * 99}, {"a": 0})) == [f"a was '{'x' * 56}..., is 0"]


def test_only_some_are_shown_and_exports_are_free() -> None:
    with pytest.raises(UsageError, match=r"of another recipe: k0 was 0, is 1; .*k4 was 0, is 1; and 3 more\. Resume"):
        check_same({f"k{i}": 0 for i in range(8)}, {f"k{i}": 1 for i in range(8)}, "it is")
    check_same({"export": {"dialects": []}, "seed": 1}, {"export": {"dialects": ["packed"]}, "seed": 1}, "it is")


def recipe(**train: object):
    return as_recipe({"task": "toy", "train": {"epochs": 2} | train}, "here")


class KilledError(BaseException):
    pass


def killed_run(folder, console: Console, monkeypatch) -> None:
    original, seen = BinaryModule.on_train_batch_end, []

    def end(self, *args):
        original(self, *args)
        seen.append(1)
        if len(seen) == 15:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(BinaryModule, "on_train_batch_end", end)
        with pytest.raises(KilledError):
            run_recipe(recipe(), folder, console)


def test_another_recipe_is_refused_with_its_keys(tmp_path, console, monkeypatch):
    killed_run(tmp_path / "run", console, monkeypatch)
    with pytest.raises(UsageError, match=r"holds a run of another recipe: train\.epochs was 2, is 3\. Resume"):
        run_recipe(recipe(epochs=3), tmp_path / "run", console, resume=True)


def test_a_recipe_that_was_changed_in_the_run_folder_is_refused_too(tmp_path, console, monkeypatch):
    killed_run(tmp_path / "run", console, monkeypatch)
    file = tmp_path / "run" / "recipe.yaml"
    text = file.read_text()
    file.write_text(text.replace("lr: 0.0001", "lr: 0.5"))
    changed = read_run_recipe(RunFolder(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"last\.ckpt is of another recipe: train\.lr was 0\.0001, is 0\.5"):
        run_recipe(changed, tmp_path / "run", console, resume=True)
    file.write_text(text)
    run_recipe(recipe(), tmp_path / "run", console, resume=True)
